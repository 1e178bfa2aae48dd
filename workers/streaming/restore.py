"""Restore: what a newly assigned partition must know, read from the two logs, without stopping the others.

Each restore is a generator that yields while it waits. In order, and the order matters:
1. the committed offset and its pointer, once no undecided transaction touches them (`require_stable`);
2. the output's high watermark as of then;
3. the output from `scan` to that watermark under read_committed. This also waits out a transaction whose markers are
   still being written, so that a feed published by the last owner can never be missed.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from workers.assembly.assembler import NO_TIME, Mark
from workers.codec.feeds import Published, read_published
from workers.codec.pointer import Pointer, read_pointer
from workers.observe.log import log
from workers.ranking.surface import Surfaces
from workers.streaming.clients import Cluster
from workers.streaming.offsets import ask_committed, ask_earliest, ask_latest
from workers.streaming.records import Fetched, Record, fetched, is_end, read_record

T = TypeVar("T")
_RETRY_SECONDS = 0.25


class Remembered(NamedTuple):
    """One published request: until when (ms of stream time) it is remembered, and where its feed stands."""

    request_id: str
    expires: int
    ledger: int


class Restored(NamedTuple):
    """What the two logs say of a partition. `end` is the output offset up to which they were read."""

    partition: int
    mark: Mark
    end: int
    published: list[Remembered]


class OffsetsLost(NamedTuple):
    """The committed offset is not in the log any more: retention, or a topic that was made anew."""

    partition: int
    committed: int
    earliest: int
    latest: int


class _Watermarks(NamedTuple):
    earliest: int
    latest: int


Step = Generator[None, None, T]


@dataclass(frozen=True)
class RestoreTopics:
    """Which group's offsets, and between which topics."""

    group: str
    candidates: str
    feeds: str


class Restorer:
    """Restores partitions side by side; `advance` never waits."""

    def __init__(self, cluster: Cluster, topics: RestoreTopics, surfaces: Surfaces) -> None:
        self._cluster, self._topics = cluster, topics
        self._horizons = {surface.name: surface.horizon_ms for surface in surfaces.values()}
        self._longest = max(self._horizons.values())
        self._admin: AdminClient | None = None
        self._reader: Consumer | None = None
        self._inbox: dict[int, deque[Fetched]] = {}
        self._running: dict[int, Step[Restored | OffsetsLost]] = {}

    def begin(self, partitions: Iterable[int]) -> None:
        """Start to restore; a restore of the same partition under way is dropped."""
        for partition in partitions:
            self.cancel([partition])
            self._running[partition] = self._restore(partition)

    def cancel(self, partitions: Iterable[int]) -> None:
        """Drop the restores of partitions that are not ours any more."""
        for partition in partitions:
            if self._running.pop(partition, None) is not None and partition in self._inbox:
                self._stop_reading(partition)

    @property
    def busy(self) -> bool:
        """Whether a restore is under way."""
        return bool(self._running)

    def advance(self) -> list[Restored | OffsetsLost]:
        """Take every restore as far as it goes without waiting; return those that are complete."""
        self._fill_inboxes()
        complete = []
        for partition, steps in list(self._running.items()):
            try:
                next(steps)
            except StopIteration as stop:
                del self._running[partition]
                complete.append(stop.value)
        if not self._running:
            self.close()
        return complete

    def close(self) -> None:
        """Drop everything under way, and the connections with it."""
        self.cancel(list(self._running))
        self._admin = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _restore(self, partition: int) -> Step[Restored | OffsetsLost]:
        source = TopicPartition(self._topics.candidates, partition)
        target = TopicPartition(self._topics.feeds, partition)
        committed = yield from self._committed(source)
        inputs = yield from self._watermarks(source)
        outputs = yield from self._watermarks(target)
        offset, pointer = committed.offset, read_pointer(committed.metadata)
        if offset < 0:
            offset = inputs.earliest
        elif not inputs.earliest <= offset <= inputs.latest:
            return OffsetsLost(partition, offset, inputs.earliest, inputs.latest)
        mark = _starting_mark(offset, pointer, outputs)
        published = yield from self._read_ledger(target, mark.scan, outputs.latest)
        return Restored(partition, mark, outputs.latest, published)

    def _committed(self, source: TopicPartition) -> Step[TopicPartition]:
        while True:
            answer = yield from self._wait(lambda admin: ask_committed(admin, self._topics.group, source))
            found: TopicPartition = answer.topic_partitions[0]
            if found.error is None:
                return found
            yield from _pause()

    def _watermarks(self, where: TopicPartition) -> Step[_Watermarks]:
        earliest = yield from self._wait(lambda admin: ask_earliest(admin, where))
        latest = yield from self._wait(lambda admin: ask_latest(admin, where))
        return _Watermarks(earliest.offset, latest.offset)

    def _wait(self, ask: Callable[[AdminClient], Future[T]]) -> Step[T]:
        """Ask, and ask again after an error that passes: the broker is away, or an offset is undecided."""
        said = False
        while True:
            # Held until the answer: a client that is collected answers nothing any more.
            try:
                admin = self._admin = self._admin or self._new_admin()
                future = ask(admin)
                while not future.done():
                    yield
                return future.result()
            except KafkaException as error:
                if not said:
                    log.warning("restore_waits", error=error.args[0].str())
                said = True
            # After a broker's crash a client may wait for ever for its coordinator: seen on librdkafka 2.16.
            self._admin = None
            yield from _pause()

    def _new_admin(self) -> AdminClient:
        admin = self._cluster.admin()
        # Without metadata its first question about offsets now and then takes 1 or 3 s (librdkafka 2.16).
        admin.list_topics(timeout=1.0)
        return admin

    def _read_ledger(self, target: TopicPartition, scan: int, end: int) -> Step[list[Remembered]]:
        published: list[Remembered] = []
        if scan >= end:
            return published
        self._start_reading(target, scan)
        inbox, position = self._inbox[target.partition], scan
        while position < end:
            yield
            while inbox:
                message = inbox.popleft()
                if is_end(message):
                    position = max(position, message.offset())
                elif message.error() is None:
                    position = message.offset() + 1
                    published.append(self._remember(read_record(message)))
        self._stop_reading(target.partition)
        return published

    def _remember(self, record: Record) -> Remembered:
        feed: Published | None = read_published(record.value, record.headers)
        if feed is None:
            log.warning("foreign_feed", partition=record.partition, offset=record.offset)
            key = (record.key or b"").decode("utf-8", "replace")
            return Remembered(key, record.timestamp + self._longest, record.offset)
        horizon = self._horizons.get(feed.surface, self._longest)
        return Remembered(feed.request_id, feed.requested_at + horizon, record.offset)

    def _start_reading(self, target: TopicPartition, scan: int) -> None:
        if self._reader is None:
            self._reader = self._cluster.reader()
        self._inbox[target.partition] = deque()
        self._reader.incremental_assign([TopicPartition(target.topic, target.partition, scan)])

    def _stop_reading(self, partition: int) -> None:
        del self._inbox[partition]
        if self._reader is not None:
            self._reader.incremental_unassign([TopicPartition(self._topics.feeds, partition)])

    def _fill_inboxes(self) -> None:
        if self._reader is None:
            return
        for message in fetched(self._reader.consume(5000, 0)):
            inbox = self._inbox.get(message.partition())
            if inbox is not None:
                inbox.append(message)


def _starting_mark(offset: int, pointer: Pointer | None, outputs: _Watermarks) -> Mark:
    """Without a pointer the whole output is read: a feed that is out is never published again."""
    if pointer is None or pointer.scan > outputs.latest:
        return Mark(offset, outputs.earliest, NO_TIME, offset)
    return Mark(offset, max(pointer.scan, outputs.earliest), pointer.time, max(pointer.next, offset))


def _pause() -> Step[None]:
    until = time.monotonic() + _RETRY_SECONDS
    while time.monotonic() < until:
        yield
