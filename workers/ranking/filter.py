"""Filter: what cannot be ranked, and what a source has too much of. Each item that goes is removed
with a reason.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.ranking.removal import Removal, RemovalReason
from workers.ranking.scored import Scored, Sources


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
