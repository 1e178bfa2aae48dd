"""Restore: what a newly assigned partition must know, read from the logs, without stopping the
others.

The steps of a restore, in this order, and the order matters:

1. The committed offset and its pointer, once no undecided transaction touches them.
2. The high watermark of the output as of then.
3. The output from the pointer's `scan` to that watermark, under read_committed. This also waits for
   a transaction whose markers are still being written, so that a feed published by the last owner
   can never be missed.
4. The dead letters, all of them, if the events to be replayed were judged by other rules than those
   of today, or if that is not known (no pointer). Otherwise they are not read at all.

Restores run side by side: each is a generator that yields while it waits (restore_steps.py).
"""

from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import TopicPartition

from workers.assembly.assembler import NO_TIME, Mark
from workers.assembly.replay import PastLetter, Replay, length_of
from workers.codec.dead_letters import read_dead_letter
from workers.codec.feeds import read_feed_identity
from workers.codec.pointer import Pointer, Span, read_pointer
from workers.log import log
from workers.ranking.refusal import Reason
from workers.ranking.surface import Surfaces
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import Watermarks
from workers.streaming.reachability import BrokerReachability
from workers.streaming.records import Record
from workers.streaming.restore_steps import RestoreSteps, Step
from workers.streaming.rights import Resource, Right, denied_resource, grant_commands
from workers.streaming.topics import WorkerTopics


class Remembered(NamedTuple):
    """A published request. `expires`: until when it is remembered, in ms of stream time. `ledger`:
    the output offset of its feed.
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
    """The committed offset is not in the log any more: retention removed it, or the topic was made
    again.
    """

    partition: int
    committed: int
    earliest: int
    latest: int


class Restorer:
    """Restores partitions side by side. `advance` never waits.

    `rules` is the digest of the rules of today.
    """

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        topics: WorkerTopics,
        surfaces: Surfaces,
        rules: str,
        reachability: BrokerReachability | None = None,
    ) -> None:
        self._cluster = cluster
        self._topics = topics
        self._rules = rules
        self._horizons = {surface.name: surface.horizon_ms for surface in surfaces.values()}
        self._longest_horizon = max(self._horizons.values())
        self._steps = RestoreSteps(cluster, group, reachability or BrokerReachability())
        self._running: dict[int, Step[Restored | OffsetsLost]] = {}

    @property
    def is_busy(self) -> bool:
        """Whether a restore is under way."""
        return bool(self._running)

    @property
    def partitions(self) -> list[int]:
        """The partitions that are being restored."""
        return list(self._running)

    @property
    def waits_for(self) -> dict[int, str]:
        """By partition, what its restore waits for, for people."""
        return self._steps.waits_for

    def begin(self, partitions: Iterable[int]) -> None:
        """Start to restore. A restore of the same partition that is under way is dropped."""
        for partition in partitions:
            self.cancel([partition])
            self._running[partition] = self._restore(partition)

    def cancel(self, partitions: Iterable[int]) -> None:
        """Drop the restores of partitions that are not ours any more."""
        for partition in partitions:
            if self._running.pop(partition, None) is not None:
                self._steps.forget(partition)

    def advance(self) -> list[Restored | OffsetsLost]:
        """Take every restore as far as it goes without waiting. Return the results of those that
        are complete.
        """
        self._steps.poll()
        results = []
        for partition, restore in list(self._running.items()):
            try:
                next(restore)
            except StopIteration as stop:
                del self._running[partition]
                self._steps.forget(partition)
                results.append(stop.value)
        if not self._running:
            self._steps.close()
        return results

    def close(self) -> None:
        """Drop everything under way, and the connections with it."""
        self.cancel(list(self._running))
        self._steps.close()

    def _restore(self, partition: int) -> Step[Restored | OffsetsLost]:
        source = TopicPartition(self._topics.candidates, partition)
        target = TopicPartition(self._topics.feeds, partition)
        committed = yield from self._steps.committed(source)
        inputs = yield from self._steps.watermarks(source)
        outputs = yield from self._steps.watermarks(target)

        offset = committed.offset
        if offset < 0:
            offset = inputs.earliest
        elif not inputs.earliest <= offset <= inputs.latest:
            return OffsetsLost(partition, offset, inputs.earliest, inputs.latest)

        pointer = read_pointer(committed.metadata)
        mark = starting_mark(offset, pointer, inputs, outputs)
        published = yield from self._read_published(target, mark.scan, outputs.latest)

        rules = pointer.rules if pointer is not None and is_usable(pointer, outputs) else ""
        letters: dict[int, list[PastLetter]] | None = None
        if rules != self._rules and mark.low_water < mark.next:
            letters = yield from self._read_letters(partition, range(mark.low_water, mark.next))

        replay = Replay(mark.next, letters, [remembered.request_id for remembered in published])
        skip = pointer.skip if pointer is not None else ()
        return Restored(partition, mark, outputs.latest, published, replay, skip)

    def _read_published(
        self, target: TopicPartition, scan: int, end: int
    ) -> Step[list[Remembered]]:
        """The requests whose feeds are in the output from `scan` up to `end`."""
        self.waits_for[target.partition] = f"reads {target.topic} from offset {scan} to {end}"
        published: list[Remembered] = []

        def take(record: Record) -> None:
            published.append(self._remember(record))

        yield from self._steps.read_log(target, scan, end, take)
        return published

    def _remember(self, record: Record) -> Remembered:
        feed = read_feed_identity(record.value, record.headers)
        if feed is None:
            log.warning("foreign_feed", partition=record.partition, offset=record.offset)
            request_id = (record.key or b"").decode("utf-8", "replace")
            expires = record.timestamp + self._longest_horizon
            return Remembered(request_id, expires, record.offset)

        horizon = self._horizons.get(feed.surface, self._longest_horizon)
        return Remembered(feed.request_id, feed.requested_at + horizon, record.offset)

    def _read_letters(self, partition: int, offsets: range) -> Step[dict[int, list[PastLetter]]]:
        """By input offset, the dead letters that are out for the events of a partition at
        `offsets`.

        A worker that may not or cannot read them goes on. Events that were refused before are then
        refused a second time, which doubles a dead letter and loses nothing.
        """
        where = TopicPartition(self._topics.dead_letters, partition)
        letters: dict[int, list[PastLetter]] = {}

        def take(record: Record) -> None:
            letter = read_dead_letter(record.key, record.value, record.headers)
            if letter is None or letter.offset not in offsets:
                return
            if letter.topic != self._topics.candidates or letter.partition != partition:
                return
            value_bytes = letter.value_bytes
            if value_bytes is None:
                value_bytes = length_of(letter.value)
            past = PastLetter(
                is_partial=letter.reason == Reason.CANDIDATES,
                message=letter.message,
                has_key=letter.key_bytes is None,
                key=letter.key,
                value_bytes=value_bytes,
            )
            letters.setdefault(letter.offset, []).append(past)

        watermarks = yield from self._steps.watermarks(where)
        self.waits_for[partition] = f"reads {where.topic} up to offset {watermarks.latest}"
        error = yield from self._steps.read_log(
            where, watermarks.earliest, watermarks.latest, take, gives_up=True
        )
        if error is not None:
            hint: dict[str, str] = {}
            if denied_resource(error) is not None:
                right = Right("Read", Resource.TOPIC, where.topic)
                hint = {"right": str(right), "grant": grant_commands(self._cluster, [right])}
            log.warning(
                "dead_letters_unread",
                partition=partition,
                error=error.str(),
                risk="events that were refused before may become dead letters a second time",
                **hint,
            )
        log.info("judged_by_other_rules", partition=partition, dead_letters=len(letters))
        return letters


def is_usable(pointer: Pointer, outputs: Watermarks) -> bool:
    """Whether a pointer belongs to the output topic that exists: the topic may have been made
    again.
    """
    return pointer.scan <= outputs.latest


def starting_mark(
    offset: int, pointer: Pointer | None, inputs: Watermarks, outputs: Watermarks
) -> Mark:
    """Where a replay begins. `offset` is the committed one, or the first that is left.

    | pointer              | output is read from         | judged before                |
    |----------------------|-----------------------------|------------------------------|
    | of this output topic | its `scan`, or the earliest | what is below its `next`     |
    |                      |   offset that is left       |                              |
    | none, or of another  | the earliest offset left    | whatever is in the input now |
    |   output topic       |                             |                              |

    So a feed that is out is never published again, also if the pointer is lost.
    """
    if pointer is None or not is_usable(pointer, outputs):
        return Mark(
            low_water=offset,
            scan=outputs.earliest,
            time=NO_TIME,
            next=max(inputs.latest, offset),
        )
    return Mark(
        low_water=offset,
        scan=max(pointer.scan, outputs.earliest),
        time=pointer.time,
        next=max(pointer.next, offset),
    )
