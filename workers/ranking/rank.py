"""From scores to a feed: filter, combine, diversify, rank, limit the sources, cut.

    final_score(item) = sum over objectives k of  weight_k * score_k(item),  then + each adjustment
    of the item

The sum runs in float64, in the surface's order of objectives, so that anyone recomputes it bit for
bit from the published record. The order is (-final_score, item_id by bytes): it does not depend on
arrival. What cannot be ranked is filtered before the sum, and what a source has too much of after
the order is known.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.ranking.diversify import DIVERSITY, Diversity, Sources, diversify
from workers.ranking.feed import NO_ADJUSTMENTS, Feed, FeedItem
from workers.ranking.removal import Removal, RemovalReason
from workers.ranking.request import Request
from workers.ranking.weights import Weights

Scores = NDArray[np.float32]
"""`[candidates, objectives]`, columns in the surface's order of objectives."""


class Scored(NamedTuple):
    """Candidates, their sources and their scores, one beside the other."""

    item_ids: tuple[str, ...]
    sources: Sources
    scores: Scores


class Limited(NamedTuple):
    """Indices of the items that stay and of those over the limit of their source, both in their
    order.
    """

    kept: list[int]
    over: list[int]


def keep_finite(
    scored: Scored, failed: NDArray[np.bool_] | None = None
) -> tuple[Scored, list[Removal]]:
    """The candidates that have a finite score in every objective, and the others removed.

    `failed` has those that a model failed on, which have no score of it.
    """
    numbers = np.isfinite(scored.scores)
    if numbers.all():
        return scored, []
    finite: NDArray[np.bool_] = np.asarray(numbers.all(axis=1))
    places = np.flatnonzero(finite).tolist()
    item_ids, sources = (
        tuple(scored.item_ids[i] for i in places),
        tuple(scored.sources[i] for i in places),
    )
    gone = []
    for i in np.flatnonzero(~finite).tolist():
        is_error = failed is not None and failed[i]
        reason = RemovalReason.MODEL_ERROR if is_error else RemovalReason.NOT_FINITE
        gone.append(Removal(scored.item_ids[i], reason))
    return Scored(item_ids, sources, scored.scores[finite]), gone


def limit_sources(ranked: list[int], sources: Sources, most: int) -> Limited:
    """Of each source the first `most` of the order (0: all); items without a source are not
    counted.
    """
    if not most:
        return Limited(ranked, [])
    kept, over, counts = list[int](), list[int](), Counter[str]()
    for index in ranked:
        source = sources[index]
        if source is not None:
            counts[source] += 1
        (kept if source is None or counts[source] <= most else over).append(index)
    return Limited(kept, over)


def over_limit(scored: Scored, over: Iterable[int]) -> list[Removal]:
    """Items over the limit of their source, with what it takes to rank them under other weights."""
    rows = scored.scores
    return [
        Removal(
            scored.item_ids[i],
            RemovalReason.SOURCE_LIMIT,
            scored.sources[i],
            tuple(rows[i].tolist()),
        )
        for i in over
    ]


# A named tuple's own constructor is a Python function: this one costs half of it.
_new = tuple.__new__


class Ranking(NamedTuple):
    """Indices best first: those `kept`, and those `over` the limit of their source.

    `final` are the final scores `[candidates]`, and `adjustments` what diversity put into them;
    None where the rule is not there.
    """

    kept: list[int]
    over: list[int]
    final: NDArray[np.float64]
    adjustments: NDArray[np.float64] | None


def rank(
    request: Request,
    scores: Scores,
    weights: Weights,
    models: Mapping[str, int],
    ranked_at: int,
    arm: str = "control",
    failed: NDArray[np.bool_] | None = None,
) -> Feed:
    """Rank one closed request under exactly one set of weights.

    A candidate whose score is not finite in some objective, or that a model `failed` on, is
    removed, with that reason: it never ranks. So are the items that their source has too much of.
    What ranks below the surface's `top_k` is counted.
    """
    surface = request.surface
    scored, removed = keep_finite(Scored(request.item_ids, request.sources, scores), failed)
    ranking = place(scored, weights, surface.diversity, surface.max_per_source)
    kept = ranking.kept[: surface.top_k or None]
    return Feed(
        request_id=request.request_id,
        surface=surface.name,
        user_id=request.user_id,
        requested_at=request.requested_at,
        ranked_at=ranked_at,
        completion=request.completion,
        refused=request.refused,
        arm=arm,
        weights=weights,
        models=models,
        items=feed_items(scored, ranking, kept)
        if surface.reads_sources
        else _bare_items(scored, ranking, kept),
        removed=sorted(removed + over_limit(scored, ranking.over)),
        below_top_k=len(ranking.kept) - len(kept),
        diversity=surface.diversity,
        max_per_source=surface.max_per_source,
    )


def place(
    scored: Scored, weights: Weights, diversity: Diversity | None, max_per_source: int
) -> Ranking:
    """Combine, diversify, rank and limit the sources. Every score is finite."""
    final, adjustments = combine(scored.scores, weights), None
    ranked = order(final, scored.item_ids)
    if diversity is not None:
        adjustments = diversify(final, ranked, scored.sources, diversity)
        final = final + adjustments
        ranked = order(final, scored.item_ids)
    return Ranking(*limit_sources(ranked, scored.sources, max_per_source), final, adjustments)


def combine(scores: Scores, weights: Weights) -> NDArray[np.float64]:
    """Combined scores `[candidates]`, float64: the weighted sum, one objective after the other."""
    combined = np.zeros(scores.shape[0], np.float64)
    for column, weight in enumerate(weights.values.values()):
        combined += weight * scores[:, column].astype(np.float64)
    return combined


def order(final: NDArray[np.float64], item_ids: tuple[str, ...]) -> list[int]:
    """Indices by (-final score, item id by bytes). Every final score is finite."""
    ranked = np.argsort(-final, kind="stable")
    if len(ranked) > 1 and not np.diff(final[ranked]).all():
        # UTF-8 bytes sort as code points do, and so do Python's strings.
        keys = final.tolist()
        return sorted(range(len(keys)), key=lambda i: (-keys[i], item_ids[i]))
    indices: list[int] = ranked.tolist()
    return indices


def feed_items(scored: Scored, ranking: Ranking, kept: list[int]) -> list[FeedItem]:
    """The items of a feed whose surface reads sources: each with its source and its adjustments."""
    finals, rows, (item_ids, sources, _) = ranking.final.tolist(), scored.scores.tolist(), scored
    adjusted = [NO_ADJUSTMENTS] * len(rows)
    if ranking.adjustments is not None:
        adjusted = [
            {DIVERSITY: value} if value else NO_ADJUSTMENTS
            for value in ranking.adjustments.tolist()
        ]
    return [FeedItem(item_ids[i], finals[i], tuple(rows[i]), sources[i], adjusted[i]) for i in kept]


def _bare_items(scored: Scored, ranking: Ranking, kept: list[int]) -> list[FeedItem]:
    finals, rows, item_ids = ranking.final.tolist(), scored.scores.tolist(), scored.item_ids
    return [
        _new(FeedItem, (item_ids[i], finals[i], tuple(rows[i]), None, NO_ADJUSTMENTS)) for i in kept
    ]
