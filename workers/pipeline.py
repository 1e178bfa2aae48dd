"""Score, combine, rank: closed requests become feeds. The same path for the worker and for `trimtab rank`."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from workers.ranking.feed import Feed
from workers.ranking.rank import rank
from workers.ranking.request import Request
from workers.ranking.weights import Weights
from workers.scoring.scorer import Scorer


class Ranked(NamedTuple):
    """`feeds` in the order of the requests; `clipped` counts features that were outside their bounds."""

    feeds: list[Feed]
    clipped: int


def rank_requests(
    requests: Sequence[Request],
    scorer: Scorer,
    weights_of: Callable[[str], Weights],
    ranked_at: Callable[[Request], int],
) -> Ranked:
    """Rank a micro-batch.

    `weights_of` is asked once for each surface, so that a feed is ranked under exactly one set.
    """
    weights = {name: weights_of(name) for name in {request.surface.name for request in requests}}
    batch = scorer.score(requests)
    feeds = [
        rank(request, scores, weights[request.surface.name], batch.models[request.surface.name], ranked_at(request))
        for request, scores in zip(requests, batch.scores, strict=True)
    ]
    return Ranked(feeds, batch.clipped)
