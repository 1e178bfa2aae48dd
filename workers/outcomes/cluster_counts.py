"""Sums as arrays over clusters: what every comparison of arms is computed from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from workers.outcomes.plan import DEADLINE, TAKE_RATE
from workers.outcomes.records import ArmHour
from workers.outcomes.statistics import FloatArray
from workers.outcomes.sums import CLUSTERS, Sums


class MetricSums(NamedTuple):
    """A metric is the sum of its numerators divided by that of its denominators. Both arrays have
    one number for each cluster.

    `is_count` is true if numerators count events, and false if they add up scores.
    """

    numerators: FloatArray
    denominators: FloatArray
    is_count: bool = True

    @property
    def events(self) -> float:
        """How many events the metric rests on: what is counted, or the items that have a score."""
        counted = self.numerators if self.is_count else self.denominators
        return float(counted.sum())


def _zeros() -> FloatArray:
    return np.zeros(CLUSTERS)


@dataclass
class ClusterCounts:
    """The counts of any number of feeds by cluster. Each array has one number for each cluster.

    `others` and `scores` have a count and its base by name: of an outcome the items that had it and
    the items seen, of an objective the sum of its scores and the items. The base is of those feeds
    only for which the name was known, so that a new outcome does not begin with a rate of nearly 0.
    """

    feeds: FloatArray = field(default_factory=_zeros)
    deadline_feeds: FloatArray = field(default_factory=_zeros)
    items: FloatArray = field(default_factory=_zeros)
    seen: FloatArray = field(default_factory=_zeros)
    takes: FloatArray = field(default_factory=_zeros)
    others: dict[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)
    scores: dict[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)

    @classmethod
    def of(cls, sums: Sums) -> "ClusterCounts":
        """The counts that these sums hold."""
        counts = cls()
        for number, cluster in sums.clusters.items():
            counts.feeds[number] = cluster.feeds
            counts.deadline_feeds[number] = cluster.deadline_feeds
            counts.items[number] = cluster.items
            counts.seen[number] = cluster.seen
            counts.takes[number] = cluster.takes
            for name, count in cluster.others.items():
                pair = counts.others.setdefault(name, (_zeros(), _zeros()))
                pair[0][number] = count
                pair[1][number] = cluster.seen
            for name, score in cluster.scores.items():
                pair = counts.scores.setdefault(name, (_zeros(), _zeros()))
                pair[0][number] = score
                pair[1][number] = cluster.items
        return counts

    def add(self, other: "ClusterCounts") -> None:
        """Add the counts of other feeds."""
        self.feeds += other.feeds
        self.deadline_feeds += other.deadline_feeds
        self.items += other.items
        self.seen += other.seen
        self.takes += other.takes
        for mine, theirs in ((self.others, other.others), (self.scores, other.scores)):
            for name, pair in theirs.items():
                own = mine.setdefault(name, (_zeros(), _zeros()))
                own[0][:] += pair[0]
                own[1][:] += pair[1]

    def metric(self, name: str) -> MetricSums:
        """The sums of a metric (`plan.py`). All 0 if these feeds know nothing of it."""
        if name == TAKE_RATE:
            return MetricSums(self.takes, self.seen)
        if name == DEADLINE:
            return MetricSums(self.deadline_feeds, self.feeds)
        if name in self.others:
            return MetricSums(*self.others[name])
        if name in self.scores:
            return MetricSums(*self.scores[name], is_count=False)
        return MetricSums(_zeros(), _zeros())


PhaseCounts = Mapping[str, Mapping[str, ClusterCounts]]
"""The counts by phase, and in it by arm."""


def count_by_phase(counts: Iterable[tuple[ArmHour, ClusterCounts]]) -> PhaseCounts:
    """Add up the counts of one surface by phase and arm. Feeds that are in no phase are left out:
    the feeds before an experiment are not those of its control.
    """
    by_phase: dict[str, dict[str, ClusterCounts]] = {}
    for key, of_key in counts:
        if key.experiment is not None:
            by_arm = by_phase.setdefault(key.experiment, {})
            by_arm.setdefault(key.arm, ClusterCounts()).add(of_key)
    return by_phase
