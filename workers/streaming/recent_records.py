"""The newest records of a topic, without reading it whole.

Only committed records are read, up to the end of the topic as it was at the start. A record is
newer by its timestamp, then by partition, then by offset. Timestamps need not rise along a
partition.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from workers.streaming.clients import Cluster
from workers.streaming.log_reader import (
    LogReader,
    ReadError,
    TopicSilent,
    ask_each,
    ask_earliest,
    ask_latest,
    ask_since,
    describe_silence,
    partitions_of,
    raise_if_final,
)
from workers.streaming.records import Record

_FIRST_WINDOW = 64
"""How many offsets of a partition are read in the first step back, at least."""


class Recent:
    """The records between the first offsets and the high watermarks of a topic, both as they are at
    construction.

    `silence` is how many seconds may pass without progress before TopicSilent is raised. A dead
    worker's transaction is decided after 10 s and the broker's own interval, and nothing behind it
    can be read before.

    Every method raises TopicSilent, RightMissing, RecordUnreadable, and KafkaException if the
    broker does not answer. The constructor raises TopicMissing and BrokerUnreachable.
    """

    def __init__(self, cluster: Cluster, topic: str, silence: float = 30.0) -> None:
        self._cluster = cluster
        self._topic = topic
        self._silence = silence
        self._admin = cluster.admin()
        self._partitions = partitions_of(self._admin, topic, cluster)
        self._starts = ask_each(self._admin, topic, self._partitions, ask_earliest, silence)
        self._ends = ask_each(self._admin, topic, self._partitions, ask_latest, silence)

    def last(
        self, count: int, wanted: Callable[[Record], bool] = lambda record: True
    ) -> list[Record]:
        """Return the `count` newest wanted records, the oldest of them first. Fewer if there are no
        more.

        Reads backwards in windows that grow, each record once, until no record that is left to read
        can be among the newest.
        """
        if count < 1:
            raise ValueError(f"count: got {count}, expected at least 1")
        newest: list[Record] = []
        read_from = dict(self._ends)
        size = max(_FIRST_WINDOW, 2 * count // len(self._ends))

        while True:
            # Once there are enough, only what is not older than the oldest of them can displace
            # one.
            is_enough = len(newest) >= count
            needed = self._not_older(newest[0].timestamp) if is_enough else self._starts
            windows: dict[int, range] = {}
            for partition, start in read_from.items():
                if needed[partition] < start:
                    windows[partition] = range(max(needed[partition], start - size), start)
            if not windows:
                return newest

            newest += [record for record in self._read(windows) if wanted(record)]
            newest.sort(key=lambda record: (record.timestamp, record.partition, record.offset))
            newest = newest[-count:]
            for partition, window in windows.items():
                read_from[partition] = window.start
            size *= 2

    def since(self, timestamp_ms: int) -> Iterator[Record]:
        """The records that are not older than `timestamp_ms` (since the epoch). Those of a
        partition come in its order.
        """
        starts = self._not_older(timestamp_ms)
        spans = {partition: range(starts[partition], end) for partition, end in self._ends.items()}
        for record in self._read(spans):
            if record.timestamp >= timestamp_ms:
                yield record

    def record_ends(self) -> dict[int, int]:
        """By partition, the offset after its last record: behind it are only transaction markers and
        records of aborted transactions. A partition without records is left out.
        """
        ends: dict[int, int] = {}
        read_from = dict(self._ends)
        size = _FIRST_WINDOW

        while True:
            windows: dict[int, range] = {}
            for partition, start in read_from.items():
                first = self._starts[partition]
                if partition not in ends and first < start:
                    windows[partition] = range(max(first, start - size), start)
            if not windows:
                return ends

            for record in self._read(windows):
                ends[record.partition] = record.offset + 1
            for partition, window in windows.items():
                read_from[partition] = window.start
            size *= 2

    def whole_since(self) -> int:
        """The time (ms since the epoch) since when no record was deleted by retention: that of the
        first record that is left in its partition. -1 if nothing was deleted.
        """
        spans: dict[int, range] = {}
        for partition, start in self._starts.items():
            if start > 0:
                spans[partition] = range(start, self._ends[partition])

        whole_since = -1
        waiting = set(spans)
        for record in self._read(spans):
            if record.partition in waiting:
                waiting.discard(record.partition)
                whole_since = max(whole_since, record.timestamp)
            if not waiting:
                break
        return whole_since

    def _not_older(self, timestamp_ms: int) -> dict[int, int]:
        """By partition, the first offset whose record is not older. Every record before it is."""

        def ask(admin: AdminClient, where: TopicPartition) -> "Future[Any]":
            return ask_since(admin, where, max(timestamp_ms, 0))

        offsets = ask_each(self._admin, self._topic, self._partitions, ask, self._silence)
        for partition, offset in offsets.items():
            end = self._ends[partition]
            offsets[partition] = end if offset < 0 else min(offset, end)
        return offsets

    def _read(self, spans: Mapping[int, range]) -> Iterator[Record]:
        """The committed records of each partition's span of offsets.

        Each reading has a reader of its own: nothing that was fetched for one can be taken for the
        next.
        """
        if not any(spans.values()):
            return
        with closing(LogReader(self._cluster)) as reader:
            for partition, span in spans.items():
                reader.start(self._topic, partition, span.start, span.stop)

            progress_at = time.monotonic()
            while reader.is_reading:
                has_progressed = False
                for event in reader.poll(0.1):
                    if isinstance(event, ReadError):
                        raise_if_final(self._cluster, self._topic, event)
                        continue
                    has_progressed = True
                    if isinstance(event, Record):
                        yield event
                if has_progressed:
                    progress_at = time.monotonic()
                elif time.monotonic() - progress_at > self._silence:
                    raise TopicSilent(self._describe_unread(reader, spans))

    def _describe_unread(self, reader: LogReader, spans: Mapping[int, range]) -> str:
        unread = {
            partition: span.stop
            for partition, span in spans.items()
            if reader.is_reading_partition(self._topic, partition)
        }
        return describe_silence(self._topic, self._silence, unread)
