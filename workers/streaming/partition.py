"""One partition that this worker owns: its assembler, and what is ready to go out.

The rules of the idle clock, which closes requests on a partition that is read to its end:
- Deadlines run on: stream time, plus the time for which this worker has polled in vain since the
  partition was read to its end.
- The clock of another machine is never compared with ours.
- A poll counts at most 100 ms. So a worker that was suspended does not take the pause for silence.
- Nothing closes before the broker has confirmed the end (end_check.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import NamedTuple

from confluent_kafka import TopicPartition
from msgspec.structs import replace

from workers.assembly.assembler import Assembler, Mark
from workers.assembly.held import Budget
from workers.assembly.replay import Replay
from workers.codec.pointer import Pointer, Span, write_pointer
from workers.streaming.placement import Placement
from workers.streaming.publisher import Output
from workers.streaming.restore import Restored

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


class Partition:
    """Lives from a completed restore to the revocation. What is in `outbox` goes out with the next
    transaction.

    `has_begun`: whether the first record or end after the last seek was where it was to be. `skip`:
    the spans of offsets that are to be passed over.
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
        self.outbox: list[Output] = []
        self.has_begun = False
        self.is_paused = False
        self.unreadable: Unreadable | None = None
        self.skip = list(skip)
        self._rules = rules
        self._start = assembler.next
        self._committed: Mark | None = None
        self._end: int | None = None  # None: not read to its end
        self._idle_ms = 0.0
        self._gap: int | None = None

    # Where it is read

    @property
    def next(self) -> int:
        """The first input offset that is not taken yet."""
        return self.assembler.next

    def abandon(self) -> None:
        """Drop what it holds: it is lost, or restored again."""
        self.assembler.abandon()

    def begins_at(self, offset: int) -> Beginning:
        """Judge the first record or end after a seek.

        A gap may be real: compaction, or the markers of a producer's transactions. Then it comes a
        second time.
        """
        if offset in (self.assembler.next, self._gap):
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

    def pass_over(self, span: Span) -> None:
        """Go on behind a span. Its dead letter is out or in the outbox."""
        self.skip[self.skip.index(span)] = replace(span, is_reported=True)
        self.assembler.next = max(self.assembler.next, span.end)
        self.read_on()

    @property
    def read_below(self) -> int:
        """The offset below which everything is read. At the end it may be past the last record:
        markers and aborted records follow it.
        """
        return max(self.assembler.next, self._end or 0)

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

        deadline = self.assembler.next_due()
        now = int(self.assembler.stream_time + self._idle_ms)
        if deadline is None or deadline >= now:
            return None
        return Due(self._end, now)

    def close_idle(self, due: Due) -> None:
        """Close what was due then, unless more was read since."""
        if self._end == due.end:
            self.assembler.close_due(due.now)

    # What goes out

    @property
    def waiting(self) -> int:
        """How much waits to go out: closed candidates that are not ranked yet, and records that are
        ready.
        """
        return self.assembler.closed_candidates + len(self.outbox)

    @property
    def unpublished(self) -> int:
        """Closed requests and dead letters that are not out. Requests that wait for their models
        count.
        """
        return self.assembler.unpublished + len(self.outbox)

    @property
    def out_below(self) -> int:
        """The offset below which everything that is due is out. As long as something waits to go
        out, what was read since the last commit counts as not read.
        """
        if not self.waiting:
            return self.read_below
        return self._committed.next if self._committed is not None else self._start

    def commit_position(self, topic: str) -> tuple[TopicPartition, Mark] | None:
        """The offset and the pointer to commit. None if nothing has changed since the last commit.

        What goes out always goes out with its partition's mark, also if that is the same as before:
        while the oldest request is unpublished, feeds of younger ones do not change it.
        """
        mark = self.assembler.mark()
        if mark == self._committed and not self.outbox:
            return None

        pointer = Pointer(
            scan=mark.scan,
            time=mark.time,
            next=mark.next,
            rules="" if self.replay.is_mixed_from(mark.low_water) else self._rules,
            skip=tuple(span for span in self.skip if span.end > mark.low_water),
        )
        return TopicPartition(topic, self.number, mark.low_water, write_pointer(pointer)), mark

    def committed(self, mark: Mark, ledger_end: int = 0) -> None:
        """Note that a transaction went through: the outbox is out and the mark is written. All
        feeds are in the output below `ledger_end`.
        """
        self.outbox.clear()
        self._committed = mark

        if mark.low_water >= self.replay.until:
            self.replay = Replay(until=0)
        self.assembler.ledger_end = max(self.assembler.ledger_end, ledger_end)


def make_partition(
    restored: Restored, *, budget: Budget, placement: Placement, rules: str
) -> Partition:
    """A partition of what was restored. `rules`: the digest of the rules of today."""
    assembler = Assembler(restored.mark, budget, admit=partial(placement.check, restored.partition))
    for request_id, expires, ledger in restored.published:
        assembler.remember(request_id, expires, ledger)
    assembler.ledger_end = restored.end
    return Partition(restored.partition, assembler, restored.replay, rules, restored.skip)
