"""Latencies as percentiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the last candidate sent to the feed readable, over `requests` requests."""

    requests: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> "Latency":
        """Percentiles by the nearest rank."""
        ordered = sorted(milliseconds)
        p50, p99 = (ordered[ceil(len(ordered) * share) - 1] for share in (0.5, 0.99))
        return cls(len(ordered), round(p50, 2), round(p99, 2), round(ordered[-1], 2))
