"""A partition of interactions: its join, and the sums of its closed feeds."""

from collections.abc import Sequence

from workers.codec.pointer import Pointer, Span
from workers.outcomes.join import Join
from workers.outcomes.sums import SumsLedger
from workers.streaming.partition import Partition, Position

_IDLE_MARGIN_MS = 2000
"""An interaction that came just before the end of a window must count, also if it is not replicated
yet when the broker is asked for the end.
"""


class JoinPartition(Partition):
    """Feed records and interactions in, closed feeds out."""

    def __init__(
        self, number: int, join: Join, ledger: SumsLedger, skip: Sequence[Span] = ()
    ) -> None:
        self.join = join
        self.ledger = ledger
        self.closed_until: int | None = None
        """The time (ms) before which everything is committed, as of the last commit. Any thread may
        read it.
        """
        super().__init__(number, join, skip, idle_margin_ms=_IDLE_MARGIN_MS)

    def close_due(self, now: int) -> None:
        """Close every feed whose window (ms) ended before `now`."""
        self.join.close_due(now)

    @property
    def waiting(self) -> int:
        """How much waits to go out. Closed feeds count as one: they hold up no reading."""
        return len(self.outbox) + self.join.has_closed

    @property
    def unpublished(self) -> int:
        """How much is not out of what a drain must publish."""
        return self.waiting

    def position(self) -> Position:
        """What to commit together with what is in the outbox."""
        mark = self.join.mark(self.ledger)
        pointer = Pointer(
            scan=mark.scan,
            time=mark.time,
            next=mark.next,
            skip=self.skip_from(mark.low_water),
            out=(mark.out.due, mark.out.offset),
        )
        return Position(mark.low_water, pointer)

    def note_committed(self, position: Position, ledger_end: int) -> None:
        """Note that a transaction went through. All sums are in the output below `ledger_end`."""
        self.ledger.end = max(self.ledger.end, ledger_end)
        self.closed_until = position.pointer.time
