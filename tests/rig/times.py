"""Moments and times, as benchmark and trial report them. Moments are ns since the epoch."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil

MS = 1_000_000


@dataclass(frozen=True)
class Span:
    """From one moment to another, without the latter."""

    start: int
    end: int

    @classmethod
    def of(cls, act: Callable[[], object]) -> "Span":
        """From before a call to after it."""
        start = time.time_ns()
        act()
        return cls(start, time.time_ns())

    def holds(self, moment: int) -> bool:
        """Whether a moment is in it."""
        return self.start <= moment < self.end


@dataclass(frozen=True)
class Times:
    """Percentiles of `count` times in ms, by the nearest rank. All are 0 if there are none."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, nanoseconds: Iterable[float]) -> "Times":
        """The percentiles of some times."""
        ordered = sorted(time / MS for time in nanoseconds)
        if not ordered:
            return cls(0, 0.0, 0.0, 0.0)
        p50 = ordered[ceil(len(ordered) * 0.5) - 1]
        p99 = ordered[ceil(len(ordered) * 0.99) - 1]
        return cls(len(ordered), round(p50, 2), round(p99, 2), round(ordered[-1], 2))

    def text(self) -> str:
        """The percentiles, for a line of a report."""
        return f"p50 {self.p50_ms:6.1f} ms, p99 {self.p99_ms:6.1f} ms, max {self.max_ms:6.1f} ms"
