"""One partition that this process owns: where it is read, and what is ready to go out.

What is collected from its records is in `ranking_partition.py` and `join_partition.py`.

The rules of the idle clock, which closes requests on a partition that is read to its end:
- Deadlines run on: stream time, plus the time for which this worker has polled in vain since the
  partition was read to its end.
- The clock of another machine is never compared with ours.
- A poll counts at most 100 ms. So a worker that was suspended does not take the pause for silence.
- Nothing closes before the broker has confirmed the end (end_check.py).
- A stage may add a margin: on a replicated topic the end that the broker confirms may be a moment
  behind a record that has its timestamp already.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from workers.codec.pointer import Pointer, Span
from workers.streaming.publisher import Output

_MAX_IDLE_MS = 100.0


@dataclass(frozen=True)
class Unreadable:
    """Where a partition stands still because its next records cannot be read. `since` and
    `again_at` in monotonic seconds; `again_at` is infinite while it is being tried again.
    """

    offset: int
    why: str
    since: float
    again_at: float


class Beginning(Enum):
    """What the first record or end after a seek says about the seek."""

    RIGHT = "right"  # the partition is read from where it was to begin
    GAP = "gap"  # it is not: seek once more
    WAITING = "waiting"  # that seek is under way


class Due(NamedTuple):
    """A deadline that has passed by the idle clock.

    `end`: the offset below which the log was read. `now`: the idle clock at that moment, in ms of
    stream time.
    """

    end: int
    now: int


class Position(NamedTuple):
    """What a commit writes: the offset from which a restore replays, and the pointer beside it."""

    low_water: int
    pointer: Pointer


class Content(Protocol):
    """What a partition collects from its records: an assembler or a join.

    `next` is the first offset not yet taken. `stream_time` is the greatest timestamp of the records
    that were taken, in ms.
    """

    next: int
    stream_time: int

    def next_due(self) -> int | None:
        """The earliest deadline, in ms of stream time. None if nothing is open."""

    def abandon(self) -> None:
        """Give back what is held: the partition is lost, and its next owner replays it."""


class Partition(ABC):
    """Lives from a completed restore to the revocation. What is in `outbox` goes out with the next
    transaction.

    A subclass says what closes and what is committed. `has_begun`: whether the first record or end
    after the last seek was where it was to be. `skip`: the spans of offsets that are to be passed
    over.
    """

    def __init__(
        self,
        number: int,
        content: Content,
        skip: Sequence[Span] = (),
        idle_margin_ms: int = 0,
    ) -> None:
        self.number = number
        self.content = content
        self.outbox: list[Output] = []
        self.has_begun = False
        self.is_paused = False
        self.unreadable: Unreadable | None = None
        self.skip = list(skip)
        self._start = content.next
        self._committed: Position | None = None
        self._end: int | None = None  # None: not read to its end
        self._idle_ms = 0.0
        self._idle_margin_ms = idle_margin_ms
        self._gap: int | None = None

    # Where it is read

    @property
    def next(self) -> int:
        """The first input offset that is not taken yet."""
        return self.content.next

    def abandon(self) -> None:
        """Drop what it holds: it is lost, or restored again."""
        self.content.abandon()

    def begins_at(self, offset: int) -> Beginning:
        """Judge the first record or end after a seek.

        A gap may be real: compaction, or the markers of a producer's transactions. Then it comes a
        second time.
        """
        if offset in (self.content.next, self._gap):
            self.has_begun = True
            return Beginning.RIGHT

        if self._gap is None:
            self._gap = offset
            return Beginning.GAP
        return Beginning.WAITING

    def begins_again(self) -> None:
        """Judge the next record or end as the first one was judged: it follows a seek."""
        self.has_begun = False
        self._gap = None

    @property
    def waits_unread(self) -> bool:
        """Whether it stands still at a record that cannot be read, until that is tried again."""
        return self.unreadable is not None and self.unreadable.again_at < math.inf

    def span_at(self, offset: int) -> Span | None:
        """The span to be passed over that holds an offset."""
        for span in self.skip:
            if span.first <= offset < span.end:
                return span
        return None

    def skip_from(self, offset: int) -> tuple[Span, ...]:
        """The spans that a restore from an offset on must know."""
        return tuple(span for span in self.skip if span.end > offset)

    def pass_over(self, span: Span) -> None:
        """Go on behind a span. Its dead letter is out or in the outbox."""
        self.skip[self.skip.index(span)] = replace(span, is_reported=True)
        self.content.next = max(self.content.next, span.end)
        self.read_on()

    @property
    def read_below(self) -> int:
        """The offset below which everything is read. At the end it may be past the last record:
        markers and aborted records follow it.
        """
        return max(self.content.next, self._end or 0)

    # The idle clock

    def reached_end(self, offset: int) -> None:
        """Note that the client has read everything below `offset`.

        If the end moves on without a record between, it passed markers and aborted transactions.
        The clock then runs on.
        """
        if self._end is None:
            self._idle_ms = 0.0
        self._end = offset

    def read_on(self) -> None:
        """Note that a record came: this is not the end any more."""
        self._end = None

    @property
    def is_at_end(self) -> bool:
        """Whether everything that is there was read."""
        return self._end is not None

    def pass_idle(self, elapsed_ms: float) -> None:
        """Note that a poll brought nothing for this partition."""
        if self._end is not None:
            self._idle_ms += min(elapsed_ms, _MAX_IDLE_MS)

    def due_at_end(self) -> Due | None:
        """The deadline that has passed by the idle clock, if one has."""
        if self._end is None:
            return None

        deadline = self.content.next_due()
        now = int(self.content.stream_time + self._idle_ms) - self._idle_margin_ms
        if deadline is None or deadline >= now:
            return None
        return Due(self._end, now)

    def close_idle(self, due: Due) -> None:
        """Close what was due then, unless more was read since."""
        if self._end == due.end:
            self.close_due(due.now)

    # What goes out

    @property
    def out_below(self) -> int:
        """The offset below which everything that is due is out. As long as something waits to go
        out, what was read since the last commit counts as not read.
        """
        if not self.waiting:
            return self.read_below
        return self._committed.pointer.next if self._committed is not None else self._start

    def commit_position(self) -> Position | None:
        """What to commit. None if nothing has changed since the last commit.

        What goes out always goes out with its partition's position, also if that is the same as
        before: while the oldest request is unpublished, feeds of younger ones do not change it.
        """
        position = self.position()
        if position == self._committed and not self.outbox:
            return None
        return position

    def committed(self, position: Position, ledger_end: int = 0) -> None:
        """Note that a transaction went through: the outbox is out and the position is written.

        The records of this partition that a restore reads are in the output below `ledger_end`.
        """
        self.outbox.clear()
        self._committed = position
        self.note_committed(position, ledger_end)

    # What is particular to a stage

    @abstractmethod
    def close_due(self, now: int) -> None:
        """Close everything whose deadline (ms) is before `now`."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """How much waits to go out: what is closed, and records that are ready."""

    @property
    @abstractmethod
    def unpublished(self) -> int:
        """How much is closed and not out, and how many dead letters are not out."""

    @abstractmethod
    def position(self) -> Position:
        """What to commit together with what is in the outbox."""

    @abstractmethod
    def note_committed(self, position: Position, ledger_end: int) -> None:
        """Note what `committed` has been told."""
