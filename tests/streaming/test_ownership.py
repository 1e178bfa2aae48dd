"""Where a partition stands between its assignment and the end of its restore.

The consumer is a stand-in: the moment that matters, an answer of the broker that comes after a
seek, cannot be had at will from a real one. Rebalances and restores on a real broker are in
tests/integration.
"""

from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tests.builders import HOME
from workers.assembly.budget import Budget
from workers.counts import Counts
from workers.streaming.clients import Cluster
from workers.streaming.ownership import Ownership
from workers.streaming.placement import Placement
from workers.streaming.restore import Restorer, RestoreTopics


class StandIn:
    """Takes a subscription, and notes what is assigned and paused."""

    def __init__(self, ends: dict[int, int]) -> None:
        self.ends = ends
        self.assigned: list[TopicPartition] = []
        self.paused: list[TopicPartition] = []

    def subscribe(self, _topics: list[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self.on_assign = on_assign

    def get_watermark_offsets(self, where: TopicPartition, timeout: float) -> tuple[int, int]:
        if where.partition not in self.ends:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return 0, self.ends[where.partition]

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        self.assigned += places

    def pause(self, places: list[TopicPartition]) -> None:
        self.paused += places


def assigned_offsets(ends: dict[int, int], partitions: list[int]) -> list[int]:
    stand_in = StandIn(ends)
    consumer = cast(Consumer, stand_in)
    restorer = Restorer(
        Cluster("127.0.0.1:1"),
        RestoreTopics("g", "candidates", "feeds", "letters"),
        {"home": HOME},
        "rules",
    )
    placement = Placement(count=4, is_required=False, counts=Counts(), ask_count=lambda: None)
    Ownership(
        consumer, restorer, "candidates", Budget(), cooperative=True, placement=placement
    ).subscribe()
    stand_in.on_assign(consumer, [TopicPartition("candidates", number) for number in partitions])
    assert [p.partition for p in stand_in.paused] == partitions
    return [place.offset for place in stand_in.assigned]


def test_an_assigned_partition_stands_at_a_number_and_never_at_a_logical_offset() -> None:
    assert assigned_offsets({0: 40_000, 3: 7}, [0, 3]) == [40_000, 7]


def test_a_broker_that_does_not_answer_is_asked_once_and_the_partitions_stand_at_the_beginning() -> (
    None
):
    assert assigned_offsets({0: 5}, [0, 1, 2]) == [5, 0, 0]
