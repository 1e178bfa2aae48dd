"""When a process is alive, and when it is ready."""

import json

import pytest

from workers.metrics.health import (
    HANGING_S,
    HANGING_UNBOUNDED_S,
    Health,
    loop_liveness,
    loop_readiness,
)
from workers.metrics.names import READY
from workers.metrics.samples import sample
from workers.metrics.users_samples import users_liveness, users_readiness
from workers.metrics.view import ProcessView, Sources
from workers.steering.stage_status import StageReport


@pytest.mark.parametrize(
    ("seconds", "is_bounded", "is_alive"),
    [
        (0.1, True, True),
        (HANGING_S, True, False),
        (HANGING_S, False, True),
        (HANGING_UNBOUNDED_S, False, False),
    ],
)
def test_a_loop_that_hangs_is_not_alive(seconds: float, is_bounded: bool, is_alive: bool) -> None:
    health = loop_liveness(doing="consume", seconds=seconds, is_bounded=is_bounded)
    assert health.is_good == is_alive


@pytest.mark.parametrize(
    ("joins", "states", "is_stopping", "is_ready"),
    [
        (0, [], False, False),
        (1, [], False, True),
        (1, ["reading", "restoring"], False, False),
        (1, ["reading", "failing"], False, False),
        (2, ["reading", "standing"], False, True),
        (2, ["reading"], True, False),
    ],
)
def test_a_loop_is_ready_once_its_partitions_are_restored(
    joins: int, states: list[str], is_stopping: bool, is_ready: bool
) -> None:
    assert loop_readiness(joins=joins, states=states, is_stopping=is_stopping).is_good == is_ready


def test_the_users_stage_is_ready_once_it_waits_for_nothing() -> None:
    waiting = StageReport(waiting_for="its recovery")
    failing = StageReport(failing="a partition")
    assert users_readiness(waiting) == Health(False, "its recovery")
    assert users_readiness(failing) == Health(False, "a partition")
    assert users_readiness(StageReport()).is_good


def test_the_users_stage_is_alive_as_long_as_its_event_loop_turns() -> None:
    waiting = StageReport(waiting_for="its recovery")
    assert users_liveness(waiting, turned_s=29.9).is_good
    hanging = users_liveness(waiting, turned_s=30.1)
    assert hanging == Health(False, "its recovery for 30.1 s")


def test_a_process_that_is_not_put_together_is_alive_and_not_ready() -> None:
    view = ProcessView("ranking", 0)
    live, ready, metrics, status = (
        view.answer(path, "") for path in ("/livez", "/readyz", "/metrics", "/status")
    )
    assert live is not None
    assert ready is not None
    assert metrics is not None
    assert status is not None
    assert (live.status, ready.status) == (200, 503)
    assert ready.body == b"starting: waits for Kafka, its topics and rights\n"
    assert b'trimtab_ready{slot="0",stage="ranking"} 0.0' in metrics.body
    assert json.loads(status.body) == {"starting": True}


def test_the_series_are_read_at_most_once_a_second() -> None:
    reads: list[int] = []

    def read() -> list[object]:
        reads.append(1)
        return []

    view = ProcessView("ranking", 0)
    good = Health(True, "partitions: 1")
    view.sources = Sources(samples=read, live=lambda: good, ready=lambda: good, status=bytes)  # type: ignore[arg-type]
    for _ in range(3):
        view.answer("/metrics", "")
    assert len(reads) == 1
    assert sample(READY, 1) in view.snapshot().samples


def test_only_a_parent_is_given_the_samples() -> None:
    assert ProcessView("ranking", 0).answer("/samples", "") is None
    answer = ProcessView("ranking", 0, has_parent=True).answer("/samples", "")
    assert answer is not None
    assert answer.status == 200
