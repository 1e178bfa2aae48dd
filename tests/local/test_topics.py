"""The topics of a stack that an earlier version has created are brought up to date, and each change
is reported.

The names are those of the shared stack with a prefix of the test's own.
"""

import uuid
from collections.abc import Callable

import pytest

from tests.rig.process import until
from workers.local import topics as topics_module
from workers.local.topics import create_stack_topics
from workers.streaming.topics import TopicPlan, create_topics, describe_topics, topic_config

NAMES = {
    "_CANDIDATES": "candidates",
    "_FEEDS": "ranked-feeds",
    "_DEAD_LETTERS": "candidates.dead-letters",
    "_INTERACTIONS": "interactions",
    "_INTERACTION_LETTERS": "interactions.dead-letters",
    "_REQUEST_OUTCOMES": "request-outcomes",
    "_FEED_OUTCOMES": "feed-outcomes",
    "_USER_OUTCOMES": "user-outcomes",
    "_USER_CHANGELOG": "user-outcomes.changelog",
}
RECORD_SIZE = {"max.message.bytes": "1048588"}


@pytest.fixture
def own_name(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """The name that a topic of the stack has in this test."""
    prefix = f"t{uuid.uuid4().hex[:8]}."
    for constant, name in NAMES.items():
        monkeypatch.setattr(topics_module, constant, prefix + name)
    return lambda name: prefix + name


def earlier_topics(
    own_name: Callable[[str], str], *, candidates: int, interactions: int
) -> tuple[TopicPlan, ...]:
    """What the version before outcomes created."""
    broker_clock = {"message.timestamp.type": "LogAppendTime"}
    return (
        TopicPlan(own_name("candidates"), candidates, RECORD_SIZE | broker_clock),
        TopicPlan(own_name("ranked-feeds"), candidates, RECORD_SIZE),
        TopicPlan(
            own_name("candidates.dead-letters"), candidates, {"max.message.bytes": "2097152"}
        ),
        TopicPlan(own_name("interactions"), interactions, RECORD_SIZE),
        TopicPlan(own_name("feed-outcomes"), interactions, RECORD_SIZE),
    )


def test_a_new_stack_gets_all_topics_and_nothing_to_report(
    kafka: str, own_name: Callable[[str], str]
) -> None:
    reports: list[str] = []
    assert create_stack_topics(kafka, 2, reports.append) == 2
    names = [own_name(name) for name in NAMES.values()]
    counts = dict.fromkeys(names, 2)
    for name in ("request-outcomes", "user-outcomes", "user-outcomes.changelog"):
        counts[own_name(name)] = 4
    assert describe_topics(kafka, names) == counts
    assert reports == []

    create_stack_topics(kafka, None, reports.append)
    assert reports == []


def test_the_topics_of_an_earlier_version_get_what_outcomes_need_once(
    kafka: str, own_name: Callable[[str], str]
) -> None:
    create_topics(kafka, earlier_topics(own_name, candidates=2, interactions=2))
    reports: list[str] = []
    create_stack_topics(kafka, None, reports.append)

    letters = own_name("interactions.dead-letters")
    requests = own_name("request-outcomes")
    users = own_name("user-outcomes")
    interactions = own_name("interactions")
    sums = own_name("feed-outcomes")
    assert reports == [
        f"created topics that were missing: {letters}, {requests}, {users}, {users}.changelog",
        f"topic '{interactions}': set message.timestamp.type to LogAppendTime, was CreateTime",
        f"topic '{sums}': set cleanup.policy to compact,delete, was delete",
        f"topic '{sums}': set retention.ms to 1209600000, was 604800000",
        f"topic '{sums}': set segment.bytes to 16777216, was 1073741824",
        f"topic '{sums}': set segment.ms to 3600000, was 604800000",
    ]
    # The broker answers a change a moment before it shows it.
    key = "message.timestamp.type"
    until(lambda: topic_config(kafka, interactions)[key] == "LogAppendTime", lambda: "not changed")
    assert topic_config(kafka, interactions)["max.message.bytes"] == "1048588"
    assert topic_config(kafka, sums)["cleanup.policy"] == "compact,delete"

    reports.clear()
    create_stack_topics(kafka, None, reports.append)
    assert reports == []


def test_what_somebody_set_on_the_topics_of_ranking_stays(
    kafka: str, own_name: Callable[[str], str]
) -> None:
    larger = {"max.message.bytes": "2000000"}
    create_topics(kafka, [TopicPlan(own_name("candidates"), 2, larger)])
    create_stack_topics(kafka, None, lambda _line: None)
    assert topic_config(kafka, own_name("candidates"))["max.message.bytes"] == "2000000"


@pytest.mark.parametrize(
    ("candidates", "remedy"),
    [
        (
            3,
            "raise it: kafka-topics.sh --bootstrap-server {kafka} --alter --topic {topic} --partitions 3",
        ),
        (1, "no count can be lowered: trimtab stack down --wipe deletes all records, then up"),
    ],
)
def test_a_partition_count_that_does_not_fit_is_reported_with_what_helps_and_kept(
    kafka: str, own_name: Callable[[str], str], candidates: int, remedy: str
) -> None:
    create_topics(kafka, earlier_topics(own_name, candidates=candidates, interactions=2))
    reports: list[str] = []
    assert create_stack_topics(kafka, None, reports.append) == candidates

    mismatches = [line for line in reports if "has 2 partitions" in line]
    expected: list[str] = []
    for topic in (own_name("interactions"), own_name("feed-outcomes")):
        expected.append(
            f"topic '{topic}' has 2 partitions, expected {candidates} as"
            f" '{own_name('candidates')}' has, so outcomes cannot be counted;"
            f" {remedy.format(kafka=kafka, topic=topic)}"
        )
    assert mismatches == expected
    assert describe_topics(kafka, [own_name("interactions")]) == {own_name("interactions"): 2}
    assert describe_topics(kafka, [own_name("interactions.dead-letters")]) == {
        own_name("interactions.dead-letters"): candidates
    }
