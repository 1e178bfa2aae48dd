"""Combine the scores of every objective under one set of weights, and rank.

    final_score(item) = sum over objectives k of  weight_k * score_k(item)

The sum runs in float64, in the surface's order of objectives, so that anyone recomputes it bit for bit from the
published record. The order is (-final_score, item_id by bytes): it does not depend on arrival.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from workers.ranking.feed import NO_ADJUSTMENTS, Feed, FeedItem, Removal, RemovalReason
from workers.ranking.request import Request
from workers.ranking.weights import Weights

# A named tuple's own constructor is a Python function: this one costs half of it.
_new = tuple.__new__

Scores = NDArray[np.float32]
"""`[candidates, objectives]`, columns in the surface's order of objectives."""


def combine(scores: Scores, weights: Weights) -> NDArray[np.float64]:
    """Final scores `[candidates]`, float64: the weighted sum, one objective after the other."""
    final = np.zeros(scores.shape[0], np.float64)
    for column, weight in enumerate(weights.values.values()):
        final += weight * scores[:, column].astype(np.float64)
    return final


def order(final: NDArray[np.float64], item_ids: tuple[str, ...]) -> list[int]:
    """Indices by (-final score, item id by bytes). Every final score is finite."""
    ranked = np.argsort(-final, kind="stable")
    if len(ranked) > 1 and not np.diff(final[ranked]).all():
        # UTF-8 bytes sort as code points do, and so do Python's strings.
        keys = final.tolist()
        return sorted(range(len(keys)), key=lambda i: (-keys[i], item_ids[i]))
    indices: list[int] = ranked.tolist()
    return indices


def rank(
    request: Request,
    scores: Scores,
    weights: Weights,
    models: Mapping[str, int],
    ranked_at: int,
    arm: str = "control",
) -> Feed:
    """Rank one closed request under exactly one set of weights.

    A candidate whose score is not finite in some objective is removed, with that reason: it never ranks. What ranks
    below the surface's `top_k` is counted.
    """
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(scores).all(axis=1))
    removed: list[Removal] = []
    item_ids = request.item_ids
    if not finite.all():
        removed = [Removal(i, RemovalReason.NOT_FINITE) for i, ok in zip(item_ids, finite, strict=True) if not ok]
        item_ids = tuple(i for i, ok in zip(item_ids, finite, strict=True) if ok)
        scores = scores[finite]
    final = combine(scores, weights)
    ranked = order(final, item_ids)
    kept = ranked[: request.surface.top_k or None]
    finals, rows = final.tolist(), scores.tolist()
    return Feed(
        request_id=request.request_id,
        surface=request.surface.name,
        user_id=request.user_id,
        requested_at=request.requested_at,
        ranked_at=ranked_at,
        completion=request.completion,
        refused=request.refused,
        arm=arm,
        weights=weights,
        models=models,
        items=[_new(FeedItem, (item_ids[i], finals[i], tuple(rows[i]), None, NO_ADJUSTMENTS)) for i in kept],
        removed=sorted(removed),
        below_top_k=len(ranked) - len(kept),
    )
