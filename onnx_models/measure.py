"""How good an order is, by community: Spearman's rho and NDCG@10, beside two orders that need no
model.

Every figure is the mean over communities with at least FEWEST posts, so that no community counts
more than another.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from onnx_models.communities import Names, Numbers, groups, ranks, ranks_within

FEWEST = 20
TOP = 10
SHUFFLES = 20

Score = NDArray[np.floating]
Measure = Callable[[Score, Score], float]


def spearman(a: Score, b: Score) -> float:
    """Spearman's rho: Pearson's correlation of the ranks, ties sharing their mean; 0 where one is
    constant.
    """
    left, right = ranks(np.asarray(a, np.float64)), ranks(np.asarray(b, np.float64))
    if left.std() == 0 or right.std() == 0:
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])


def ndcg(score: Score, gain: Score, top: int = TOP) -> float:
    """NDCG@top with linear gain and discount 1/log2(place + 2), places from 0; ties keep their
    order.

    Source: Järvelin and Kekäläinen 2002, doi:10.1145/582415.582418, in its form with log2(place +
    2).
    """
    discount = 1 / np.log2(np.arange(min(top, len(gain))) + 2)
    got = gain[np.argsort(-np.asarray(score), kind="stable")[:top]]
    best = np.sort(gain)[::-1][:top]
    return float(got @ discount / (best @ discount))


def by_community(measure: Measure, a: Score, b: Score, communities: Names) -> float:
    """The mean of a measure over communities."""
    large = [places for places in groups(communities) if len(places) >= FEWEST]
    return float(np.mean([measure(a[places], b[places]) for places in large]))


def quality_of_order(score: Score, values: Numbers, communities: Names) -> dict[str, float]:
    """How near an order by `score` comes to the order by `values`; NDCG's gain is the rank within
    the community.
    """
    gain = ranks_within(values, communities)
    return {
        "spearman": round(by_community(spearman, score, gain, communities), 4),
        "ndcg@10": round(by_community(ndcg, score, gain, communities), 4),
    }


def baselines(
    created: Numbers, values: Numbers, communities: Names, seed: int
) -> Mapping[str, object]:
    """The same figures for orders that need no model: shuffled (mean of SHUFFLES) and newest first."""
    shuffle = np.random.default_rng(seed)
    shuffled = [
        quality_of_order(shuffle.random(len(values)), values, communities) for _ in range(SHUFFLES)
    ]
    means = {
        key: round(float(np.mean([order[key] for order in shuffled])), 4) for key in shuffled[0]
    }
    return {"shuffled": means, "newest_first": quality_of_order(created, values, communities)}


def conflict(a: Score, b: Score, communities: Names) -> dict[str, float]:
    """How much two orders of the same posts differ: rho, opposed pairs, shared best."""
    measures: Mapping[str, Measure] = {
        "spearman": spearman,
        "opposed_pairs": opposed_pairs,
        "shared_in_top_tenth": shared_in_top_tenth,
    }
    return {
        name: round(by_community(measure, a, b, communities), 4)
        for name, measure in measures.items()
    }


def opposed_pairs(a: Score, b: Score) -> float:
    """The share of pairs, tied in neither, that the two orders put the other way round."""
    left, right = np.sign(a[:, None] - a[None, :]), np.sign(b[:, None] - b[None, :])
    judged = left * right
    return float((judged < 0).sum() / max(1, (judged != 0).sum()))


def shared_in_top_tenth(a: Score, b: Score) -> float:
    """The share of the best tenth by one order that is in the best tenth by the other (0.1 by
    chance).
    """
    top = max(1, len(a) // 10)
    first = [set(np.argsort(-np.asarray(order), kind="stable")[:top].tolist()) for order in (a, b)]
    return len(first[0] & first[1]) / top
