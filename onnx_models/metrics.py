"""How good an order of posts is: Spearman's rho and NDCG@10, beside two orders that need no model.

Every figure is the mean over the communities with at least FEWEST posts, so that no community
counts more than another.
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
    """Spearman's rho: Pearson's correlation of the ranks. Ties share their mean rank.

    0 if one of the two is constant.
    """
    left = ranks(np.asarray(a, np.float64))
    right = ranks(np.asarray(b, np.float64))
    if left.std() == 0 or right.std() == 0:
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])


def ndcg(score: Score, gain: Score, top: int = TOP) -> float:
    """NDCG@top with linear gain and the discount 1/log2(position + 2), positions from 0. Ties keep
    their order.

    Source: Järvelin and Kekäläinen 2002, doi:10.1145/582415.582418, in the form with
    log2(position + 2).
    """
    discount = 1 / np.log2(np.arange(min(top, len(gain))) + 2)
    got = gain[np.argsort(-np.asarray(score), kind="stable")[:top]]
    best = np.sort(gain)[::-1][:top]
    return float(got @ discount / (best @ discount))


def by_community(measure: Measure, a: Score, b: Score, communities: Names) -> float:
    """The mean of a measure over communities."""
    measured = list[float]()
    for indices in groups(communities):
        if len(indices) >= FEWEST:
            measured.append(measure(a[indices], b[indices]))
    return float(np.mean(measured))


def quality_of_order(score: Score, values: Numbers, communities: Names) -> dict[str, float]:
    """How close the order by `score` is to the order by `values`.

    The gain of NDCG is the rank within the community.
    """
    gain = ranks_within(values, communities)
    return {
        "spearman": round(by_community(spearman, score, gain, communities), 4),
        "ndcg@10": round(by_community(ndcg, score, gain, communities), 4),
    }


def baselines(
    created: Numbers, values: Numbers, communities: Names, seed: int
) -> Mapping[str, object]:
    """The same figures for orders that need no model: shuffled (the mean of SHUFFLES orders), and
    newest first.
    """
    random = np.random.default_rng(seed)
    shuffled = list[dict[str, float]]()
    for _ in range(SHUFFLES):
        shuffled.append(quality_of_order(random.random(len(values)), values, communities))

    means: dict[str, float] = {}
    for key in shuffled[0]:
        means[key] = round(float(np.mean([order[key] for order in shuffled])), 4)
    return {"shuffled": means, "newest_first": quality_of_order(created, values, communities)}


def conflict(a: Score, b: Score, communities: Names) -> dict[str, float]:
    """How much two orders of the same posts differ, by three measures."""
    measures: Mapping[str, Measure] = {
        "spearman": spearman,
        "opposed_pairs": opposed_pairs,
        "shared_in_top_tenth": shared_in_top_tenth,
    }
    figures: dict[str, float] = {}
    for name, measure in measures.items():
        figures[name] = round(by_community(measure, a, b, communities), 4)
    return figures


def opposed_pairs(a: Score, b: Score) -> float:
    """The share of pairs that the two orders put the other way round. Pairs that are tied in one of
    them do not count.
    """
    left = np.sign(a[:, None] - a[None, :])
    right = np.sign(b[:, None] - b[None, :])
    agreement = left * right
    return float((agreement < 0).sum() / max(1, (agreement != 0).sum()))


def shared_in_top_tenth(a: Score, b: Score) -> float:
    """The share of the best tenth by one order that is in the best tenth by the other. By chance it
    would be 0.1.
    """
    top = max(1, len(a) // 10)
    best_by_a = set(np.argsort(-np.asarray(a), kind="stable")[:top].tolist())
    best_by_b = set(np.argsort(-np.asarray(b), kind="stable")[:top].tolist())
    return len(best_by_a & best_by_b) / top
