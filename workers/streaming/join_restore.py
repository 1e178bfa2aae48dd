"""The restore of a partition of interactions: the mark, and the sums that can still change.

| offset and pointer                     | sums of this partition | what is done              |
|----------------------------------------|------------------------|---------------------------|
| a pointer of this output topic         | read from its `scan`   | replay from the offset    |
| none, or of another output topic       | none                   | read from the offset, as  |
|                                        |                        |   a new group does        |
| none, or of another output topic       | some                   | stand still: which feeds  |
|                                        |                        |   are in them is not known|
"""

from typing import NamedTuple

from confluent_kafka import TopicPartition

from workers.codec.outcomes import FeedOutcomes, decode_feed_outcomes
from workers.codec.pointer import Span, read_pointer
from workers.log import log
from workers.outcomes.join import NO_TIME, NOTHING_OUT, Due, JoinMark
from workers.outcomes.records import HOUR_MS
from workers.streaming.clients import Cluster
from workers.streaming.reachability import BrokerReachability
from workers.streaming.records import Record
from workers.streaming.restore import CannotRestore, OffsetsLost, Restorer, find_positions
from workers.streaming.restore_steps import RestoreSteps, Step
from workers.streaming.topics import JoinTopics


class RestoredSums(NamedTuple):
    """The last sums of a key that can still change, and their offset in the output."""

    outcomes: FeedOutcomes
    offset: int


class RestoredJoin(NamedTuple):
    """What the logs say of a partition. `end` is the output offset up to which they were read."""

    partition: int
    mark: JoinMark
    end: int
    sums: list[RestoredSums]
    skip: tuple[Span, ...] = ()

    @property
    def low_water(self) -> int:
        """The first offset to be replayed."""
        return self.mark.low_water

    @property
    def next(self) -> int:
        """The first offset that was not taken before."""
        return self.mark.next

    @property
    def records_read(self) -> int:
        """How many keys have sums that can still change."""
        return len(self.sums)


def join_restorer(
    cluster: Cluster, group: str, topics: JoinTopics, reachability: BrokerReachability
) -> Restorer[RestoredJoin]:
    """The restores of a process that joins outcomes."""
    steps = RestoreSteps(cluster, group, reachability)
    return Restorer(steps, JoinRestore(steps, topics, group).restore)


class JoinRestore:
    """The recipe of a restore."""

    def __init__(self, steps: RestoreSteps, topics: JoinTopics, group: str) -> None:
        self._steps = steps
        self._topics = topics
        self._group = group

    def restore(self, partition: int) -> Step[RestoredJoin | OffsetsLost | CannotRestore]:
        """Restore the partition of this number."""
        source = TopicPartition(self._topics.interactions, partition)
        target = TopicPartition(self._topics.feed_outcomes, partition)
        found = yield from find_positions(self._steps, source, target)
        if isinstance(found, OffsetsLost):
            return found

        pointer = read_pointer(found.metadata)
        end = found.outputs.latest
        if pointer is None or pointer.scan > end:
            sums = yield from self._read_sums(target, found.outputs.earliest, end, 0)
            if sums:
                return CannotRestore(
                    partition,
                    f"{target.topic} has sums of this partition, but group {self._group!r} has"
                    " no pointer to them, so which feeds are in them is not known; expected the"
                    " group that wrote them, or a new topic",
                )
            mark = JoinMark(low_water=found.offset, scan=end, time=NO_TIME, next=found.offset)
            return RestoredJoin(partition, mark, end, [])

        mark = JoinMark(
            low_water=found.offset,
            scan=max(pointer.scan, found.outputs.earliest),
            time=pointer.time,
            next=max(pointer.next, found.offset),
            out=NOTHING_OUT if pointer.out is None else Due(*pointer.out),
        )
        sums = yield from self._read_sums(target, mark.scan, end, mark.time // HOUR_MS)
        return RestoredJoin(partition, mark, end, sums, pointer.skip)

    def _read_sums(
        self, target: TopicPartition, scan: int, end: int, first_hour: int
    ) -> Step[list[RestoredSums]]:
        """The last sums of each key from an hour on, in the output from `scan` up to `end`."""
        self._steps.waits_for[target.partition] = (
            f"reads {target.topic} from offset {scan} to {end}"
        )
        latest: dict[object, RestoredSums] = {}

        def take(record: Record) -> None:
            try:
                outcomes = decode_feed_outcomes(record.value, record.headers)
            except (ValueError, RecursionError) as error:
                log.warning(
                    "foreign_sums",
                    partition=record.partition,
                    offset=record.offset,
                    error=str(error),
                )
                return
            if outcomes.key.hour >= first_hour:
                latest[outcomes.key] = RestoredSums(outcomes, record.offset)

        yield from self._steps.read_log(target, scan, end, take)
        return list(latest.values())
