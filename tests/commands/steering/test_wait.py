"""`trimtab weights wait` and `models activate --wait`: a worker without a status does not count as
one that has the version.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

from tests.commands.running import Ended
from tests.docs.test_cli_schemas import check
from tests.rig.process import until
from tests.rig.redis import RedisServer
from tests.rig.traffic import now_ms
from workers.ranking.weights import Weights
from workers.steering import Follower
from workers.streaming.clients import Cluster
from workers.streaming.topics import TopicPlan, create_topics

Run = Callable[..., Ended]
Steer = Callable[..., Follower]
HALF = Weights.of({"quality": 0.5, "engagement": 0.5}).version
WAIT = ("weights", "wait", "home", "--version", HALF, "--timeout", "0")


@pytest.fixture
def group(server: RedisServer, tmp_path: Path) -> str:
    """A name that no other test's group has."""
    return f"wait.{tmp_path.parent.name}.{server.port}"


def crash(server: RedisServer, worker: str) -> None:
    """Leave in Redis what a worker leaves there whose status has expired."""
    server.client.zadd("workers:live", {worker: now_ms()})


def found(ended: Ended) -> dict[str, Any]:
    one: dict[str, Any] = json.loads(ended.out)
    check("weights-wait", one)
    return one


def test_a_worker_without_a_status_is_waited_for_and_named_with_what_can_be_done(
    server: RedisServer, run: Run, steer: Steer
) -> None:
    steer(worker_id="w-1", poll_seconds=60.0)
    crash(server, "w-2")
    ended = run(*WAIT, "--json")
    assert ended.code == 1
    assert (
        f"home: version {HALF} is applied by the 1 workers that have a status, not by all; "
        "in workers:live without a status: w-2; crashed, or cut off from this Redis"
    ) in ended.err

    for way in ("give --kafka", "--workers", "redis-cli ZREM workers:live ID"):
        assert way in ended.err
    result = found(ended)
    assert (result["applied"], result["workers"], result["silent"], result["members"]) == (
        False,
        ["w-1"],
        ["w-2"],
        None,
    )

    server.client.zrem("workers:live", "w-2")
    result = found(run(*WAIT, "--json"))
    assert (result["applied"], result["workers"], result["behind"], result["silent"]) == (
        True,
        ["w-1"],
        {},
        [],
    )


def test_as_many_workers_as_there_are_is_all_of_them(
    server: RedisServer, run: Run, steer: Steer
) -> None:
    for worker in ("w-1", "w-3"):
        steer(worker_id=worker, poll_seconds=60.0)
    crash(server, "w-2")
    ended = run(*WAIT, "--workers", "2")
    assert ended.code == 0
    assert ended.out == (
        f"home: version {HALF} applied by all 2 workers (without a status and passed over: w-2)\n"
    )

    ended = run(*WAIT, "--workers", "3")
    assert ended.code == 1
    assert (
        "home: 2 live workers, expected at least 3; in workers:live without a status: w-2"
        in ended.err
    )


def test_a_worker_behind_is_waited_for_whatever_number_is_given(
    server: RedisServer, run: Run, steer: Steer
) -> None:
    steer(worker_id="w-1", poll_seconds=60.0)
    ended = run(
        "weights",
        "wait",
        "home",
        "--version",
        "0" * 12,
        "--timeout",
        "0",
        "--workers",
        "1",
        "--json",
    )
    assert ended.code == 1
    assert f"is not applied by all 1 workers: w-1 at {HALF}" in ended.err
    assert (found(ended)["workers"], found(ended)["behind"]) == ([], {"w-1": HALF})


def test_models_that_are_activated_are_waited_for_on_the_same_workers(
    server: RedisServer, run: Run, steer: Steer
) -> None:
    report = {"models": {"home": {"quality": 1}}, "library": {"quality": {1: {"state": "loaded"}}}}
    steer(worker_id="w-1", report=lambda: report, poll_seconds=60.0)
    crash(server, "w-2")
    activate = ("models", "activate", "quality", "1", "--surface", "home", "--wait", "5")
    ended = run(*activate[:-1], "0")
    assert ended.code == 1
    assert "quality: not in force on all workers: " in ended.err
    assert "in workers:live without a status: w-2" in ended.err
    assert run(*activate, "--workers", "1").code == 0
    assert "1 live workers, expected at least 2" in run(*activate[:-1], "0", "--workers", "2").err


# Where Kafka says who is in the group


@contextmanager
def member(kafka: str, group: str, topic: str, worker: str) -> Iterator[None]:
    """A consumer of the group that goes by the worker's id, as the worker's own does."""
    consumer: Consumer = Cluster(kafka).member(group, worker, "range", lambda error: None)
    consumer.subscribe([topic])
    try:
        until(lambda: consumer.poll(0.05) is None and bool(consumer.assignment()))
        yield
    finally:
        consumer.close()


def test_kafka_knows_who_is_cut_off_and_who_has_crashed(
    server: RedisServer, run: Run, steer: Steer, kafka: str, group: str
) -> None:
    create_topics(kafka, [TopicPlan(group, 1)])
    steer(worker_id="w-1", report=lambda: {"group": group}, poll_seconds=60.0)
    crash(server, "w-2")
    with member(kafka, group, group, "w-2"):
        ended = run(*WAIT, "--kafka", kafka, "--json", "--workers", "1")
        assert ended.code == 1
        assert "in the group without a status in this Redis: w-2 at 127.0.0.1" in ended.err

        result = found(ended)
        assert (result["silent"], result["members"], result["members_without_status"]) == (
            ["w-2"],
            ["w-2"],
            ["w-2"],
        )
        # The workers with a status name the group. A group that is given is read too.
        assert run(*WAIT, "--kafka", kafka, "--group", "nobodys").code == 1
    with member(kafka, group, group, "w-1"):
        ended = run(*WAIT, "--json", TRIMTAB_KAFKA=kafka)
        assert (ended.code, found(ended)["silent"], found(ended)["members"]) == (
            0,
            ["w-2"],
            ["w-1"],
        )


def test_a_kafka_that_does_not_answer_leaves_it_to_what_redis_knows(
    server: RedisServer, run: Run, steer: Steer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.streaming.members.SECONDS", 0.2)
    steer(worker_id="w-1", poll_seconds=60.0)
    ended = run(*WAIT, "--kafka", "127.0.0.1:1", "--json")
    assert (ended.code, found(ended)["members"]) == (0, None)
    assert "Warning: the workers' group is not known: groups trimtab: " in ended.err

    crash(server, "w-2")
    ended = run(*WAIT, "--kafka", "127.0.0.1:1")
    assert ended.code == 1
    assert "in workers:live without a status: w-2" in ended.err
    assert "Kafka was not asked: groups trimtab: " in ended.err
