"""CPU of a process for each candidate it ranks, from its first feeds to its last."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Protocol

from workers.streaming.records import Fetched

MIB = 2**20
_SEGMENTS = 3
_BREATH_SECONDS = 0.005


class Metered(Protocol):
    """What is known of a process: see tests.bench.meter."""

    @property
    def peak(self) -> int: ...
    def cpu_between(self, start: float, end: float) -> float: ...


@dataclass(frozen=True)
class Cost:
    """`microseconds` of CPU a candidate: the median of the segments of the span from the first
    feeds to the last.

    `candidates_a_second` is by the wall clock, on a machine that the broker shares.
    """

    requests: int
    candidates: int
    microseconds: float
    segments: tuple[float, ...]
    candidates_a_second: int
    peak_resident_mib: float


def moments_of(feeds: Sequence[Fetched]) -> list[float]:
    """When the broker took each feed, in seconds since the epoch, in order: its topic has
    LogAppendTime.
    """
    return sorted(feed.timestamp()[1] / 1000 for feed in feeds)


def cost_of(
    meter: Metered, moments: Sequence[float], candidates: int, segments: int = _SEGMENTS
) -> Cost:
    """What it cost to publish feeds at these moments; each request has `candidates` candidates."""
    cuts = _cuts(moments, segments)
    costs = tuple(
        round(
            meter.cpu_between(moments[start], moments[end]) / ((end - start) * candidates) * 1e6, 3
        )
        for start, end in pairwise(cuts)
    )
    first = cuts[0]
    last = cuts[-1]
    return Cost(
        requests=len(moments),
        candidates=len(moments) * candidates,
        microseconds=median(costs),
        segments=costs,
        candidates_a_second=round((last - first) * candidates / (moments[last] - moments[first])),
        peak_resident_mib=round(meter.peak / MIB, 1),
    )


def _cuts(moments: Sequence[float], segments: int) -> list[int]:
    """Places that part the feeds into segments about as long, none within the feeds of one
    transaction.
    """
    size = (len(moments) - 1) // segments
    return [
        *(_end_of_breath(moments, size * part, size // 2) for part in range(segments)),
        len(moments) - 1,
    ]


def _end_of_breath(moments: Sequence[float], place: int, most: int) -> int:
    """The last feed that went out with the one at `place`: a transaction's feeds follow each other
    at once.

    A program without transactions never pauses, and may be cut anywhere: after `most` feeds at the
    latest.
    """
    limit = place + most
    while place < limit and moments[place + 1] - moments[place] <= _BREATH_SECONDS:
        place += 1
    return place
