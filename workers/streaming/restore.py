"""Restore: what a newly assigned partition must know, read from the two logs, without stopping the
others.

Each restore is a generator that yields while it waits. In order, and the order matters:
1. the committed offset and its pointer, once no undecided transaction touches them
   (`require_stable`);
2. the output's high watermark as of then;
3. the output from `scan` to that watermark under read_committed. This also waits out a transaction
   whose markers are still being written, so that a feed published by the last owner can never be
   missed;
4. the dead letters, whole, if the events to be replayed were judged by other rules than those of
   today, or if nobody knows (no pointer). Otherwise they are not read at all.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from workers.assembly.assembler import NO_TIME, Mark
from workers.assembly.replay import PastLetter, Replay, length_of
from workers.codec.dead_letters import read_dead_letter
from workers.codec.feeds import FeedIdentity, read_feed_identity
from workers.codec.pointer import Pointer, Span, read_pointer
from workers.log import log
from workers.ranking.refusal import Reason
from workers.ranking.surface import Surfaces
from workers.streaming.clients import Cluster
from workers.streaming.hanging_calls import CallThread
from workers.streaming.log_reader import SECONDS as OFFSETS_SECONDS
from workers.streaming.log_reader import Watermarks, ask_earliest, ask_latest
from workers.streaming.reachability import BrokerReachability
from workers.streaming.records import Fetched, Record, fetched, is_end, is_unreadable, read_record
from workers.streaming.rights import Resource, Right, denied_resource, grant_commands

T = TypeVar("T")
_RETRY_SECONDS = 0.25
_GRACE_SECONDS = 2.0
_UNREAD_SECONDS = 10.0


class Remembered(NamedTuple):
    """One published request: until when (ms of stream time) it is remembered, and where its feed
    stands.
    """

    request_id: str
    expires: int
    ledger: int


class Restored(NamedTuple):
    """What the logs say of a partition. `end` is the output offset up to which they were read."""

    partition: int
    mark: Mark
    end: int
    published: list[Remembered]
    replay: Replay
    skip: tuple[Span, ...] = ()


class OffsetsLost(NamedTuple):
    """The committed offset is not in the log any more: retention, or a topic that was made anew."""

    partition: int
    committed: int
    earliest: int
    latest: int


Step = Generator[None, None, T]


@dataclass(frozen=True)
class RestoreTopics:
    """Which group's offsets, and between which topics."""

    group: str
    candidates: str
    feeds: str
    dead_letters: str


class Restorer:
    """Restores partitions side by side; `advance` never waits.

    `rules` is the digest of the rules of today. `waits_for` says, by partition, what a restore
    under way waits for.
    """

    def __init__(
        self,
        cluster: Cluster,
        topics: RestoreTopics,
        surfaces: Surfaces,
        rules: str,
        reach: BrokerReachability | None = None,
    ) -> None:
        self._cluster = cluster
        self._reach = reach or BrokerReachability()
        self._topics = topics
        self._rules = rules
        self._horizons = {surface.name: surface.horizon_ms for surface in surfaces.values()}
        self._longest = max(self._horizons.values())
        self._admin: AdminClient | None = None
        self._away_until = 0.0  # monotonic seconds; the broker has just not answered
        self._reader: Consumer | None = None
        self._group_reader: Consumer | None = None
        self._inboxes: dict[tuple[str, int], deque[Fetched]] = {}
        self._running: dict[int, Step[Restored | OffsetsLost]] = {}
        self.waits_for: dict[int, str] = {}

    def begin(self, partitions: Iterable[int]) -> None:
        """Start to restore; a restore of the same partition under way is dropped."""
        for partition in partitions:
            self.cancel([partition])
            self._running[partition] = self._restore(partition)

    def cancel(self, partitions: Iterable[int]) -> None:
        """Drop the restores of partitions that are not ours any more."""
        for partition in partitions:
            if self._running.pop(partition, None) is None:
                continue
            self.waits_for.pop(partition, None)
            for topic, number in list(self._inboxes):
                if number == partition:
                    self._stop_reading(TopicPartition(topic, number))

    @property
    def busy(self) -> bool:
        """Whether a restore is under way."""
        return bool(self._running)

    @property
    def partitions(self) -> list[int]:
        """The partitions that are being restored."""
        return list(self._running)

    def advance(self) -> list[Restored | OffsetsLost]:
        """Take every restore as far as it goes without waiting; return those that are complete."""
        self._fill_inboxes()
        complete = []
        for partition, steps in list(self._running.items()):
            try:
                next(steps)
            except StopIteration as stop:
                del self._running[partition]
                self.waits_for.pop(partition, None)
                complete.append(stop.value)
        if not self._running:
            self.close()
        return complete

    def close(self) -> None:
        """Drop everything under way, and the connections with it."""
        self.cancel(list(self._running))
        self._admin = None
        # Not closed: a question for it may be under way in another thread, which then holds it.
        self._group_reader = None
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

        mark = starting_mark(offset, pointer, inputs, outputs)
        rules = pointer.rules if pointer is not None and is_usable(pointer, outputs) else ""
        self.waits_for[partition] = (
            f"reads {target.topic} from offset {mark.scan} to {outputs.latest}"
        )
        published = yield from self._read_ledger(target, mark.scan, outputs.latest)

        letters: dict[int, list[PastLetter]] | None = None
        if rules != self._rules and mark.low_water < mark.next:
            letters = yield from self._read_letters(partition, range(mark.low_water, mark.next))
        replay = Replay(mark.next, letters, [remembered.request_id for remembered in published])
        skip = pointer.skip if pointer is not None else ()
        return Restored(partition, mark, outputs.latest, published, replay, skip)

    def _committed(self, source: TopicPartition) -> Step[TopicPartition]:
        """What the group has committed, once no undecided transaction touches it.

        A consumer is asked and not an admin client. That crashes the process if the coordinator
        goes away while it is asked (an assertion of librdkafka 2.16, see its #5397). The call
        blocks, so it runs on a thread of its own, one for each partition: an undecided transaction
        on one does not hold up the others.
        """
        partition = source.partition
        why = f"asks for the committed offset of group {self._topics.group!r}"
        self.waits_for[partition] = why
        is_logged = False
        while True:
            consumer = self._group_reader = self._group_reader or self._cluster.reader(
                self._topics.group
            )
            calls = CallThread("committed offset")
            answer = calls.submit(partial(consumer.committed, [source], OFFSETS_SECONDS))
            calls.end(_nothing)
            del consumer
            overdue = time.monotonic() + OFFSETS_SECONDS + _GRACE_SECONDS
            while not answer.done() and time.monotonic() < overdue:
                yield

            if not answer.done():
                error = f"no answer within {OFFSETS_SECONDS + _GRACE_SECONDS:g} s"
                self._group_reader = None
            else:
                try:
                    found: TopicPartition = answer.result()[0]
                except KafkaException as failed:
                    error = self._reach.explain(failed.args[0])
                else:
                    if found.error is None:
                        return found
                    error = self._reach.explain(found.error)

            self.waits_for[partition] = f"{why}: {error}"
            if not is_logged:
                log.warning("restore_waits", partition=partition, error=error)
            is_logged = True
            yield from _pause()

    def _watermarks(self, where: TopicPartition) -> Step[Watermarks]:
        partition = where.partition
        self.waits_for[partition] = f"asks where {where.topic} begins and ends"
        earliest = yield from self._wait(partition, lambda admin: ask_earliest(admin, where))
        latest = yield from self._wait(partition, lambda admin: ask_latest(admin, where))
        return Watermarks(earliest.offset, latest.offset)

    def _wait(self, partition: int, ask: Callable[[AdminClient], Future[T]]) -> Step[T]:
        """Ask, and ask again after an error that passes: the broker is away, or an offset is
        undecided.
        """
        is_logged = False
        while True:
            while time.monotonic() < self._away_until:
                yield
            admin: AdminClient | None = None
            try:
                # Held until the answer: a client that is collected answers nothing any more.
                admin = self._admin = self._admin or self._new_admin()
                future = ask(admin)
                overdue = time.monotonic() + OFFSETS_SECONDS + _GRACE_SECONDS
                while not future.done() and time.monotonic() < overdue:
                    yield
                if future.done():
                    return future.result()
                why = f"no answer within {OFFSETS_SECONDS + _GRACE_SECONDS:g} s"
            except KafkaException as error:
                why = self._reach.explain(error.args[0])
            self.waits_for[partition] = why
            if not is_logged:
                log.warning("restore_waits", partition=partition, error=why)
            is_logged = True
            # After a broker's crash a client may wait for ever for its coordinator: seen on
            # librdkafka 2.16.
            if self._admin is admin:
                self._admin = None
            yield from _pause()

    def _new_admin(self) -> AdminClient:
        admin = self._cluster.admin()
        try:
            # Without metadata its first question about offsets now and then takes 1 or 3 s
            # (librdkafka 2.16).
            admin.list_topics(timeout=1.0)
        except KafkaException:
            # This waits, and so only one restore finds out for all of them.
            self._away_until = time.monotonic() + _RETRY_SECONDS
            raise
        return admin

    def _read_ledger(self, target: TopicPartition, scan: int, end: int) -> Step[list[Remembered]]:
        published: list[Remembered] = []
        yield from self._read_log(
            target, scan, end, lambda record: published.append(self._remember(record))
        )
        return published

    def _read_letters(self, partition: int, offsets: range) -> Step[dict[int, list[PastLetter]]]:
        """By input offset, the letters that are out for the events of a partition at `offsets`.

        A worker that may not or cannot read them goes on: events that were refused before are then
        refused a second time, which doubles a dead letter and loses nothing.
        """
        where = TopicPartition(self._topics.dead_letters, partition)
        letters: dict[int, list[PastLetter]] = {}

        def take(record: Record) -> None:
            letter = read_dead_letter(record.key, record.value, record.headers)
            if letter is None or (letter.topic, letter.partition) != (
                self._topics.candidates,
                partition,
            ):
                return
            if letter.offset not in offsets:
                return
            past = PastLetter(
                is_partial=letter.reason == Reason.CANDIDATES,
                message=letter.message,
                has_key=letter.key_bytes is None,
                key=letter.key,
                value_bytes=length_of(letter.value)
                if letter.value_bytes is None
                else letter.value_bytes,
            )
            letters.setdefault(letter.offset, []).append(past)

        watermarks = yield from self._watermarks(where)
        self.waits_for[partition] = f"reads {where.topic} up to offset {watermarks.latest}"
        error = yield from self._read_log(
            where, watermarks.earliest, watermarks.latest, take, gives_up=True
        )
        if error is not None:
            risk = "events that were refused before may become dead letters a second time"
            mend: dict[str, str] = {}
            if denied_resource(error) is not None:
                right = Right("Read", Resource.TOPIC, where.topic)
                mend = {"right": str(right), "grant": grant_commands(self._cluster, [right])}
            log.warning(
                "dead_letters_unread", partition=partition, error=error.str(), risk=risk, **mend
            )
        log.info("judged_by_other_rules", partition=partition, dead_letters=len(letters))
        return letters

    def _read_log(
        self,
        where: TopicPartition,
        start: int,
        end: int,
        take: Callable[[Record], None],
        gives_up: bool = False,
    ) -> Step[KafkaError | None]:
        """Hand over every committed record from `start` to `end`.

        If we may not read the topic, or a record of it cannot be read, return the error if it
        `gives_up`, and otherwise say so and wait.
        """
        if start >= end:
            return None
        self._start_reading(where, start)
        inbox, position, waits_for = self._inboxes[where.topic, where.partition], start, ""
        while position < end:
            yield
            while inbox:
                message = inbox.popleft()
                error = message.error()
                if error is None:
                    position = message.offset() + 1
                    take(read_record(message))
                elif is_end(message):
                    position = max(position, message.offset())
                elif gives_up and (denied_resource(error) is not None or is_unreadable(error)):
                    self._stop_reading(where)
                    return error
                else:
                    why = self._reach.explain(error)
                    if why != waits_for:
                        waits_for = why
                        self.waits_for[where.partition] = (
                            f"reads {where.topic} from offset {position}: {why}"
                        )
                        log.warning(
                            "restore_waits", partition=where.partition, topic=where.topic, error=why
                        )
                    if is_unreadable(error):
                        # Behind damaged records the client may read at random: begin again at the
                        # same place.
                        self._stop_reading(where)
                        yield from _pause(_UNREAD_SECONDS)
                        self._start_reading(where, position)
                        inbox = self._inboxes[where.topic, where.partition]
        self._stop_reading(where)
        return None

    def _remember(self, record: Record) -> Remembered:
        feed: FeedIdentity | None = read_feed_identity(record.value, record.headers)
        if feed is None:
            log.warning("foreign_feed", partition=record.partition, offset=record.offset)
            key = (record.key or b"").decode("utf-8", "replace")
            return Remembered(key, record.timestamp + self._longest, record.offset)
        horizon = self._horizons.get(feed.surface, self._longest)
        return Remembered(feed.request_id, feed.requested_at + horizon, record.offset)

    def _start_reading(self, where: TopicPartition, start: int) -> None:
        if self._reader is None:
            self._reader = self._cluster.reader()
        self._inboxes[where.topic, where.partition] = deque()
        self._reader.incremental_assign([TopicPartition(where.topic, where.partition, start)])

    def _stop_reading(self, where: TopicPartition) -> None:
        del self._inboxes[where.topic, where.partition]
        if self._reader is not None:
            self._reader.incremental_unassign([TopicPartition(where.topic, where.partition)])

    def _fill_inboxes(self) -> None:
        if self._reader is None:
            return
        for message in fetched(self._reader.consume(5000, 0)):
            inbox = self._inboxes.get((message.topic(), message.partition()))
            if inbox is not None:
                inbox.append(message)


def is_usable(pointer: Pointer, outputs: Watermarks) -> bool:
    """Whether a pointer is of the output topic that is there: it may have been made again."""
    return pointer.scan <= outputs.latest


def starting_mark(
    offset: int, pointer: Pointer | None, inputs: Watermarks, outputs: Watermarks
) -> Mark:
    """Where a replay begins. `offset` is the committed one, or the first that is left.

    Without a pointer, or with one of another output topic, the whole output is read: a feed that is
    out is never published again. And every event that is there by now may have been judged before.
    """
    if pointer is None or not is_usable(pointer, outputs):
        return Mark(offset, outputs.earliest, NO_TIME, max(inputs.latest, offset))
    return Mark(
        offset, max(pointer.scan, outputs.earliest), pointer.time, max(pointer.next, offset)
    )


def _pause(seconds: float = _RETRY_SECONDS) -> Step[None]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield


def _nothing() -> None:
    """The last call of a thread that has no other."""
