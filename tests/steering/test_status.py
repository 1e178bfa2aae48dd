"""A worker's status in Redis: by its schema, right after each change, gone when it
stops.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.rig.redis import RedisServer
from tests.steering.conftest import PATIENCE_S, Events
from workers.ranking.weights import Weights
from workers.steering import Follower

Steer = Callable[..., Follower]
SCHEMA = json.loads(
    (Path(__file__).parents[2] / "schemas" / "worker-status.schema.json").read_text()
)
KEY = "workers:status:w-1"
NEVER = 3600.0
GOOD = Weights.of({"quality": 0.7, "engagement": 0.3})


class Statuses:
    """Each status written since, as reported by Redis's own keyspace notifications."""

    def __init__(self, server: RedisServer) -> None:
        server.client.config_set("notify-keyspace-events", "K$gx")
        self._server = server
        self._notifications: Any = server.client.pubsub(  # type: ignore[no-untyped-call]  # typed so by the client
            ignore_subscribe_messages=True
        )
        self._notifications.subscribe(f"__keyspace@0__:{KEY}")
        assert (
            self._notifications.get_message(timeout=PATIENCE_S) is None
        )  # the subscription itself

    def next(self) -> dict[str, Any]:
        while True:
            message = self._notifications.get_message(timeout=PATIENCE_S)
            assert message is not None, "no status was written"
            if message["data"] == "set":
                return self.now()

    def until(self, surface: str, **fields: object) -> dict[str, Any]:
        """The surface's part of the next status in which these fields are so."""
        while True:
            found: dict[str, Any] = self.next()["surfaces"][surface]
            if fields.items() <= found.items():
                return found

    def until_refused(self, surface: str) -> dict[str, Any]:
        """What is refused, in the next status in which something is."""
        while True:
            refused: dict[str, Any] | None = self.next()["surfaces"][surface]["refused"]
            if refused:
                return refused

    def until_experiment_refused(self, surface: str) -> dict[str, Any]:
        """The surface's experiment, in the next status in which something of it is refused."""
        while True:
            experiment: dict[str, Any] = self.next()["surfaces"][surface]["experiment"]
            if experiment["refused"]:
                return experiment

    def until_experiment(self, surface: str, **fields: object) -> dict[str, Any]:
        """The surface's part of the next status in which its experiment is so."""
        while True:
            found: dict[str, Any] = self.next()["surfaces"][surface]
            if fields.items() <= found["experiment"].items():
                return found

    def now(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(str(self._server.client.get(KEY)))
        Draft202012Validator(SCHEMA).validate(status)
        return status

    def close(self) -> None:
        self._notifications.close()


@pytest.fixture
def statuses(server: RedisServer) -> Iterator[Statuses]:
    watch = Statuses(server)
    yield watch
    watch.close()


def test_the_status_says_what_is_applied_and_from_where(
    server: RedisServer, steer: Steer, statuses: Statuses
) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    steer(now=lambda: 1_700_000_000_123)
    assert statuses.until("home", source="redis") == {
        "version": GOOD.version,
        "values": {"quality": 0.7, "engagement": 0.3},
        "source": "redis",
        "applied_at": 1_700_000_000_123,
        "push_ms": None,
        "refused": None,
        "experiment": dict.fromkeys(("salt", "arms", "source", "applied_at", "push_ms", "refused")),
        "arms": {},
        "pins": dict.fromkeys(("versions", "source", "applied_at", "push_ms", "refused")),
        "arm_pins": {},
    }
    status = statuses.next()
    assert status["worker"] == "w-1"
    assert status["at"] == 1_700_000_000_123
    assert status["pushes"] is True
    assert status["surfaces"]["other"]["source"] == "default"


def test_a_change_is_acknowledged_before_the_next_poll(
    server: RedisServer, steer: Steer, statuses: Statuses
) -> None:
    steer(poll_seconds=NEVER)
    server.set("home", quality=0.7, engagement=0.3)
    assert statuses.until("home", version=GOOD.version)["source"] == "redis"


def test_a_refusal_is_reported_with_its_reason_and_forgotten_with_the_hash(
    server: RedisServer, steer: Steer, statuses: Statuses
) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    steer(poll_seconds=NEVER)
    server.set("home", quality="much")
    refused = statuses.until_refused("home")
    assert refused["reason"] == "quality: got 'much', expected a finite number such as 0.7"
    # printf '{"engagement":"0.3","quality":"much"}' | sha256sum
    assert refused["content"] == "0e2c5fe8cd28"
    server.client.delete("weights:home")
    assert statuses.until("home", refused=None)["version"] == GOOD.version


def test_a_key_that_is_not_a_hash_has_no_content(
    server: RedisServer, steer: Steer, statuses: Statuses
) -> None:
    server.client.set("weights:home", "x")
    steer(poll_seconds=NEVER)
    refused = statuses.until_refused("home")
    assert refused["content"] is None
    assert "WRONGTYPE" in refused["reason"]


def test_a_reason_stays_short_whatever_was_written(
    server: RedisServer, steer: Steer, statuses: Statuses
) -> None:
    server.client.hset("weights:home", "x" * 100_000, "1")
    steer(poll_seconds=NEVER)
    assert len(statuses.until_refused("home")["reason"]) == 300


def test_the_status_is_written_again_with_each_poll_and_expires(
    server: RedisServer, steer: Steer, statuses: Statuses
) -> None:
    times = iter(range(1000))
    steer(now=lambda: next(times))
    first = second = statuses.next()
    while second["at"] == first["at"]:  # two may be written before the first of them is read
        second = statuses.next()
    assert first["at"] < second["at"]
    assert first["expiry_ms"] == 1000
    assert 0 < int(str(server.client.pttl(KEY))) <= 1000


def test_the_workers_own_report_is_in_the_status(
    server: RedisServer, steer: Steer, statuses: Statuses
) -> None:
    report = {
        "models": {"home": {"quality": 3}},
        "partitions": [0, 2],
        "counts": {"feeds": 17},
        "lag": {0: 4, 2: 0},
    }
    steer(report=lambda: report)
    status = statuses.next()
    assert {key: status[key] for key in report} == report | {"lag": {"0": 4, "2": 0}}


def test_pushes_that_are_allowed_later_are_taken_up_with_the_next_poll(
    server: RedisServer, steer: Steer, statuses: Statuses
) -> None:
    server.client.acl_setuser(
        "w", enabled=True, passwords=["+pw"], keys=["*"], commands=["+hgetall", "+set", "+del"]
    )
    steer(redis_url=f"redis://w:pw@127.0.0.1:{server.port}/0")
    assert statuses.next()["pushes"] is False
    server.client.acl_setuser("w", enabled=True, commands=["+client"])
    assert any(statuses.next()["pushes"] for _ in range(20))


def test_a_worker_that_stops_deletes_its_status(
    server: RedisServer, steer: Steer, statuses: Statuses
) -> None:
    steering = steer()
    statuses.next()
    steering.stop()
    assert server.client.exists(KEY) == 0


def test_a_user_who_may_not_write_the_status_still_gets_weights(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    server.client.acl_setuser(
        "w", enabled=True, passwords=["+pw"], keys=["*"], commands=["+hgetall", "+client"]
    )
    steering = steer(redis_url=f"redis://w:pw@127.0.0.1:{server.port}/0", poll_seconds=NEVER)
    events.wait("status_denied")
    server.set("home", quality=0.7, engagement=0.3)
    events.wait("weights_applied", surface="home")
    assert steering.mix("home").weights == GOOD


def test_the_status_has_the_experiment_its_arms_and_how_long_a_push_took(
    server: RedisServer, steer: Steer, statuses: Statuses
) -> None:
    steer(poll_seconds=NEVER)
    statuses.until("home", source="default")
    server.set("home:canary", quality=0.7, engagement=0.3)
    server.experiment("home", salt="s", canary="12.5", later="0")
    status = statuses.until_experiment("home", salt="s")
    assert status["experiment"] | {"applied_at": 0, "push_ms": 0} == {
        "salt": "s",
        "arms": {"canary": 12.5, "later": 0.0},
        "source": "redis",
        "applied_at": 0,
        "push_ms": 0,
        "refused": None,
    }
    assert status["experiment"]["push_ms"] > 0
    assert (status["arms"]["canary"]["version"], status["arms"]["canary"]["refused"]) == (
        GOOD.version,
        None,
    )
    assert status["arms"]["later"] == dict.fromkeys(status["arms"]["later"])
    assert status["push_ms"] is None


def test_an_experiment_that_is_refused_is_reported_beside_the_one_in_force(
    server: RedisServer, steer: Steer, statuses: Statuses
) -> None:
    server.set("home:canary", quality=0.7, engagement=0.3)
    server.experiment("home", salt="s", canary="5")
    steer(poll_seconds=NEVER)
    server.experiment("home", canary="101")
    status = statuses.until_experiment_refused("home")
    assert (status["salt"], status["arms"]) == ("s", {"canary": 5.0})
    assert (
        status["refused"]["reason"] == "canary: got '101', expected 0 to 100 percent, in hundredths"
    )


def test_what_no_push_brought_has_no_time_of_a_push(
    server: RedisServer, steer: Steer, statuses: Statuses
) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    steer(poll_seconds=NEVER)
    assert statuses.until("home", source="redis")["push_ms"] is None
    server.set("home", quality=0.2)
    assert statuses.until("home", values={"quality": 0.2, "engagement": 0.3})["push_ms"] > 0


def test_a_push_between_two_reads_in_a_row_is_timed_too(
    server: RedisServer, steer: Steer, statuses: Statuses
) -> None:
    turns = {
        Weights.of({"quality": n / 10, "engagement": 0.5}).version: n / 10 + 0.05
        for n in range(1, 5)
    }

    def change_again(event: str, /, **fields: object) -> None:
        # In the steering thread, between the read that has applied the set and the next one, which
        # follows at once.
        if event == "weights_applied" and fields["version"] in turns:
            server.set("home", quality=turns[str(fields["version"])])

    steer(poll_seconds=NEVER, on_event=change_again)
    times = []
    for n in range(1, 5):
        server.set("home", quality=n / 10)
        times.append(
            statuses.until("home", values={"quality": n / 10 + 0.05, "engagement": 0.5})["push_ms"]
        )
    # A read may be quicker than the push if Redis is paused between its reply to a change and
    # its push.
    assert any(push_ms is not None for push_ms in times)


def test_pushes_that_change_nothing_do_not_silence_a_worker(
    server: RedisServer, steer: Steer
) -> None:
    steer()
    moments: set[int] = set()
    patience = time.monotonic() + PATIENCE_S
    while len(moments) < 5 and time.monotonic() < patience:
        server.set("nowhere", clicks=time.monotonic_ns())
        moments.add(json.loads(server.client.get(KEY) or "{}").get("at"))
    assert len(moments) == 5
