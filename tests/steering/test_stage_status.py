"""The stages of outcomes say how they are, and never wait for Redis."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.rig.process import until
from tests.rig.redis import RedisServer
from tests.steering.conftest import Events
from workers.steering.editor import SteeringEditor
from workers.steering.stage_status import StageProcess, StageReport, Stages, StageStatusWriter
from workers.steering.status import PartitionStatus

REPORT = StageReport(
    partitions=(0, 2),
    lag={0: 7},
    partition_states={0: PartitionStatus("reading", 10), 2: PartitionStatus("restoring", 5, "x")},
    closed_until=1_700_000_000_000,
    waiting_for="the topic user-outcomes",
    counts={"feeds": 3},
)


@pytest.fixture
def writer(stopped_server: RedisServer, events: Events) -> Callable[..., StageStatusWriter]:
    def make(stage: str = "join", process: str = "host-0", **changes: Any) -> StageStatusWriter:
        values: dict[str, Any] = {"report": lambda: REPORT, "every_s": 0.02, "now": lambda: 1234}
        return StageStatusWriter(
            stopped_server.url,
            "p:",
            events,
            stage=stage,
            process=process,
            version="1.2",
            **(values | changes),
        )

    return make


def processes(server: RedisServer) -> list[StageProcess]:
    with SteeringEditor(server.url, "p:") as editor:
        return editor.read_stages().processes


def test_what_a_process_says_is_read_back(
    server: RedisServer, writer: Callable[..., StageStatusWriter], events: Events
) -> None:
    with writer("users", "host-1"), writer("join"):
        events.wait("redis_connected", 2)
        join, users = processes(server)

    assert (join.stage, join.process) == ("join", "host-0")
    assert (users.stage, users.process) == ("users", "host-1")
    assert users.status is not None
    assert users.status.report == REPORT
    assert (users.status.version, users.status.since, users.status.at) == ("1.2", 1234, 1234)
    assert users.age_ms is not None
    assert users.age_ms < 10_000


def test_a_process_that_ends_takes_its_status_with_it(
    server: RedisServer, writer: Callable[..., StageStatusWriter], events: Events
) -> None:
    with writer():
        events.wait("redis_connected")
        assert server.client.exists("p:outcomes:status:join:host-0", "p:outcomes:live") == 2
    assert server.client.exists("p:outcomes:status:join:host-0", "p:outcomes:live") == 0


@pytest.mark.parametrize(("score", "gone_since"), [("5", 5), ("-inf", 0), ("inf", 253402300799000)])
def test_a_process_that_was_killed_is_missed_when_its_status_has_expired(
    server: RedisServer, score: str, gone_since: int
) -> None:
    server.client.zadd("p:outcomes:live", {"join:host-0": score})
    assert processes(server) == [StageProcess("join", "host-0", None, gone_since=gone_since)]


@pytest.mark.parametrize("raises", [True, False])
def test_a_process_that_ends_with_an_error_is_missed(
    server: RedisServer, writer: Callable[..., StageStatusWriter], events: Events, raises: bool
) -> None:
    with suppress(RuntimeError), writer() as status:
        events.wait("redis_connected")
        if raises:
            raise RuntimeError
        status.ends_with(1)
    assert server.client.zscore("p:outcomes:live", "join:host-0") == 1234


def test_a_stage_is_without_process_if_some_are_missed_and_none_lives() -> None:
    gone = StageProcess("join", "a", None, gone_since=1)
    living = StageProcess("join", "b", None, unreadable="of another version")
    other = StageProcess("users", "a", None, gone_since=1)
    assert Stages([gone, living, other]).without_process() == ["users"]
    assert Stages([gone]).without_process() == ["join"]
    assert Stages([living]).without_process() == []


def test_what_redis_was_used_for_is_counted_and_whether_it_answers(
    stopped_server: RedisServer, writer: Callable[..., StageStatusWriter], events: Events
) -> None:
    with writer() as status:
        events.wait("redis_lost")
        assert not status.is_in_touch
        stopped_server.start()
        events.wait("redis_connected")
        until(lambda: status.redis.calls > 1)
        assert status.is_in_touch
    assert status.redis.failures >= 1


def test_without_redis_the_block_runs_and_it_is_logged_once_until_redis_is_back(
    stopped_server: RedisServer, writer: Callable[..., StageStatusWriter], events: Events
) -> None:
    reports = list[int]()

    def report() -> StageReport:
        reports.append(1)
        return REPORT

    with writer(report=report):
        events.wait("redis_lost")
        stopped_server.start()
        events.wait("redis_connected")
        assert len(events.all("redis_lost")) == 1
        stopped_server.kill()
        events.wait("redis_lost", 2)
        stopped_server.start()
        events.wait("redis_connected", 2)
        until(lambda: len(processes(stopped_server)) == 1)
    assert reports


def test_a_server_that_takes_no_writes_is_left_and_tried_again(
    server: RedisServer, writer: Callable[..., StageStatusWriter], events: Events
) -> None:
    server.client.replicaof("127.0.0.1", "1")
    with writer():
        events.wait("redis_read_only")
        server.client.replicaof("NO", "ONE")
        events.wait("redis_connected")
    assert len(events.all("redis_read_only")) == 1


def test_a_denied_status_is_logged_once(
    server: RedisServer, writer: Callable[..., StageStatusWriter], events: Events
) -> None:
    server.client.set("p:outcomes:live", "no sorted set")
    with writer():
        events.wait("status_denied")
        until(lambda: server.client.exists("p:outcomes:status:join:host-0") == 1)
    assert len(events.all("status_denied")) == 1


def test_a_status_of_another_version_is_shown_as_one_that_cannot_be_read(
    server: RedisServer,
) -> None:
    server.client.zadd("p:outcomes:live", {"join:host-0": 1})
    server.client.set("p:outcomes:status:join:host-0", json.dumps({"stage": "join"}))
    (stage,) = processes(server)
    assert stage.status is None
    assert stage.unreadable is not None
    assert "process" in stage.unreadable


def test_if_redis_denies_the_list_that_is_said(server: RedisServer) -> None:
    server.client.set("p:outcomes:live", "no sorted set")
    with SteeringEditor(server.url, "p:") as editor:
        stages = editor.read_stages()
    assert stages.processes == []
    assert stages.denied is not None
    assert stages.denied.startswith("WRONGTYPE")
