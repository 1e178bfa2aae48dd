"""Simulated readers: they come back, a few of them read most, and their tastes differ."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.outcomes.cluster_counts import ClusterCounts
from workers.outcomes.sums import CLUSTERS

TAKE_RATE = 0.05

Counts = NDArray[np.float64]


class ArmStream(NamedTuple):
    """What one arm did up to each look: a row for each look, a column for each cluster."""

    takes: Counts
    seen: Counts

    def counts(self, look: int) -> ClusterCounts:
        """The counts of the items seen between this look and the one before."""
        counts = ClusterCounts()
        counts.takes = self.takes[look].copy()
        counts.seen = self.seen[look].copy()
        if look:
            counts.takes -= self.takes[look - 1]
            counts.seen -= self.seen[look - 1]
        counts.feeds = counts.seen / 10
        return counts


@dataclass(frozen=True)
class Readers:
    """How readers behave.

    - `seen_per_look` is how many items a reader sees between two looks, on average. It differs by a
      log-normal factor with the standard deviation `tail` on the log scale.
    - `tastes` is how alike tastes are: the take-rate of a reader is beta-distributed, as if it had
      been learned from so many takes.
    - Most readers come for the first time at a random look, and stay.
    """

    count: int
    looks: int
    seen_per_look: float = 4.0
    tail: float = 1.2
    tastes: float = 2.0

    def stream(
        self, generator: np.random.Generator, share: float = 0.5, lift: float = 0.0
    ) -> tuple[ArmStream, ArmStream]:
        """Control, and an arm with a share of the readers and this lift."""
        in_arm = generator.random(self.count) < share
        cluster = generator.integers(CLUSTERS, size=self.count)
        first_look = generator.integers(self.looks, size=self.count)
        first_look[generator.random(self.count) < 0.3] = 0
        factor = generator.lognormal(-(self.tail**2) / 2, self.tail, self.count)
        activity = self.seen_per_look * factor
        misses = self.tastes * (1 - TAKE_RATE) / TAKE_RATE
        taste = generator.beta(self.tastes, misses, self.count)

        control = self._arm(generator, ~in_arm, cluster, first_look, activity, taste)
        arm = self._arm(generator, in_arm, cluster, first_look, activity, taste * (1 + lift))
        return control, arm

    def _arm(
        self,
        generator: np.random.Generator,
        chosen: NDArray[np.bool_],
        cluster: NDArray[np.int64],
        first_look: NDArray[np.int64],
        activity: Counts,
        taste: Counts,
    ) -> ArmStream:
        """Takes of a cluster are Poisson: they are those of its readers, added up. Items seen are as
        many as expected.
        """
        cell = (first_look * CLUSTERS + cluster)[chosen]
        shape = (self.looks, CLUSTERS)
        size = self.looks * CLUSTERS
        seen = np.bincount(cell, activity[chosen], size).reshape(shape).cumsum(axis=0)
        taken = np.bincount(cell, (activity * taste)[chosen], size).reshape(shape).cumsum(axis=0)
        takes = generator.poisson(taken).cumsum(axis=0)
        return ArmStream(takes.astype(np.float64), np.rint(seen.cumsum(axis=0)))
