"""The newest records of a topic, without reading it whole: committed records only, up to the end as
it was.

A record is newer by its timestamp, then by partition and offset. Timestamps need not rise along a
partition.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from workers.errors import Failure
from workers.streaming.clients import Cluster
from workers.streaming.offsets import answer_of, ask_earliest, ask_latest, ask_since
from workers.streaming.read import check_denied, check_readable, partitions_of
from workers.streaming.records import Fetched, Record, fetched, is_end, read_record

_WINDOW = 64
_BATCH = 1000
_LEADER_MOVES = frozenset({KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE})


class TopicSilent(Failure):
    """The end of the topic was not reached in time; the message names what was left to read."""


class Recent:
    """The records between the first offsets and the high watermarks of a topic, both as they are at
    construction.

    `silence` is how many seconds may pass without progress before TopicSilent is raised: a dead
    worker's transaction is decided after 10 s and the broker's own interval, and what stands behind
    it cannot be read before. Every method raises it, RightMissing, RecordUnreadable, and
    KafkaException where the broker does not answer; the constructor raises TopicMissing and
    BrokerUnreachable.
    """

    def __init__(self, cluster: Cluster, topic: str, silence: float = 30.0) -> None:
        self._cluster, self._topic, self._silence = cluster, topic, silence
        self._admin = cluster.admin()
        self._partitions = partitions_of(self._admin, topic, cluster)
        self._firsts, self._ends = self._answers(ask_earliest), self._answers(ask_latest)

    def last(
        self, count: int, wanted: Callable[[Record], bool] = lambda record: True
    ) -> list[Record]:
        """The `count` newest records that are wanted, the oldest of them first; fewer where there
        are no more.

        Reads backwards in windows that grow, each record once, until no record that is left to read
        can be among them.
        """
        if count < 1:
            raise ValueError(f"count: got {count}, expected at least 1")
        newest: list[Record] = []
        starts, size = dict(self._ends), max(_WINDOW, 2 * count // len(self._ends))
        while spans := self._windows(starts, self._oldest_needed(newest, count), size):
            found = [record for record in self._read(spans) if wanted(record)]
            newest = sorted(newest + found, key=_age)[-count:]
            starts |= {partition: span.start for partition, span in spans.items()}
            size *= 2
        return newest

    def since(self, timestamp_ms: int) -> Iterator[Record]:
        """The records not older than `timestamp_ms` (since the epoch): each partition's in its
        order.
        """
        starts = self._not_older(timestamp_ms)
        for record in self._read(
            {partition: range(starts[partition], end) for partition, end in self._ends.items()}
        ):
            if record.timestamp >= timestamp_ms:
                yield record

    def _oldest_needed(self, newest: list[Record], count: int) -> dict[int, int]:
        """By partition, the first offset that may hold one of the newest: once there are enough, by
        their times.
        """
        return self._firsts if len(newest) < count else self._not_older(newest[0].timestamp)

    def _windows(
        self, starts: Mapping[int, int], needed: Mapping[int, int], size: int
    ) -> dict[int, range]:
        """The next offsets to read of each partition that is not read as far back as needed."""
        return {
            p: range(max(needed[p], start - size), start)
            for p, start in starts.items()
            if needed[p] < start
        }

    def _not_older(self, timestamp_ms: int) -> dict[int, int]:
        """By partition, the first offset whose record is not older: no record before it is as new."""
        found = self._answers(lambda admin, where: ask_since(admin, where, max(timestamp_ms, 0)))
        return {
            p: self._ends[p] if offset < 0 else min(offset, self._ends[p])
            for p, offset in found.items()
        }

    def _answers(
        self, ask: Callable[[AdminClient, TopicPartition], "Future[Any]"]
    ) -> dict[int, int]:
        """The offset that is the answer for each partition; asked again while a partition's leader
        moves.
        """
        asked = time.monotonic()
        while True:
            futures = {
                p: ask(self._admin, TopicPartition(self._topic, p)) for p in self._partitions
            }
            try:
                return {
                    partition: int(answer_of(future).offset)
                    for partition, future in futures.items()
                }
            except KafkaException as error:
                if (
                    error.args[0].code() not in _LEADER_MOVES
                    or time.monotonic() - asked > self._silence
                ):
                    raise
            self._admin.poll(0.02)

    def _read(self, spans: Mapping[int, range]) -> Iterator[Record]:
        """The committed records of each partition's span.

        A consumer of its own for each reading: nothing that was fetched for one can be taken for
        the next.
        """
        left = {partition: span.stop for partition, span in spans.items() if span}
        if not left:
            return
        consumer = self._cluster.reader()
        try:
            # At numbers, never at "the beginning" or "the end": see ARCHITECTURE.md, decision 19.
            consumer.incremental_assign(
                [TopicPartition(self._topic, p, spans[p].start) for p in left]
            )
            heard = time.monotonic()
            while left:
                messages = fetched(consumer.consume(1, 0.1)) + fetched(consumer.consume(_BATCH, 0))
                for message in messages:
                    yield from self._take(consumer, message, left)
                if any(message.error() is None or is_end(message) for message in messages):
                    heard = time.monotonic()
                elif time.monotonic() - heard > self._silence:
                    raise TopicSilent(self._unread(left))
        finally:
            consumer.close()

    def _unread(self, left: Mapping[int, int]) -> str:
        ends = ", ".join(f"{partition} to offset {end}" for partition, end in sorted(left.items()))
        return (
            f"topic {self._topic!r}: nothing came for {self._silence:g} s, expected to read on in partition {ends}; "
            "is a transaction undecided there?"
        )

    def _take(self, consumer: Consumer, message: Fetched, left: dict[int, int]) -> Iterator[Record]:
        """The record that a message is, if it is in its span. A partition whose span is read is
        given up.

        Markers and records of undone transactions take offsets and are not seen: what comes after
        them tells.
        """
        partition, error = message.partition(), message.error()
        if error is not None and not is_end(message):
            check_denied(self._cluster, error, self._topic)
            check_readable(message, error)
            if error.fatal():
                raise KafkaException(error)
            return
        if partition not in left:
            return
        stop, position = left[partition], message.offset()
        if error is None:
            position += 1
            if position <= stop:
                yield read_record(message)
        if position >= stop:
            del left[partition]
            consumer.incremental_unassign([TopicPartition(self._topic, partition)])


def _age(record: Record) -> tuple[int, int, int]:
    return record.timestamp, record.partition, record.offset
