"""One partition that this worker owns: its assembler, and what is ready to go out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from confluent_kafka import TopicPartition
from msgspec.structs import replace

from workers.assembly.assembler import Assembler, Mark
from workers.assembly.replay import Replay
from workers.codec.pointer import Pointer, Span, write_pointer
from workers.streaming.publisher import Output

_MOST_IDLE_MS = 100.0


@dataclass(frozen=True)
class Unreadable:
    """Where a partition stands still because its next records cannot be read. `since` and `again_at`
    in monotonic seconds; `again_at` is infinite while it is being tried again.
    """

    offset: int
    why: str
    since: float
    again_at: float


class Beginning(Enum):
    """Whether a partition is read from where it was to begin, is to be looked at again, or waits
    for that.
    """

    RIGHT = "right"
    GAP = "gap"
    WAITING = "waiting"


class Due(NamedTuple):
    """A deadline that has passed by the idle clock.

    `end`: the offset below which the log was read. `now`: the idle clock at that moment, in ms of
    stream time.
    """

    end: int
    now: int


class Partition:
    """Lives from a completed restore to the revocation. What is in `outbox` goes out with the next
    transaction.

    Deadlines of a partition that is read to its end run on: its stream time plus the time for which
    this worker has been seen to poll in vain. No clock of another machine is compared with ours,
    and a worker that was stopped for a while does not take the pause for silence.
    """

    def __init__(
        self,
        number: int,
        assembler: Assembler,
        replay: Replay | None = None,
        rules: str = "",
        skip: Sequence[Span] = (),
    ) -> None:
        self.number = number
        self.assembler = assembler
        self.replay = replay or Replay(until=0)
        self._rules = rules
        self.outbox: list[Output] = []
        self._start = assembler.next
        self._committed: Mark | None = None
        self._end: int | None = None
        self._idle_ms = 0.0
        self.begun = False
        self.is_paused = False
        self.unreadable: Unreadable | None = None
        self.skip = list(skip)
        self._gap: int | None = None

    def begins_at(self, offset: int) -> Beginning:
        """Judge the first place that is heard of after the seek to where the partition begins.

        A gap may be real: compaction, or the markers of a producer's transactions. Then it is there
        a second time.
        """
        if offset in (self.assembler.next, self._gap):
            self.begun = True
            return Beginning.RIGHT
        if self._gap is None:
            self._gap = offset
            return Beginning.GAP
        return Beginning.WAITING

    def begins_again(self) -> None:
        """What is heard of next is judged as the first place of the partition was."""
        self.begun = False
        self._gap = None

    @property
    def waits_unread(self) -> bool:
        """Whether it stands still at a record that cannot be read, until it is looked at again."""
        return self.unreadable is not None and self.unreadable.again_at < math.inf

    def span_at(self, offset: int) -> Span | None:
        """The span to be passed over in which an offset is."""
        return next((span for span in self.skip if span.first <= offset < span.end), None)

    def pass_over(self, span: Span) -> None:
        """Go on behind a span, whose dead letter is out or in the outbox."""
        told = replace(span, is_reported=True)
        self.skip = [told if one == span else one for one in self.skip]
        self.assembler.next = max(self.assembler.next, span.end)
        self.read_on()

    def reached_end(self, offset: int) -> None:
        """The client has read everything below `offset`.

        An end that moves on without a record between passed markers and undone transactions: the
        silence goes on.
        """
        if self._end is None:
            self._idle_ms = 0.0
        self._end = offset

    def read_on(self) -> None:
        """A record came: this is not the end any more."""
        self._end = None

    @property
    def is_at_end(self) -> bool:
        """Whether everything that is there was read."""
        return self._end is not None

    @property
    def waiting(self) -> int:
        """How much of it waits to go out: closed candidates that are not ranked yet, and records
        that are ready.
        """
        return self.assembler.closed_candidates + len(self.outbox)

    @property
    def read_below(self) -> int:
        """The offset below which everything is read; at the end that is past records which are none
        of ours to take.
        """
        return max(self.assembler.next, self._end or 0)

    @property
    def unpublished(self) -> int:
        """Closed requests and dead letters that are not out."""
        return self.assembler.unpublished + len(self.outbox)

    @property
    def out_below(self) -> int:
        """The offset below which everything is out that is due: what was taken in since the last
        commit counts as not read, as long as any of it waits to go out."""
        if not self.waiting:
            return self.read_below
        return self._committed.next if self._committed is not None else self._start

    def pass_idle(self, elapsed_ms: float) -> None:
        """A poll brought nothing for this partition."""
        if self._end is not None:
            self._idle_ms += min(elapsed_ms, _MOST_IDLE_MS)

    def due_at_end(self) -> Due | None:
        """Whether a deadline has passed by the idle clock; nothing may close before the broker
        confirms the end.
        """
        if self._end is None:
            return None
        first = self.assembler.next_due()
        now = int(self.assembler.stream_time + self._idle_ms)
        return None if first is None or first >= now else Due(self._end, now)

    def close_idle(self, due: Due) -> None:
        """Close what was due then, unless more was read since."""
        if self._end == due.end:
            self.assembler.close_due(due.now)

    def commit_position(self, topic: str) -> tuple[TopicPartition, Mark] | None:
        """The offset and the pointer to commit; None where there is nothing to say since the last
        commit.

        What goes out always goes out with its partition's mark, also where that is as it was: while
        the oldest request is unpublished, younger feeds change nothing of it.
        """
        mark = self.assembler.mark()
        if mark == self._committed and not self.outbox:
            return None
        rules = "" if self.replay.is_mixed_from(mark.low_water) else self._rules
        skip = tuple(span for span in self.skip if span.end > mark.low_water)
        metadata = write_pointer(
            Pointer(scan=mark.scan, time=mark.time, next=mark.next, rules=rules, skip=skip)
        )
        return TopicPartition(topic, self.number, mark.low_water, metadata), mark

    def committed(self, mark: Mark, ledger_end: int = 0) -> None:
        """The transaction went through: the outbox is out, the mark is written, feeds stand below
        `ledger_end`.
        """
        self.outbox.clear()
        self._committed = mark
        if mark.low_water >= self.replay.until:
            self.replay = Replay(until=0)
        self.assembler.ledger_end = max(self.assembler.ledger_end, ledger_end)
