"""The figures of outcomes, as lines of the report. Every figure is in a frozen value."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tests.bench.outcome_load import ITEMS
from tests.rig.machine import Machine


@dataclass(frozen=True)
class OutcomeLimits:
    """How much is measured, and from which seed. `interactions` and `restart_interactions` are for
    each feed. `backlog_window_s` is longer than writing the backlog takes. `slow_feeds` is the
    backlog of a peer that is much slower.
    """

    seed: int = 1
    interactions: int = 50
    backlog_feeds: int = 8000
    backlog_window_s: int = 20
    slow_feeds: int = 800
    turns: int = 3
    open_feeds: int = 360_000
    restart_feeds: int = 100_000
    restart_interactions: int = 10
    worker_requests: int = 8000
    worker_pairs: int = 5


@dataclass(frozen=True)
class JoinCost:
    """`microseconds` of CPU an interaction, of the whole process: the median of its `turns`."""

    name: str
    delivery: str
    lacks: str
    interactions: int
    microseconds: float
    turns: tuple[float, ...]

    def line(self) -> str:
        """As a line of the report."""
        turns = ", ".join(f"{us:.1f}" for us in self.turns)
        return (
            f"  {self.name:<24}{self.delivery:<15}{self.microseconds:7.1f}  ({turns})"
            f"  {self.interactions:,} interactions"
        )


@dataclass(frozen=True)
class OpenMemory:
    """MiB resident: before a feed is open, with all open, and the most seen."""

    feeds: int
    before_mib: float
    open_mib: float
    peak_mib: float

    @property
    def added_mib(self) -> float:
        """What the open feeds add."""
        return round(self.open_mib - self.before_mib, 1)

    def lines(self) -> Iterator[str]:
        """As lines of the report."""
        each = self.added_mib * 2**20 / self.feeds
        yield f"\nMemory of the join, {self.feeds:,} open feeds of {ITEMS} items: MiB resident"
        yield (
            f"  before {self.before_mib:.0f}, all open {self.open_mib:.0f}: {self.added_mib:.0f}"
            f" added, {each:,.0f} bytes a feed; peak {self.peak_mib:.0f}"
        )
        yield (
            "  layout     one bytes object a feed: 29 bytes of fields, a byte an item, 8 an"
            " objective, then the user id and the item ids (here 11 bytes each)"
        )


@dataclass(frozen=True)
class Restart:
    """From the start of a process: seconds until it had its first partition, and until all that was
    open was read again and it was at the end. Then the CPU seconds that this took.
    """

    feeds: int
    records: int
    ready_s: float
    caught_up_s: float
    cpu_s: float
    resident_mib: float

    def lines(self) -> Iterator[str]:
        """As lines of the report."""
        yield f"\nRestart of the join, {self.feeds:,} open feeds, {self.records:,} records"
        yield (
            f"  has its first partition after {self.ready_s:.1f} s, is caught up after"
            f" {self.caught_up_s:.1f} s (CPU {self.cpu_s:.1f} s); {self.resident_mib:.0f} MiB resident"
        )


@dataclass(frozen=True)
class WorkerPairs:
    """CPU us a candidate of a worker on a backlog, without outcomes and with them, in pairs.
    `ratio` is the median of the pairs'.
    """

    candidates: int
    without: tuple[float, ...]
    with_outcomes: tuple[float, ...]
    ratio: float
    ratios: tuple[float, ...]

    def lines(self) -> Iterator[str]:
        """As lines of the report."""
        pairs = ", ".join(
            f"{before:.1f} and {after:.1f}"
            for before, after in zip(self.without, self.with_outcomes, strict=True)
        )
        yield f"\nFeed records, a worker on a backlog of {self.candidates:,} candidates: CPU us a candidate"
        yield f"  without and with outcomes, in pairs: {pairs}"
        yield (
            f"  with outcomes it costs {self.ratio:.2f} times as much"
            f" (median; the pairs: {min(self.ratios):.2f} to {max(self.ratios):.2f})"
        )


@dataclass(frozen=True)
class OutcomeReport:
    """`costs` begins with the join; its peers follow. `load` is the machine's load before and after
    (1 min).
    """

    machine: Machine
    limits: OutcomeLimits
    load: tuple[float, float]
    costs: tuple[JoinCost, ...]
    memory: OpenMemory
    restart: Restart
    worker: WorkerPairs

    def as_json(self) -> dict[str, Any]:
        """The same figures, for `--json`."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The report as a page."""
        yield from self.machine.lines()
        yield (
            f"records  JSON, feeds of {ITEMS} items, {self.limits.interactions} interactions each;"
            f" seed {self.limits.seed}; Kafka on this machine, 4 partitions"
        )
        before, after = self.load
        yield f"load     {before:.1f} before, {after:.1f} after; broker and producer share these cores"

        yield "\nBacklog of interactions and their feeds: CPU us an interaction, whole process"
        for cost in self.costs:
            yield cost.line()
        yield from self._comparisons()
        yield from self.memory.lines()
        yield from self.restart.lines()
        yield from self.worker.lines()

    def _comparisons(self) -> Iterator[str]:
        join, *peers = self.costs
        for peer in peers:
            if peer.microseconds < join.microseconds:
                result = f"the peer wins: {join.microseconds / peer.microseconds:.2f} times cheaper"
            else:
                result = f"the join wins: {peer.microseconds / join.microseconds:.2f} times cheaper"
            yield f"  {peer.name} ({peer.delivery}; {peer.lacks}): {result}"
