"""Redis fails over under real workers, and one of them stays at the old master."""

import json
import random
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.rig.environment import Environment
from tests.rig.process import until
from tests.rig.redis import RedisServer
from tests.rig.traffic import make_request
from tests.steering.peers import Forwarder
from workers.ranking.weights import Weights

EVEN = Weights.of({"quality": 0.5, "engagement": 0.5})
TURNED = Weights.of({"quality": 0.1, "engagement": 0.9})


@pytest.fixture
def servers(make_redis: Callable[..., RedisServer]) -> tuple[RedisServer, RedisServer]:
    """The old master, and the empty server that has taken its place: a status expires after 10 s."""
    old = make_redis()
    new = make_redis()
    old.start()
    new.start()
    return old, new


def test_a_worker_that_is_still_at_the_old_master_keeps_a_change_from_being_applied_by_all(
    make_env: Callable[..., Environment], servers: tuple[RedisServer, RedisServer]
) -> None:
    old, new = servers
    env = make_env()

    def command(*words: str) -> "subprocess.CompletedProcess[str]":
        return env.trimtab(*words, "--json")

    def partitions() -> list[list[int]]:
        live: list[dict[str, Any]] = [
            json.loads(str(one.client.get(key)))
            for one in servers
            for key in one.client.scan_iter(f"{env.name}:workers:status:*")
        ]
        return [one.get("partitions", []) for one in live]

    with Forwarder(old.port) as address:
        for url in (address.url, new.url):
            env.variables["TRIMTAB_REDIS"] = url
            env.start_worker()
        until(lambda: [len(one) for one in partitions()] == [2, 2], partitions)
        old.client.replicaof("127.0.0.1", "1")
        env.processes[0].wait_for("event=redis_read_only")

        changed = command(
            "weights", "set", "home", "quality=0.1", "engagement=0.9", "--reason", "x"
        )
        assert json.loads(changed.stdout)["after"]["version"] == TURNED.version
        ended = command("weights", "wait", "home", "--timeout", "1")
        (cut_off,) = json.loads(ended.stdout)["members_without_status"]
        assert (ended.returncode, json.loads(ended.stdout)["applied"]) == (1, False)
        assert (
            f"in the group without a status in this Redis: {cut_off} at 127.0.0.1" in ended.stderr
        )

        # It ranks on meanwhile; and once the address leads to the new master, it goes there.
        env.send(
            event
            for number in range(8)
            for event in make_request(f"r{number}", 5, random.Random(number))
        )
        feeds = env.read_feeds(8, settle=0.1)
        assert {feed["weights"]["version"] for feed in feeds} == {EVEN.version, TURNED.version}
        address.target = new.port
        ended = command("weights", "wait", "home", "--timeout", "60")
        assert (ended.returncode, len(json.loads(ended.stdout)["workers"])) == (0, 2)

    (line,) = [each for each in env.processes[0].logged().splitlines() if "redis_read_only" in each]
    assert "READONLY You can't write against a read only replica." in line
