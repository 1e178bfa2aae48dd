"""How much traffic a surface has, and how much its readers differ: what an experiment is planned by."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from workers.outcomes.cluster_counts import ClusterCounts
from workers.outcomes.planning import design_effect
from workers.outcomes.rails import LEAST_CLUSTERS, LEAST_EVENTS
from workers.outcomes.records import HOUR_MS, ArmHour
from workers.outcomes.statistics import ratio
from workers.outcomes.sums import CLUSTERS
from workers.ranking.experiment import CONTROL

HOURS_OF_DAY = 24


class Traffic(NamedTuple):
    """What was measured.

    - `rate` and `design_effect` are those of control's feeds, of all hours. `seen` and `takes` are
      what they rest on. None if `missing` says what they lack. A design effect below 1 is chance:
      then it is 1.
    - `seen_per_day` is that of the whole surface, from `first_hour` up to and not including
      `end_hour` (hours since the epoch). None if no whole hour is closed yet.
    """

    seen: int
    takes: int
    rate: float | None
    design_effect: float | None
    missing: str | None
    first_hour: int
    end_hour: int
    seen_per_day: float | None

    @property
    def hours(self) -> int:
        """How many whole hours the traffic was measured in."""
        return self.end_hour - self.first_hour


def measure_traffic(
    counts: Mapping[ArmHour, ClusterCounts], closed_until: Iterable[int | None]
) -> Traffic:
    """Measure the traffic of one surface. There must be counts.

    `closed_until` has the time of each partition (ms) before which every feed is counted, None if
    it has no feeds. The latest of them counts, because a partition without feeds stays behind. The
    first hour may have begun in the middle of the stream, and the last one is not over, so neither
    counts as traffic. If there are whole days, only those count, and every hour of the day as often
    as any other.
    """
    control = ClusterCounts()
    for arm_hour, of_hour in counts.items():
        if arm_hour.arm == CONTROL:
            control.add(of_hour)
    seen = int(control.seen.sum())
    takes = int(control.takes.sum())

    rate = None
    effect = None
    missing = _missing(control)
    if missing is None:
        measured = ratio(control.takes, control.seen)
        assert measured is not None
        rate = measured.value
        effect = max(1.0, design_effect(measured, seen))

    first_hour = min(arm_hour.hour for arm_hour in counts) + 1
    known = [until for until in closed_until if until is not None]
    end_hour = max(first_hour, max(known, default=0) // HOUR_MS)
    whole_days = (end_hour - first_hour) // HOURS_OF_DAY
    if whole_days:
        first_hour = end_hour - whole_days * HOURS_OF_DAY

    seen_in_hours = 0.0
    for arm_hour, of_hour in counts.items():
        if first_hour <= arm_hour.hour < end_hour:
            seen_in_hours += float(of_hour.seen.sum())
    hours = end_hour - first_hour
    return Traffic(
        seen=seen,
        takes=takes,
        rate=rate,
        design_effect=effect,
        missing=missing,
        first_hour=first_hour,
        end_hour=end_hour,
        seen_per_day=seen_in_hours / hours * HOURS_OF_DAY if hours else None,
    )


def _missing(control: ClusterCounts) -> str | None:
    """What control's feeds lack for a rate and its variance, None if they have enough."""
    takes = int(control.takes.sum())
    if takes < LEAST_EVENTS:
        return f"takes: got {takes:,}, expected at least {LEAST_EVENTS}"
    if takes == int(control.seen.sum()):
        return f"takes: got {takes:,} of as many items seen, expected fewer"
    clusters = int(np.count_nonzero(control.seen))
    if clusters < LEAST_CLUSTERS:
        return (
            f"users: got some in {clusters} of the {CLUSTERS} clusters, expected them in at least"
            f" {LEAST_CLUSTERS}"
        )
    return None
