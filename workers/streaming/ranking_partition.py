"""A partition of candidates: its assembler, what became of its events before a restore, and the
traces of its requests.
"""

from collections.abc import Sequence
from functools import partial

from workers.assembly.assembler import Assembler
from workers.assembly.held import Budget
from workers.assembly.replay import Replay
from workers.codec.pointer import Pointer, Span
from workers.streaming.partition import Partition, Position
from workers.streaming.placement import Placement
from workers.streaming.ranking_restore import Restored
from workers.tracing.request_traces import PartitionTraces, RequestTracer


class RankingPartition(Partition):
    """Events in, closed requests out. `rules` is the digest of the rules of today. `traces` is None
    if nothing is traced.
    """

    def __init__(
        self,
        number: int,
        assembler: Assembler,
        replay: Replay | None = None,
        rules: str = "",
        skip: Sequence[Span] = (),
        traces: PartitionTraces | None = None,
    ) -> None:
        self.assembler = assembler
        self.replay = replay or Replay(until=0)
        self.traces = traces
        self._rules = rules
        super().__init__(number, assembler, skip)

    def close_due(self, now: int) -> None:
        """Close every request whose deadline (ms) is before `now`."""
        self.assembler.close_due(now)

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

    def position(self) -> Position:
        """What to commit together with what is in the outbox."""
        mark = self.assembler.mark()
        pointer = Pointer(
            scan=mark.scan,
            time=mark.time,
            next=mark.next,
            rules="" if self.replay.is_mixed_from(mark.low_water) else self._rules,
            skip=self.skip_from(mark.low_water),
        )
        return Position(mark.low_water, pointer)

    def note_committed(self, position: Position, ledger_end: int) -> None:
        """Note that a transaction went through. All feeds are in the output below `ledger_end`."""
        if position.low_water >= self.replay.until:
            self.replay = Replay(until=0)
        self.assembler.ledger_end = max(self.assembler.ledger_end, ledger_end)
        if self.traces is not None:
            self.traces.commit(self.assembler.ledger_end)


def make_partition(
    restored: Restored,
    *,
    budget: Budget,
    placement: Placement,
    rules: str,
    tracer: RequestTracer | None = None,
) -> RankingPartition:
    """A partition of what was restored. `rules`: the digest of the rules of today. `tracer`: None if
    nothing is traced.
    """
    assembler = Assembler(restored.mark, budget, admit=partial(placement.check, restored.partition))
    for request_id, expires, ledger in restored.published:
        assembler.remember(request_id, expires, ledger)
    assembler.ledger_end = restored.end
    traces = None if tracer is None else tracer.of_partition(restored.partition)
    return RankingPartition(
        restored.partition, assembler, restored.replay, rules, restored.skip, traces
    )
