"""The figures of many models, as lines of the report."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tests.rig.machine import Machine
from tests.rig.times import Times


@dataclass(frozen=True)
class ModelsLimits:
    """How many models, how many of them fit, and how many requests are sent, `rate` a second.

    `idle_ms` is how long the worker is watched while nothing comes.
    """

    seed: int = 1
    candidates: int = 50
    models: int = 1000
    held: int = 200
    requests: int = 6000
    rate: float = 100.0
    idle_ms: int = 5000


@dataclass(frozen=True)
class Start:
    """From the process's start: CPU seconds until it owned its partitions, and until every model
    was verified.

    Then what it uses while nothing comes, in milliseconds of CPU a second; and MiB resident when it
    owned them.
    """

    ready_cpu_s: float
    verified_cpu_s: float
    idle_ms_a_second: float
    ready_mib: float

    def line(self) -> str:
        """As a line of the report."""
        return (
            f"  start      CPU {self.ready_cpu_s:.1f} s until its partitions are there, {self.verified_cpu_s:.1f} s "
            f"until all models are verified; then {self.idle_ms_a_second:.0f} ms a second while nothing comes"
        )


@dataclass(frozen=True)
class Footprint:
    """What is loaded by the worker's estimate, and what is resident: with every model verified, at
    the end, at most.
    """

    loaded_mib: float
    verified_mib: float
    end_mib: float
    peak_mib: float

    def line(self, start: Start) -> str:
        """As a line of the report."""
        return (
            f"  memory     MiB resident: ready {start.ready_mib:.0f}, all verified {self.verified_mib:.0f}, "
            f"at the end {self.end_mib:.0f}, peak {self.peak_mib:.0f}; loaded {self.loaded_mib:.1f} by estimate"
        )


@dataclass(frozen=True)
class Waits:
    """From the last candidate sent to the feed readable.

    On the surface that is always in use; on others that are visited for the first time, with the
    model loaded since the start or not; and on others at every later visit, whether the model was
    still there or loaded again.
    """

    constant: Times
    first_loaded: Times
    first_unloaded: Times
    later: Times

    def lines(self) -> Iterator[str]:
        """As lines of the report."""
        yield f"  always     {self.constant.text()}: the surface in constant use, while others' models load"
        yield f"  first      {self.first_unloaded.text()}: a surface's first feed, its model not loaded yet"
        yield f"             {self.first_loaded.text()}: the same, its model loaded"
        yield f"  later      {self.later.text()}: a surface's further feeds"
        p50, p99 = (ours / theirs for ours, theirs in self._to_load)
        yield f"  to load    takes a first feed {p50:.1f} times as long as one whose model is loaded (p99: {p99:.1f})"

    @property
    def _to_load(self) -> tuple[tuple[float, float], tuple[float, float]]:
        cold = self.first_unloaded
        warm = self.first_loaded
        return (cold.p50_ms, warm.p50_ms), (cold.p99_ms, warm.p99_ms)


@dataclass(frozen=True)
class Many:
    """Models of their own. `hits`, `misses`, `loads` and `evictions` are the worker's, over the
    stream alone.

    `visits` are the requests to other surfaces than the one in constant use, `visited` those
    surfaces.
    """

    models: int
    files_mib: float
    held: int
    budget_mib: int
    requests: int
    visits: int
    visited: int
    start: Start
    footprint: Footprint
    hits: int
    misses: int
    loads: int
    evictions: int
    waits: Waits

    @property
    def hit_rate(self) -> float:
        """The share of looks that found their models."""
        return self.hits / (self.hits + self.misses)

    def lines(self, rate: float, base_mib: float) -> Iterator[str]:
        """As a page; `base_mib` is resident in a worker of as many surfaces and one model."""
        yield (
            f"\nMany models: {self.models:,} surfaces with one each, {self.files_mib:.1f} MiB of files; "
            f"a budget of {self.budget_mib} MiB, for {self.held:,}"
        )
        yield (
            f"  stream     {self.requests:,} requests, {rate:g}/s: {self.visits:,} by Zipf's law to "
            f"{self.visited:,} surfaces, the rest to one; each had its feed, once, of its model"
        )
        yield self.start.line()
        yield self.footprint.line(self.start)
        above = self.footprint.peak_mib - base_mib
        yield (
            f"  budget     the peak is {above:.0f} MiB above a worker of one model: "
            f"{above / self.budget_mib:.2f} of the budget"
        )
        yield (
            f"  library    {self.hit_rate:.1%} of looks hit ({self.hits:,}; {self.misses:,} missed); "
            f"{self.loads:,} loads, {self.evictions:,} evictions: {self.loads / self.visits:.1%} of the visits had one"
        )
        yield from self.waits.lines()


@dataclass(frozen=True)
class Shared:
    """One file under many names: `sessions` is how often it was loaded since the start."""

    models: int
    files_mib: float
    sessions: int
    requests: int
    start: Start
    footprint: Footprint
    constant: Times

    def lines(self, while_loading: Times) -> Iterator[str]:
        """As a page; `while_loading` is the latency of the surface in constant use while other
        models load.
        """
        yield f"\nOne model under {self.models:,} names, a surface for each: {self.files_mib:.1f} MiB of files"
        yield f"  sessions   {self.sessions:,} loaded since the start; the same stream"
        yield self.start.line()
        yield self.footprint.line(self.start)
        yield f"  always     {self.constant.text()}: the surface in constant use; nothing loads"
        p50 = while_loading.p50_ms / self.constant.p50_ms
        p99 = while_loading.p99_ms / self.constant.p99_ms
        yield f"  loading    beside it makes its feeds take {p50:.2f} times as long (p99: {p99:.2f})"


@dataclass(frozen=True)
class ModelsReport:
    """A thousand models, and one model under a thousand names. `load` is the machine's load before
    and after (1 min).
    """

    machine: Machine
    limits: ModelsLimits
    load: tuple[float, float]
    many: Many
    shared: Shared

    def as_json(self) -> dict[str, Any]:
        """The same figures, for `--json`."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The report as a page."""
        yield from self.machine.lines()
        yield f"models   of 100 trees of depth 3; Kafka on this machine; seed {self.limits.seed}"
        before, after = self.load
        yield f"load     {before:.1f} before, {after:.1f} after; broker, producer and readers share these cores"
        yield from self.many.lines(self.limits.rate, self.shared.footprint.end_mib)
        yield from self.shared.lines(self.many.waits.constant)
