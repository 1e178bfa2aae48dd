"""Two arms compared by take-rate: at one look, and after each hour.

Arms are compared phase by phase (`statistics.py`). A phase in which one of them has no data counts
for nothing.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from workers.outcomes.cluster_counts import ClusterCounts, PhaseCounts
from workers.outcomes.statistics import (
    Effect,
    FloatArray,
    lift_effect,
    phase_weights,
    stratified_ratio,
)
from workers.outcomes.sums import CLUSTERS


class Comparison(NamedTuple):
    """One look at an arm and the arm that it is compared with.

    - `effect` is None if there is no phase with data of both, or if one of them has no takes.
    - `takes` is how many takes the arm has that has fewer, in the phases that count.
    - `weight` is the sum of the phases' weights. It grows as the traffic does.
    """

    effect: Effect | None
    takes: int
    weight: float


class _Counts:
    """Takes and items seen of one arm, with a row for each phase and a column for each cluster."""

    def __init__(self, phases: Sequence[str]) -> None:
        self._rows = {phase: row for row, phase in enumerate(phases)}
        self.takes: FloatArray = np.zeros((len(phases), CLUSTERS))
        self.seen: FloatArray = np.zeros((len(phases), CLUSTERS))

    def add(self, phase: str, counts: ClusterCounts) -> None:
        row = self._rows[phase]
        self.takes[row] += counts.takes
        self.seen[row] += counts.seen


def compare(counts: PhaseCounts, arm: str, against: str) -> Comparison:
    """Compare two arms over these phases."""
    return compare_by_hour({0: counts}, arm, against)[0]


def compare_by_hour(
    hours: Mapping[int, PhaseCounts], arm: str, against: str
) -> dict[int, Comparison]:
    """Compare two arms after each hour, with all that was counted up to its end."""
    phases = sorted({phase for counts in hours.values() for phase in counts})
    own = _Counts(phases)
    other = _Counts(phases)

    comparisons: dict[int, Comparison] = {}
    for hour in sorted(hours):
        for phase, by_arm in hours[hour].items():
            for name, cumulative in ((arm, own), (against, other)):
                if name in by_arm:
                    cumulative.add(phase, by_arm[name])
        comparisons[hour] = _compare(own, other)
    return comparisons


def _compare(own: _Counts, other: _Counts) -> Comparison:
    weights = phase_weights(own.seen.sum(axis=1), other.seen.sum(axis=1))
    used = weights > 0
    takes = min(own.takes[used].sum(), other.takes[used].sum())

    effect = None
    own_rate = stratified_ratio(own.takes, own.seen, weights)
    other_rate = stratified_ratio(other.takes, other.seen, weights)
    if own_rate is not None and other_rate is not None:
        effect = lift_effect(own_rate, other_rate)
    return Comparison(effect, int(takes), float(weights.sum()))
