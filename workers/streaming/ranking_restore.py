"""The restore of a partition of candidates: what is published, and what became of its events.

The steps of a restore, in this order, and the order matters:

1. The committed offset and its pointer, once no undecided transaction touches them.
2. The high watermark of the output as of then.
3. The output from the pointer's `scan` to that watermark, under read_committed. This also waits for
   a transaction whose markers are still being written, so that a feed published by the last owner
   can never be missed.
4. The dead letters, all of them, if the events to be replayed were judged by other rules than those
   of today, or if that is not known (no pointer). Otherwise they are not read at all.
"""

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
from workers.streaming.restore import CannotRestore, OffsetsLost, Restorer, find_positions
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
        """How many published requests are remembered."""
        return len(self.published)


def ranking_restorer(
    cluster: Cluster,
    group: str,
    topics: WorkerTopics,
    surfaces: Surfaces,
    rules: str,
    reachability: BrokerReachability | None = None,
) -> Restorer[Restored]:
    """The restores of a worker. `rules` is the digest of the rules of today."""
    steps = RestoreSteps(cluster, group, reachability or BrokerReachability())
    return Restorer(steps, RankingRestore(cluster, steps, topics, surfaces, rules).restore)


class RankingRestore:
    """The recipe of a restore. `rules` is the digest of the rules of today."""

    def __init__(
        self,
        cluster: Cluster,
        steps: RestoreSteps,
        topics: WorkerTopics,
        surfaces: Surfaces,
        rules: str,
    ) -> None:
        self._cluster = cluster
        self._steps = steps
        self._topics = topics
        self._rules = rules
        self._horizons = {surface.name: surface.horizon_ms for surface in surfaces.values()}
        self._longest_horizon = max(self._horizons.values())

    def restore(self, partition: int) -> Step[Restored | OffsetsLost | CannotRestore]:
        """Restore the partition of this number."""
        source = TopicPartition(self._topics.candidates, partition)
        target = TopicPartition(self._topics.feeds, partition)
        found = yield from find_positions(self._steps, source, target)
        if isinstance(found, OffsetsLost):
            return found

        outputs = found.outputs
        pointer = read_pointer(found.metadata)
        mark = starting_mark(found.offset, pointer, found.inputs, outputs)
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
        self._steps.waits_for[target.partition] = (
            f"reads {target.topic} from offset {scan} to {end}"
        )
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
        self._steps.waits_for[partition] = f"reads {where.topic} up to offset {watermarks.latest}"
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
