"""Each right on Kafka that a stage lacks is named by the doctor, also those that only a request
shows: on the group and on transactional ids.
"""

import json

import pytest

from tests.commands.running import trimtab
from tests.integration.guarded import GuardedKafka
from tests.integration.test_rights import env, guarded, listed_rights
from tests.rig.environment import Environment
from workers.streaming.rights import Resource, Right

__all__ = ["env", "guarded"]


def said_of_rights(env: Environment) -> list[tuple[str, str]]:
    """Status and text of what the doctor says of rights."""
    printed = json.loads(trimtab("doctor", "--json", **env.settings).out)
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
