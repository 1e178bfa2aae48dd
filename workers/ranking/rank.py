"""From scores to a feed: filter, combine, diversify, rank, limit the sources, cut.

    final_score(item) = sum over objectives k of  weight_k * score_k(item),  then + each adjustment
    of the item

- The sum runs in float64, in the surface's order of objectives. So everybody can compute it again
  bit for bit from the published record.
- The order is (-final_score, item_id by bytes). It does not depend on the order of arrival.
- A candidate without a finite score is filtered before the sum. Items that exceed the limit of
  their source are removed after the order is known.

Candidates are columns beside each other: ids, sources and a matrix of scores. Every step works with
arrays, or with indices into them. Nothing is made for each item.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.ranking.diversify import DIVERSITY, Diversity, Sources, diversify
from workers.ranking.experiment import CONTROL
from workers.ranking.feed import NO_ADJUSTMENTS, Feed, FeedItems
from workers.ranking.mix import Assignment
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


class RankJob(NamedTuple):
    """A closed request, and all that it is ranked under. `models` has the version of the model of
    each objective. `ranked_at` is in ms since the epoch.
    """

    request: Request
    assignment: Assignment
    models: Mapping[str, int]
    ranked_at: int


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
    """Rank one closed request under exactly one set of weights. See rank_together."""
    assignment = Assignment(arm, weights, experiment=experiment)
    (feed,) = rank_together([RankJob(request, assignment, models, ranked_at)], scores, failed)
    return feed


def rank_together(
    jobs: Sequence[RankJob], scores: Scores, failed: Mask | None = None
) -> list[Feed]:
    """Rank closed requests whose candidates are scored by the same models. Each feed is ranked under
    exactly one set of weights.

    `scores` and `failed` have the candidates of all jobs, one job after the other. Combining and
    sorting is done for all of them at once, which changes no feed.

    What becomes of a candidate:
    - If its score is not finite in some objective, it is removed. If a model `failed` on it, that
      is the reason.
    - If its source has too many better items, it is removed.
    - If it ranks below the surface's `top_k`, it is counted.
    - Otherwise it is an item of the feed.
    """
    ids_of_jobs = [job.request.item_ids for job in jobs]
    ends = list(accumulate(map(len, ids_of_jobs)))
    is_finite = np.isfinite(scores)
    are_all_finite = bool(is_finite.all())

    final = _combine_together(jobs, scores)
    order = _order_together(ends, final, ids_of_jobs)

    # An array of references: it is put in order in half the time of a list.
    item_ids = np.fromiter(chain.from_iterable(ids_of_jobs), np.object_, len(scores))
    ordered_ids = item_ids[order].tolist()
    ordered_final = final[order]
    ordered_scores = scores.take(order, axis=0).astype(np.float64)

    feeds: list[Feed] = []
    start = 0
    for job, end in zip(jobs, ends, strict=True):
        surface = job.request.surface
        if surface.has_source_rules or not (are_all_finite or is_finite[start:end].all()):
            own_failed = None if failed is None else failed[start:end]
            feeds.append(_rank_by_itself(job, scores[start:end], own_failed))
        else:
            stop = min(end, start + surface.top_k) if surface.top_k else end
            items = FeedItems(
                item_ids=ordered_ids[start:stop],
                final_scores=ordered_final[start:stop],
                scores=ordered_scores[start:stop],
            )
            feeds.append(_feed(job, items, [], below_top_k=end - stop))
        start = end
    return feeds


def _rank_by_itself(job: RankJob, scores: Scores, failed: Mask | None) -> Feed:
    """Rank a request whose surface has rules on sources, or that loses candidates before the
    sum.
    """
    request = job.request
    surface = request.surface
    sources = request.sources or (None,) * len(request.item_ids)
    candidates = ScoredCandidates(request.item_ids, sources, scores)
    candidates, removed = keep_finite(candidates, failed)

    ranking = rank_candidates(
        candidates, job.assignment.weights, surface.diversity, surface.max_per_source
    )
    removed += source_limit_removals(candidates, ranking.over_limit)

    kept = ranking.kept[: surface.top_k or None]
    items = feed_items(candidates, ranking, kept)
    if not surface.has_source_rules:
        items = FeedItems(items.item_ids, items.final_scores, items.scores)
    return _feed(job, items, sorted(removed), below_top_k=len(ranking.kept) - len(kept))


def _feed(job: RankJob, items: FeedItems, removed: list[Removal], below_top_k: int) -> Feed:
    request = job.request
    surface = request.surface
    assignment = job.assignment
    return Feed(
        request_id=request.request_id,
        surface=surface.name,
        user_id=request.user_id,
        requested_at=request.requested_at,
        ranked_at=job.ranked_at,
        completion=request.completion,
        refused=request.refused,
        arm=assignment.arm,
        experiment=assignment.experiment,
        weights=assignment.weights,
        models=job.models,
        items=items,
        removed=removed,
        below_top_k=below_top_k,
        diversity=surface.diversity,
        max_per_source=surface.max_per_source,
    )


# Many requests at once


def _combine_together(jobs: Sequence[RankJob], scores: Scores) -> NDArray[np.float64]:
    """The weighted sums of all jobs `[candidates]`, each as `combine` adds it up."""
    sets = [job.assignment.weights for job in jobs]
    # A score may be infinite. Its candidate is removed, so its sum does not matter.
    with np.errstate(invalid="ignore"):
        if all(weights is sets[0] for weights in sets):
            return combine(scores, sets[0])

        weights_of_jobs = np.array([list(weights.values.values()) for weights in sets])
        counts = [len(job.request.item_ids) for job in jobs]
        weights_of_each = np.repeat(weights_of_jobs, counts, axis=0)
        return _weighted_sums(scores, weights_of_each.T)


def _order_together(
    ends: Sequence[int], final: NDArray[np.float64], ids_of_jobs: Sequence[Sequence[str]]
) -> NDArray[np.intp]:
    """The indices of all candidates: those of one job after the other, each job's by
    (-final score, item id by bytes). `ends` are the indices behind the last candidate of each job.
    """
    order = _sort_segments(-final, np.diff(ends, prepend=0))

    in_order = final[order]
    tied = np.flatnonzero(in_order[1:] == in_order[:-1])
    jobs = np.searchsorted(ends, tied, side="right")
    is_same_job = jobs == np.searchsorted(ends, tied + 1, side="right")
    for job in np.unique(jobs[is_same_job]).tolist():
        start = ends[job - 1] if job else 0
        end = ends[job]
        order[start:end] = order_by_score(final[start:end], ids_of_jobs[job])
        order[start:end] += start
    return order


def _sort_segments(values: NDArray[np.float64], counts: NDArray[np.intp]) -> NDArray[np.intp]:
    """The indices of all values: by segment, then by value. Equal values come in any order."""
    if counts.size and counts[0] > 0 and (counts == counts[0]).all():
        # Segments of one length are the rows of a matrix, which is sorted in a tenth of the time.
        table = values.reshape(len(counts), counts[0])
        within = np.argsort(table, axis=1)
        order: NDArray[np.intp] = (within + np.arange(len(counts))[:, None] * counts[0]).ravel()
        return order
    segment_of_each = np.repeat(np.arange(len(counts)), counts)
    return np.lexsort((values, segment_of_each))


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
    return _weighted_sums(scores, weights.values.values())


def _weighted_sums(
    scores: Scores, weights: Iterable[float | NDArray[np.float64]]
) -> NDArray[np.float64]:
    """`weights` has for each objective one weight, or one for each candidate."""
    combined = np.zeros(scores.shape[0], np.float64)
    for column, weight in enumerate(weights):
        combined += weight * scores[:, column].astype(np.float64)
    return combined


def order_by_score(final: NDArray[np.float64], item_ids: Sequence[str]) -> list[int]:
    """Indices by (-final score, item id by bytes). Every final score must be finite."""
    order = np.argsort(-final, kind="stable")
    in_order = final[order]
    if (in_order[1:] == in_order[:-1]).any():
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


def feed_items(candidates: ScoredCandidates, ranking: Ranking, kept: Sequence[int]) -> FeedItems:
    """The items of a feed with their sources and adjustments. `kept` are indices in the order of
    the feed.
    """
    indices = np.array(kept, np.intp)
    adjustments: list[Mapping[str, float]] | None = None
    if ranking.adjustments is not None:
        adjustments = []
        for adjustment in ranking.adjustments[indices].tolist():
            adjustments.append({DIVERSITY: adjustment} if adjustment else NO_ADJUSTMENTS)

    return FeedItems(
        item_ids=[candidates.item_ids[index] for index in kept],
        final_scores=ranking.final[indices],
        scores=candidates.scores[indices].astype(np.float64),
        sources=[candidates.sources[index] for index in kept],
        adjustments=adjustments,
    )


def source_limit_removals(candidates: ScoredCandidates, indices: Iterable[int]) -> list[Removal]:
    """Removals of items over the limit of their source. Each has what it takes to rank the item
    under other weights.
    """
    removals = list[Removal]()
    for index in indices:
        item_id = candidates.item_ids[index]
        source = candidates.sources[index]
        scores = tuple(candidates.scores[index].tolist())
        removals.append(Removal(item_id, RemovalReason.SOURCE_LIMIT, source, scores))
    return removals
