"""Each right on Kafka that a stage lacks is named by the doctor, also those that only a request
shows: on the group and on transactional ids.
"""

import json

import pytest

from tests.commands.running import trimtab
from tests.integration.guarded import GuardedKafka
from tests.integration.test_rights import create_join_topics, env, guarded, listed_rights
from tests.rig.environment import Environment
from workers.streaming.rights import Resource, Right
from workers.streaming.topics import TopicPlan, create_topics

__all__ = ["env", "guarded"]


def said_of_rights(env: Environment, role: str = "worker") -> list[tuple[str, str]]:
    """Status and text of what the doctor says of rights."""
    printed = json.loads(trimtab("doctor", "--for", role, "--json", **env.settings).out)
    lines = []
    for line in printed["checks"]:
        if line["check"] == "rights":
            lines.append((line["status"], line["text"]))
    return lines


def is_lost(right: Right, resource: Resource, operation: str) -> bool:
    """Whether a right is taken away: one operation on topics, all of it on anything else."""
    if right.resource is not resource:
        return False
    return resource is not Resource.TOPIC or right.operation == operation


def test_a_worker_with_the_listed_rights_has_all(env: Environment, guarded: GuardedKafka) -> None:
    guarded.allow("worker", listed_rights(env, "worker"))
    assert said_of_rights(env) == [("ok", "worker: all 12")]


@pytest.mark.parametrize(
    ("resource", "operation"),
    [(Resource.TOPIC, "Write"), (Resource.GROUP, "Read"), (Resource.TRANSACTIONAL_ID, "Write")],
)
def test_a_missing_right_is_named_with_the_line_that_grants_it(
    env: Environment, guarded: GuardedKafka, resource: Resource, operation: str
) -> None:
    rights = listed_rights(env, "worker")
    left = [right for right in rights if not is_lost(right, resource, operation)]
    guarded.allow("worker", left)

    ((status, text),) = said_of_rights(env)

    assert status == "stops"
    assert (
        f"missing on the broker's authorizer: {operation} on {resource.value.split('-')[0]}" in text
    )
    assert f"--operation {operation} --{resource.value}" in text


def test_a_worker_that_may_not_read_dead_letters_is_warned_of_what_happens_then(
    env: Environment, guarded: GuardedKafka
) -> None:
    letters = Right("Read", Resource.TOPIC, env.letters)
    rights = listed_rights(env, "worker")
    assert letters in rights
    guarded.allow("worker", [right for right in rights if right != letters])

    fine, (status, text) = said_of_rights(env)

    assert fine == ("ok", "worker: all 12")
    assert status == "warns"
    assert f"Read on topic '{env.letters}'" in text
    assert "may become a dead letter a second time" in text


COMMANDS = {"join": "outcomes join", "users": "outcomes users"}


@pytest.fixture
def env_of_outcomes(env: Environment, guarded: GuardedKafka) -> Environment:
    """With the topics of outcomes, and a user that has the rights of both stages."""
    topics = create_join_topics(env)
    users = [f"{env.name}.user-outcomes", f"{env.name}.user-outcomes.changelog"]
    create_topics(env.kafka, [TopicPlan(name, 1) for name in users])
    env.variables |= {
        "TRIMTAB_TOPIC_INTERACTIONS": topics.interactions,
        "TRIMTAB_TOPIC_INTERACTION_LETTERS": topics.dead_letters,
        "TRIMTAB_TOPIC_REQUEST_OUTCOMES": topics.request_outcomes,
        "TRIMTAB_TOPIC_FEED_OUTCOMES": topics.feed_outcomes,
        "TRIMTAB_TOPIC_USER_OUTCOMES": users[0],
        "TRIMTAB_TOPIC_USER_CHANGELOG": users[1],
        "TRIMTAB_OUTCOMES_GROUP": f"{env.name}-outcomes",
        "TRIMTAB_USERS_GROUP": f"{env.name}-users",
    }
    guarded.allow("worker", {*rights_of(env, "join"), *rights_of(env, "users")})
    return env


def rights_of(env: Environment, role: str) -> list[Right]:
    """What deploy/README.md lists for a stage."""
    return listed_rights(env, COMMANDS[role])


@pytest.mark.parametrize(("role", "count"), [("join", 15), ("users", 11)])
def test_a_stage_of_outcomes_with_the_listed_rights_has_all(
    env_of_outcomes: Environment, role: str, count: int
) -> None:
    assert said_of_rights(env_of_outcomes, role) == [("ok", f"{role}: all {count}")]


@pytest.mark.parametrize("role", COMMANDS)
def test_all_rights_that_a_stage_of_outcomes_lacks_are_named(
    env_of_outcomes: Environment, guarded: GuardedKafka, role: str
) -> None:
    rights = set(rights_of(env_of_outcomes, role))
    guarded.allow("worker", [right for right in rights if right.operation == "Describe"])

    said = said_of_rights(env_of_outcomes, role)

    (stops,) = [text for status, text in said if status == "stops"]
    warned = [text for status, text in said if status == "warns"]
    for right in rights:
        if right.operation == "Describe":
            continue
        name = right.prefix + "doctor" if right.prefix else right.name
        named = f"{right.operation} on {right.resource.value.replace('-', ' ')} '{name}'"
        is_useful_only = role == "users" and right.name.endswith("feed-outcomes")
        assert named in (warned[0] if is_useful_only else stops)
    assert bool(warned) == (role == "users")
