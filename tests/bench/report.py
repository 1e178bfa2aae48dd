"""The bench's report: what was measured, on what, and how it reads. Every figure is in a frozen
value.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tests.bench.cost import Cost
from tests.bench.many_report import Many, Shared
from tests.bench.memory import Memory
from tests.rig.machine import Machine
from tests.rig.times import Times


@dataclass(frozen=True)
class Limits:
    """How much is measured, and from which seed. `rate` is in requests a second."""

    seed: int = 1
    candidates: int = 50
    backlog_requests: int = 8000
    steady_requests: int = 2500
    rate: float = 100.0
    open_requests: int = 10_000
    models: int = 1000
    models_held: int = 200
    models_requests: int = 6000


@dataclass(frozen=True)
class Result:
    """What one program needed for the same events."""

    name: str
    delivery: str
    lacks: str
    backlog: Cost
    steady: Cost
    latency: Times


@dataclass(frozen=True)
class Report:
    """`results` begins with the worker; the peers follow. `load` is the machine's load before and
    after (1 min).
    """

    machine: Machine
    limits: Limits
    event_bytes: int
    load: tuple[float, float]
    results: tuple[Result, ...]
    memory: Memory
    many: Many
    shared: Shared

    def as_json(self) -> dict[str, Any]:
        """The same figures, for `--json`."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The report as a page."""
        yield from self._head()
        yield from self._backlog()
        yield from self._steady()
        yield from self._memory()
        yield from self.many.lines(self.limits.rate, self.shared.footprint.end_mib)
        yield from self.shared.lines(self.many.waits.constant)
        yield from self._comparisons()

    def _head(self) -> Iterator[str]:
        limits = self.limits
        yield from self.machine.lines()
        yield (
            f"events   one candidate each, JSON, 32 features by position, {self.event_bytes} bytes; "
            f"{limits.candidates} candidates a request; seed {limits.seed}"
        )
        yield "models   two MLPs 32-32-16-1, many of 100 trees of depth 3; Kafka on this machine, 4 partitions"
        before, after = self.load
        yield f"load     {before:.1f} before, {after:.1f} after; broker, producer and readers share these cores"

    def _backlog(self) -> Iterator[str]:
        yield f"\nBacklog of {self.results[0].backlog.candidates:,} events: CPU us a candidate, whole process"
        for result in self.results:
            cost = result.backlog
            segments = ", ".join(f"{us:.1f}" for us in cost.segments)
            yield (
                f"  {result.name:<20}{result.delivery:<15}{cost.microseconds:6.1f}  ({segments})  "
                f"{cost.candidates_a_second:,} candidates/s, at most {cost.peak_resident_mib:.0f} MiB resident"
            )

    def _steady(self) -> Iterator[str]:
        rate = self.limits.rate
        count = self.limits.candidates
        yield f"\nSteady, {rate:g} requests/s x {count}: from the last candidate sent to the feed readable, committed"
        for result in self.results:
            cost = result.steady
            latency = result.latency
            yield (
                f"  {result.name:<20}{result.delivery:<15}p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms, "
                f"max {latency.max_ms:.1f} ms; CPU {cost.microseconds:.1f} us a candidate"
            )

    def _memory(self) -> Iterator[str]:
        memory = self.memory
        size = f"{memory.requests:,} requests of {self.limits.candidates} candidates"
        yield f"\nMemory of the worker, {size}: MiB resident"
        yield (
            f"  before {memory.before_mib:.0f}, all open {memory.open_mib:.0f}, all closed {memory.closed_mib:.0f}, "
            f"peak {memory.peak_mib:.0f}"
        )

    def _comparisons(self) -> Iterator[str]:
        worker, *peers = self.results
        if peers:
            yield f"\nBeside the peers ({worker.name} is {worker.delivery})"
        for peer in peers:
            yield f"  {peer.name} ({peer.delivery}; {peer.lacks}):"
            yield f"    backlog CPU   {_compare(worker.backlog.microseconds, peer.backlog.microseconds, 'cheaper')}"
            yield f"    steady CPU    {_compare(worker.steady.microseconds, peer.steady.microseconds, 'cheaper')}"
            yield f"    latency p50   {_compare(worker.latency.p50_ms, peer.latency.p50_ms, 'faster')}"
            yield f"    latency p99   {_compare(worker.latency.p99_ms, peer.latency.p99_ms, 'faster')}"


def _compare(ours: float, theirs: float, word: str) -> str:
    if theirs < ours:
        return f"the peer wins: {ours / theirs:.2f} times {word}"
    return f"the worker wins: {theirs / ours:.2f} times {word}"
