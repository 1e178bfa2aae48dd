"""From scores to a feed: filter, combine, diversify, rank, limit the sources, cut.

    final_score(item) = sum over objectives k of  weight_k * score_k(item),  then + each adjustment
    of the item

- The sum runs in float64, in the surface's order of objectives. So everybody can compute it again
  bit for bit from the published record.
- The order is (-final_score, item_id by bytes). It does not depend on the order of arrival.
- A candidate without a finite score is filtered before the sum. Items that exceed the limit of
  their source are removed after the order is known.

Candidates are columns beside each other: ids, sources and a matrix of scores. Every step works with
arrays, or with indices into them. Only `feed_items` makes an object for each item.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.ranking.diversify import DIVERSITY, Diversity, Sources, diversify
from workers.ranking.experiment import CONTROL
from workers.ranking.feed import NO_ADJUSTMENTS, Feed, FeedItem
from workers.ranking.removal import Removal, RemovalReason
from workers.ranking.request import Request
from workers.ranking.weights import Weights

Scores = NDArray[np.float32]
"""`[candidates, objectives]`, columns in the surface's order of objectives."""

Mask = NDArray[np.bool_]
"""`[candidates]`."""


class ScoredCandidates(NamedTuple):
    """Candidates as columns of the same length."""

    item_ids: tuple[str, ...]
    sources: Sources
    scores: Scores


class Ranking(NamedTuple):
    """The result of `rank_candidates`.

    `kept` and `over_limit` are indices, best first: the items that are ranked, and those that
    exceed the limit of their source. `final` are the final scores `[candidates]`. `adjustments`
    `[candidates]` are what diversity added to them. None if the surface has no diversity.
    """

    kept: list[int]
    over_limit: list[int]
    final: NDArray[np.float64]
    adjustments: NDArray[np.float64] | None


class LimitedSources(NamedTuple):
    """Indices of the items that stay, and of those that exceed the limit of their source. Both are
    in the given order.
    """

    kept: list[int]
    over_limit: list[int]


def rank(
    request: Request,
    scores: Scores,
    weights: Weights,
    models: Mapping[str, int],
    ranked_at: int,
    arm: str = CONTROL,
    experiment: str | None = None,
    failed: Mask | None = None,
) -> Feed:
    """Rank one closed request under exactly one set of weights. `ranked_at` is in ms.

    What becomes of a candidate:
    - If its score is not finite in some objective, it is removed. If a model `failed` on it, that
      is the reason.
    - If its source has too many better items, it is removed.
    - If it ranks below the surface's `top_k`, it is counted.
    - Otherwise it is an item of the feed.
    """
    surface = request.surface
    sources = request.sources or (None,) * len(request.item_ids)
    candidates = ScoredCandidates(request.item_ids, sources, scores)
    candidates, removed = keep_finite(candidates, failed)

    ranking = rank_candidates(candidates, weights, surface.diversity, surface.max_per_source)
    removed += source_limit_removals(candidates, ranking.over_limit)

    kept = ranking.kept[: surface.top_k or None]
    if surface.has_source_rules:
        items = feed_items(candidates, ranking, kept)
    else:
        items = _items_without_sources(candidates, ranking, kept)

    return Feed(
        request_id=request.request_id,
        surface=surface.name,
        user_id=request.user_id,
        requested_at=request.requested_at,
        ranked_at=ranked_at,
        completion=request.completion,
        refused=request.refused,
        arm=arm,
        experiment=experiment,
        weights=weights,
        models=models,
        items=items,
        removed=sorted(removed),
        below_top_k=len(ranking.kept) - len(kept),
        diversity=surface.diversity,
        max_per_source=surface.max_per_source,
    )


# Filter


def keep_finite(
    candidates: ScoredCandidates, failed: Mask | None = None
) -> tuple[ScoredCandidates, list[Removal]]:
    """Split off the candidates that have a score that is not finite. `failed`: a model failed on
    them, which is then the reason.
    """
    is_finite = np.isfinite(candidates.scores)
    if is_finite.all():
        return candidates, []

    has_scores: Mask = np.asarray(is_finite.all(axis=1))
    item_ids = list[str]()
    sources = list[str | None]()
    removed = list[Removal]()
    for index, is_kept in enumerate(has_scores.tolist()):
        item_id = candidates.item_ids[index]
        if is_kept:
            item_ids.append(item_id)
            sources.append(candidates.sources[index])
        elif failed is not None and failed[index]:
            removed.append(Removal(item_id, RemovalReason.MODEL_ERROR))
        else:
            removed.append(Removal(item_id, RemovalReason.NOT_FINITE))

    scores = candidates.scores[has_scores]
    return ScoredCandidates(tuple(item_ids), tuple(sources), scores), removed


# Combine, diversify, rank, limit the sources


def rank_candidates(
    candidates: ScoredCandidates,
    weights: Weights,
    diversity: Diversity | None,
    max_per_source: int,
) -> Ranking:
    """Everything that decides the order. Every score must be finite.

    A preview calls this too, with other weights. So a new rule that changes the order belongs here.
    """
    final = combine(candidates.scores, weights)
    order = order_by_score(final, candidates.item_ids)

    adjustments = None
    if diversity is not None:
        adjustments = diversify(final, order, candidates.sources, diversity)
        final = final + adjustments
        order = order_by_score(final, candidates.item_ids)

    kept, over_limit = limit_sources(order, candidates.sources, max_per_source)
    return Ranking(kept, over_limit, final, adjustments)


def combine(scores: Scores, weights: Weights) -> NDArray[np.float64]:
    """The weighted sums `[candidates]` in float64, added one objective after the other."""
    combined = np.zeros(scores.shape[0], np.float64)
    for column, weight in enumerate(weights.values.values()):
        combined += weight * scores[:, column].astype(np.float64)
    return combined


def order_by_score(final: NDArray[np.float64], item_ids: tuple[str, ...]) -> list[int]:
    """Indices by (-final score, item id by bytes). Every final score must be finite."""
    order = np.argsort(-final, kind="stable")
    has_ties = len(order) > 1 and not np.diff(final[order]).all()
    if has_ties:
        # UTF-8 bytes sort as code points do, and so do Python's strings.
        scores = final.tolist()
        return sorted(range(len(scores)), key=lambda index: (-scores[index], item_ids[index]))

    indices: list[int] = order.tolist()
    return indices


def limit_sources(order: list[int], sources: Sources, max_per_source: int) -> LimitedSources:
    """Keep the first `max_per_source` items of each source. 0: keep all. Items without a source are
    always kept.
    """
    if max_per_source == 0:
        return LimitedSources(order, [])

    kept = list[int]()
    over_limit = list[int]()
    counts = Counter[str]()
    for index in order:
        source = sources[index]
        if source is None:
            kept.append(index)
            continue

        counts[source] += 1
        if counts[source] <= max_per_source:
            kept.append(index)
        else:
            over_limit.append(index)
    return LimitedSources(kept, over_limit)


# The parts of a feed

# The constructor of a named tuple is a Python function. This one costs half as much.
_new = tuple.__new__


def feed_items(
    candidates: ScoredCandidates, ranking: Ranking, kept: Iterable[int]
) -> list[FeedItem]:
    """The items of a feed whose surface reads sources, with their sources and adjustments. `kept`
    are indices in the order of the feed.
    """
    item_ids = candidates.item_ids
    sources = candidates.sources
    final = ranking.final.tolist()
    scores = candidates.scores.tolist()
    adjustments = [0.0] * len(final)
    if ranking.adjustments is not None:
        adjustments = ranking.adjustments.tolist()

    items = list[FeedItem]()
    for index in kept:
        adjustment = adjustments[index]
        adjusted = {DIVERSITY: adjustment} if adjustment else NO_ADJUSTMENTS
        fields = (item_ids[index], final[index], tuple(scores[index]), sources[index], adjusted)
        items.append(_new(FeedItem, fields))
    return items


def _items_without_sources(
    candidates: ScoredCandidates, ranking: Ranking, kept: Iterable[int]
) -> list[FeedItem]:
    """The same for all other surfaces. Most feeds are such, so this loop stays tight."""
    item_ids = candidates.item_ids
    final = ranking.final.tolist()
    scores = candidates.scores.tolist()
    return [
        _new(FeedItem, (item_ids[i], final[i], tuple(scores[i]), None, NO_ADJUSTMENTS))
        for i in kept
    ]


def source_limit_removals(candidates: ScoredCandidates, indices: Iterable[int]) -> list[Removal]:
    """Removals of items over the limit of their source. Each has what it takes to rank the item
    under other weights.
    """
    removals = list[Removal]()
    for index in indices:
        item_id = candidates.item_ids[index]
        source = candidates.sources[index]
        scores = tuple(candidates.scores[index].tolist())
        removals.append(_new(Removal, (item_id, RemovalReason.SOURCE_LIMIT, source, scores)))
    return removals
