"""The topics of the local stack, under their default names.

An existing stack is brought up to date: topics that are missing are created, and the configuration
of the topics of outcomes is set if it differs. Earlier versions created two of them otherwise.
No partition count is changed.
"""

from dataclasses import replace

from workers.local.state import Report
from workers.settings import SETTINGS
from workers.streaming.topic_plans import DEFAULT_PARTITIONS, outcome_plans, ranking_plans
from workers.streaming.topics import (
    JoinTopics,
    TopicPlan,
    UsersTopics,
    WorkerTopics,
    create_topics,
    describe_topics,
    update_topic_config,
)

_CANDIDATES = str(SETTINGS["topic_candidates"].default)
_FEEDS = str(SETTINGS["topic_feeds"].default)
_DEAD_LETTERS = str(SETTINGS["topic_dead_letters"].default)
_INTERACTIONS = str(SETTINGS["topic_interactions"].default)
_INTERACTION_LETTERS = str(SETTINGS["topic_interaction_letters"].default)
_REQUEST_OUTCOMES = str(SETTINGS["topic_request_outcomes"].default)
_FEED_OUTCOMES = str(SETTINGS["topic_feed_outcomes"].default)
_USER_OUTCOMES = str(SETTINGS["topic_user_outcomes"].default)
_USER_CHANGELOG = str(SETTINGS["topic_user_changelog"].default)


def stack_topics(partitions: int) -> tuple[TopicPlan, ...]:
    """The plan of every topic. `partitions` is the number that candidates have."""
    return (
        *_ranking_topics(partitions),
        *_outcome_topics(partitions, request_partitions=DEFAULT_PARTITIONS),
    )


def _ranking_topics(partitions: int) -> tuple[TopicPlan, ...]:
    return ranking_plans(WorkerTopics(_CANDIDATES, _FEEDS, _DEAD_LETTERS), partitions)


def _outcome_topics(partitions: int, request_partitions: int) -> tuple[TopicPlan, ...]:
    return outcome_plans(
        JoinTopics(_INTERACTIONS, _INTERACTION_LETTERS, _REQUEST_OUTCOMES, _FEED_OUTCOMES),
        UsersTopics(_REQUEST_OUTCOMES, _USER_OUTCOMES, _USER_CHANGELOG),
        partitions=partitions,
        request_partitions=request_partitions,
    )


def create_stack_topics(bootstrap: str, partitions: int | None, report: Report) -> int:
    """Create the topics that are missing, bring those of outcomes up to date, and return the number
    of partitions that candidates have.

    If `partitions` is None, new topics get as many as the topic of candidates has, or else
    DEFAULT_PARTITIONS. `report` takes a line about each change of what existed, and one about each
    topic of outcomes whose partition count does not fit. Raises TopicError and BrokerUnreachable.
    """
    names = [plan.name for plan in stack_topics(DEFAULT_PARTITIONS)]
    existing = describe_topics(bootstrap, names)
    count = partitions or existing.get(_CANDIDATES, DEFAULT_PARTITIONS)

    # Ranking does not need the topics of outcomes. So if one has a count that does not fit, it keeps
    # it, and the stack comes up: the command that raises a count needs a broker.
    request_partitions = existing.get(_REQUEST_OUTCOMES, DEFAULT_PARTITIONS)
    outcome_plans = _outcome_topics(count, request_partitions)
    kept_plans: list[TopicPlan] = []
    for plan in outcome_plans:
        kept_plans.append(replace(plan, partitions=existing.get(plan.name, plan.partitions)))

    created = create_topics(bootstrap, (*_ranking_topics(count), *kept_plans)).created
    if existing and created:
        report(f"created topics that were missing: {', '.join(created)}")

    for plan in kept_plans:
        if plan.name not in existing:
            continue
        for change in update_topic_config(bootstrap, plan):
            report(
                f"topic {change.topic!r}: set {change.key} to {change.after}, was {change.before}"
            )

    for plan in outcome_plans:
        has_own_count = plan.name == _REQUEST_OUTCOMES
        if not has_own_count and existing.get(plan.name, plan.partitions) != plan.partitions:
            model = _CANDIDATES
            if plan.name in (_USER_OUTCOMES, _USER_CHANGELOG):
                model = _REQUEST_OUTCOMES
            report(_describe_mismatch(bootstrap, plan, existing[plan.name], model))
    return count


def _describe_mismatch(bootstrap: str, plan: TopicPlan, count: int, model: str) -> str:
    """What does not fit about a topic's partition count, and what helps. `model` is the topic
    whose count it should have.
    """
    remedy = "no count can be lowered: trimtab stack down --wipe deletes all records, then up"
    if count < plan.partitions:
        remedy = (
            f"raise it: kafka-topics.sh --bootstrap-server {bootstrap} --alter"
            f" --topic {plan.name} --partitions {plan.partitions}"
        )
    return (
        f"topic {plan.name!r} has {count} partitions, expected {plan.partitions} as"
        f" {model!r} has, so outcomes cannot be counted; {remedy}"
    )
