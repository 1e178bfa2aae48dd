"""Sums of made-up readers."""

import numpy as np
from numpy.typing import NDArray

from workers.outcomes.cluster_counts import ClusterCounts
from workers.outcomes.records import ArmHour
from workers.outcomes.sums import CLUSTERS, ClusterSums, Sums
from workers.outcomes.user_sums import UserSums

HOUR = 490_000
PHASE = "0123456789ab"


def sums(
    *,
    seen: int,
    take_rate: float,
    clusters: int = CLUSTERS,
    spread: float = 0.0,
    hides: int | None = None,
    deadline_feeds: int = 0,
    score: float | None = None,
) -> Sums:
    """Sums of `seen` items in each of the first `clusters` clusters, ten to a feed.

    The take-rate is higher by the fraction `spread` in every other cluster and lower in the rest.
    `hides` and `deadline_feeds` are totals, `score` is the mean of the objective `quality`.
    """
    by_cluster: dict[int, ClusterSums] = {}
    for number in range(clusters):
        rate = take_rate * (1 + spread if number % 2 else 1 - spread)
        cluster = ClusterSums(feeds=seen // 10, items=seen, seen=seen, takes=round(seen * rate))
        cluster.deadline_feeds = _part(deadline_feeds, number, clusters)
        if hides is not None:
            cluster.others["hide"] = _part(hides, number, clusters)
        if score is not None:
            cluster.scores["quality"] = seen * score * (1.01 if number % 2 else 0.99)
        by_cluster[number] = cluster
    return Sums(clusters=by_cluster)


def _part(total: int, number: int, parts: int) -> int:
    """What the part with this number gets if a total is dealt out."""
    return total // parts + (number < total % parts)


def counts(**changes: float) -> ClusterCounts:
    """The same as arrays."""
    return ClusterCounts.of(sums(**changes))  # type: ignore[arg-type]


def arm_hour(arm: str, hour: int = HOUR, phase: str | None = PHASE) -> ArmHour:
    return ArmHour(hour, "home", arm, phase)


def users(count: int, **changes: int) -> UserSums:
    """Sums over users who are all new."""
    return UserSums(users=count, new_users=count)._replace(**changes)


def sums_of_arrays(takes: NDArray[np.float64], seen: NDArray[np.float64]) -> Sums:
    """Sums from a number for each cluster."""
    by_cluster: dict[int, ClusterSums] = {}
    for number in range(CLUSTERS):
        if seen[number]:
            by_cluster[number] = ClusterSums(
                feeds=1, items=int(seen[number]), seen=int(seen[number]), takes=int(takes[number])
            )
    return Sums(clusters=by_cluster)
