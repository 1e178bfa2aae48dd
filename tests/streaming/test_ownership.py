"""Where a partition stands between its assignment and the end of its restore.

The consumer is a stand-in: the moment that matters, an answer of the broker that comes after a
seek, cannot be had at will from a real one. Rebalances and restores on a real broker are in
tests/integration.
"""

import time
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from structlog.testing import capture_logs

from tests.builders import HOME
from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.assembly.held import Budget
from workers.counts import Counts
from workers.streaming.clients import Cluster
from workers.streaming.ownership import Ownership
from workers.streaming.placement import Placement
from workers.streaming.ranking_partition import RankingPartition, make_partition
from workers.streaming.ranking_restore import Restored, ranking_restorer
from workers.streaming.retry import Isolated
from workers.streaming.topics import WorkerTopics


class StandIn:
    """Takes a subscription, and notes what is assigned and paused."""

    def __init__(self, ends: dict[int, int]) -> None:
        self.ends = ends
        self.assigned: list[TopicPartition] = []
        self.paused: list[TopicPartition] = []
        self.patience: list[float] = []

    def subscribe(self, _topics: list[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self.on_assign = on_assign

    def get_watermark_offsets(self, where: TopicPartition, timeout: float) -> tuple[int, int]:
        self.patience.append(timeout)
        if where.partition not in self.ends:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return 0, self.ends[where.partition]

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        self.assigned += places

    def pause(self, places: list[TopicPartition]) -> None:
        self.paused += places


def ownership_of(stand_in: StandIn) -> Ownership[RankingPartition, Restored]:
    consumer = cast(Consumer, stand_in)
    restorer = ranking_restorer(
        Cluster("127.0.0.1:1"),
        "g",
        WorkerTopics("candidates", "feeds", "letters"),
        {"home": HOME},
        "rules",
    )
    placement = Placement(count=4, is_required=False, counts=Counts(), ask_count=lambda: None)
    ownership = Ownership(
        consumer,
        restorer,
        "candidates",
        partial(make_partition, budget=Budget(), placement=placement, rules=""),
        cooperative=True,
    )
    ownership.subscribe()
    return ownership


def assign(stand_in: StandIn, partitions: list[int]) -> None:
    stand_in.on_assign(stand_in, [TopicPartition("candidates", number) for number in partitions])


def assigned_offsets(ends: dict[int, int], partitions: list[int]) -> list[int]:
    stand_in = StandIn(ends)
    ownership_of(stand_in)
    assign(stand_in, partitions)
    assert [p.partition for p in stand_in.paused] == partitions
    return [place.offset for place in stand_in.assigned]


def test_an_assigned_partition_stands_at_a_number_and_never_at_a_logical_offset() -> None:
    assert assigned_offsets({0: 40_000, 3: 7}, [0, 3]) == [40_000, 7]


def test_a_broker_that_does_not_answer_is_asked_once_and_the_partitions_stand_at_the_beginning() -> (
    None
):
    assert assigned_offsets({0: 5}, [0, 1, 2]) == [5, 0, 0]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Monotonic seconds, moved by hand."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


def test_however_many_partitions_are_assigned_the_broker_has_one_time_for_all_of_them(
    clock: SimpleNamespace,
) -> None:
    class Slow(StandIn):
        def get_watermark_offsets(self, where: TopicPartition, timeout: float) -> tuple[int, int]:
            clock.now += 0.5
            return super().get_watermark_offsets(where, timeout)

    stand_in = Slow(dict.fromkeys(range(100), 7))
    ownership_of(stand_in)
    assign(stand_in, list(range(100)))
    assert stand_in.patience[:5] == [2.0, 1.5, 1.0, 0.5, 0.0]


def test_a_restore_that_begins_again_counts_from_then(clock: SimpleNamespace) -> None:
    stand_in = StandIn({0: 5})
    ownership = ownership_of(stand_in)
    assign(stand_in, [0])
    assert ownership.assigned == {0: 1000.0}
    ownership.partitions[0] = RankingPartition(0, Assembler(Mark(0, 0, NO_TIME, 0)))
    clock.now = 5000.0
    assert ownership.drop_all() == [0]
    assert ownership.assigned == {0: 5000.0}


def test_a_partition_that_fails_again_at_once_waits_longer_and_one_that_went_on_for_a_while_does_not(
    clock: SimpleNamespace,
) -> None:
    stand_in = StandIn({0: 5})
    ownership = ownership_of(stand_in)
    assign(stand_in, [0])
    with capture_logs() as logged:
        for wait in (1.0, 2.0, 4.0):
            ownership.fail(0, "a fault")
            assert ownership.not_read[0].again_at == clock.now + wait
            clock.now += wait
        clock.now += 3600.0
        ownership.fail(0, "a fault")
    assert ownership.not_read[0].again_at == clock.now + 1.0
    assert [line["event"] for line in logged] == ["partition_fails", "partition_fails"]


def test_every_assigned_partition_has_a_state_and_those_that_are_not_read_say_why(
    clock: SimpleNamespace,
) -> None:
    stand_in = StandIn(dict.fromkeys(range(6), 5))
    ownership = ownership_of(stand_in)
    assign(stand_in, [0, 1, 2, 3, 4, 5])
    for number in (1, 2, 3):
        ownership.partitions[number] = RankingPartition(number, Assembler(Mark(5, 0, NO_TIME, 5)))
    ownership.stop_at_unreadable(ownership.partitions[2], "bad checksum")
    ownership.fail(4, "a fault")
    ownership.stop_at_lost_offset(5, "offset 5 is gone")
    clock.now += 1.5

    isolated = {
        3: Isolated("too large", since=clock.now - 0.5, tries=1),
        1: Isolated("", since=0.0),
    }
    states = ownership.describe_states(isolated)
    skip = "trimtab offsets skip --partition 2 --offset 5"
    resume = "trimtab offsets resume --partition 5"
    stop = "stop the group's workers, then:"
    assert states == {
        0: {"state": "restoring", "for_ms": 1500},
        1: {"state": "reading"},
        2: {"state": "standing", "for_ms": 1500, "why": f"bad checksum; {stop} {skip}"},
        3: {"state": "failing", "for_ms": 500, "why": "too large"},
        4: {"state": "failing", "for_ms": 1500, "why": "a fault"},
        5: {"state": "standing", "for_ms": 1500, "why": f"offset 5 is gone; {stop} {resume}"},
    }
