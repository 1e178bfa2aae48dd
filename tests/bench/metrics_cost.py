"""What metrics cost: one worker under a steady stream, with metrics and without them in turns.

With them it counts, and is scraped each second, which is fifteen times as often as Prometheus does as
a rule. Without them it does neither. Both are the same process, and each pair of windows is short, so
what else runs on the machine falls on both alike. The order within a pair changes from pair to pair.

Pairs say no more than the machine is quiet. So the CPU of the scrapes is also taken by itself: each is
answered in a thread of its own, which has a clock.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import comb
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.bench.inputs import STREAM_JSON
from tests.bench.meter import Meter
from tests.bench.programs import WORKER
from tests.rig.background import Background
from tests.rig.environment import Environment
from tests.rig.machine import Machine, this_machine
from tests.rig.metrics import ask
from tests.rig.process import pause
from tests.rig.redis import free_port
from tests.rig.traffic import Pace, send_steadily

SWITCHED_WORKER = replace(
    WORKER,
    arguments=lambda env: ["-m", "tests.bench.switched_worker", str(_times_of(env)), "worker"],
)
_WARM_UP_SECONDS = 10.0
_SETTLE_SECONDS = 0.2


@dataclass(frozen=True)
class MetricsLimits:
    """`rate` requests a second. Each window is `seconds` long, with a scrape in each second."""

    seed: int = 1
    rate: float = 1000.0
    seconds: int = 2
    pairs: int = 60


@dataclass(frozen=True)
class MetricsReport:
    """Microseconds of CPU a feed, in windows without metrics and with them, and the milliseconds of
    CPU of each scrape. `share`: what the process takes of one core, with metrics.
    """

    machine: Machine
    limits: MetricsLimits
    without: tuple[float, ...]
    with_them: tuple[float, ...]
    share: float
    scrape_bytes: int
    scrapes_ms: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """With metrics to without, of each pair."""
        pairs = zip(self.with_them, self.without, strict=True)
        return [with_them / without for with_them, without in pairs]

    def as_json(self) -> dict[str, Any]:
        """The same figures, for `--json`."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The report as a page."""
        yield from self.machine.lines()
        limits = self.limits
        yield (
            f"\nMetrics: {limits.pairs} pairs of {limits.seconds} s, {limits.rate:g} requests of"
            f" {STREAM_JSON.candidates} candidates a second, a scrape each second of"
            f" {self.scrape_bytes / 1000:.0f} kB; seed {limits.seed}"
        )
        low, high = median_interval(self.ratios)
        yield (
            f"  CPU a feed: without {median(self.without):.0f} us, with {median(self.with_them):.0f};"
            f" ratio {median(self.ratios):.4f} (95 %: {low:.4f} to {high:.4f})"
        )
        scrape_ms = median(self.scrapes_ms)
        yield (
            f"  A scrape: {scrape_ms:.2f} ms of CPU (median of {len(self.scrapes_ms)}, at most"
            f" {max(self.scrapes_ms):.2f}), each second {scrape_ms / 1000:.2%} of one core; the process"
            f" takes {self.share:.0%}"
        )


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median, by order statistics: it assumes no distribution. The whole
    range if there are fewer than six values.
    """
    ordered = sorted(values)
    count = len(ordered)
    below = 0.0
    rank = 0
    while below + comb(count, rank) / 2**count <= 0.025:
        below += comb(count, rank) / 2**count
        rank += 1
    place = max(0, rank - 1)
    return ordered[place], ordered[count - 1 - place]


def measure_metrics(
    env: Environment, limits: MetricsLimits, say: Callable[[str], None]
) -> MetricsReport:
    """Measure all pairs on one worker."""
    port = free_port()
    own = env.fresh(TRIMTAB_METRICS_PORT=str(port))
    events = STREAM_JSON.candidates // STREAM_JSON.batch
    pace = Pace(rate=limits.rate, events=events)
    load = STREAM_JSON.load(limits.seed)
    sending = Background(send_steadily, own.kafka, own.candidates, load, pace, time.monotonic_ns)

    costs: dict[bool, list[_Window]] = {False: [], True: []}
    with SWITCHED_WORKER.start(own) as process:
        SWITCHED_WORKER.wait_until_ready(process)
        meter = Meter(process.pid)
        with sending:
            pause(_WARM_UP_SECONDS)
            for pair in range(limits.pairs):
                for has_metrics in (pair % 2 == 0, pair % 2 == 1):
                    os.kill(process.pid, signal.SIGUSR1 if has_metrics else signal.SIGUSR2)
                    pause(_SETTLE_SECONDS)
                    window = _window(meter, port, limits.seconds, has_metrics=has_metrics)
                    costs[has_metrics].append(window)
                if pair % 10 == 9:
                    say(f"metrics: {pair + 1} of {limits.pairs} pairs")
        assert process.terminate() == 0, process.logged()

    seconds: list[float] = json.loads(_times_of(own).read_text())
    # An answer of /status takes a fraction of a scrape.
    scrapes = sorted(seconds)[-limits.pairs * limits.seconds :]
    return MetricsReport(
        machine=this_machine(),
        limits=limits,
        without=tuple(window.microseconds for window in costs[False]),
        with_them=tuple(window.microseconds for window in costs[True]),
        share=median(window.share for window in costs[True]),
        scrape_bytes=max(window.scrape_bytes for window in costs[True]),
        scrapes_ms=tuple(1000 * scrape for scrape in scrapes),
    )


class _Window(NamedTuple):
    """CPU a feed, the share of one core that the process takes, and the bytes of a scrape."""

    microseconds: float
    share: float
    scrape_bytes: int


def _window(meter: Meter, port: int, seconds: int, *, has_metrics: bool) -> _Window:
    size = 0
    feeds = _feeds(port)
    cpu = meter.cpu
    begun = time.monotonic()
    for second in range(seconds):
        if has_metrics:
            size = len(ask(port, "/metrics")[1])
        pause(max(0.0, begun + second + 1 - time.monotonic()))

    took = meter.cpu - cpu
    share = took / (time.monotonic() - begun)
    feeds = _feeds(port) - feeds
    return _Window(1e6 * took / feeds, share, size)


def _feeds(port: int) -> int:
    """How many feeds the worker has committed. It counts these whether it counts for metrics or not."""
    feeds: int = json.loads(ask(port, "/status")[1])["counts"]["feeds"]
    return feeds


def _times_of(env: Environment) -> Path:
    return env.folder / f"{env.name}-answers.json"
