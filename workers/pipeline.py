"""Score, combine, filter, diversify, rank: closed requests become feeds.

The same path for the worker and for `trimtab rank`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from workers.ranking.feed import Feed
from workers.ranking.mix import Mix
from workers.ranking.rank import rank
from workers.ranking.request import Request
from workers.ranking.scored import Scores
from workers.scoring.scorer import Scorer


class Ranked(NamedTuple):
    """`feeds` in the order of the requests; `clipped` counts features that were outside their bounds."""

    feeds: list[Feed]
    clipped: int


def rank_requests(
    requests: Sequence[Request],
    scorer: Scorer,
    mix_of: Callable[[str], Mix],
    ranked_at: Callable[[Request], int],
) -> Ranked:
    """Rank a micro-batch.

    `mix_of` is asked once for each surface: all its feeds are drawn of one mix, and each is ranked under one set.
    """
    mixes = {name: mix_of(name) for name in {request.surface.name for request in requests}}
    batch = scorer.score(requests)
    feeds = [
        _rank(request, scores, mixes[request.surface.name], batch.models[request.surface.name], ranked_at(request))
        for request, scores in zip(requests, batch.scores, strict=True)
    ]
    return Ranked(feeds, batch.clipped)


def _rank(request: Request, scores: Scores, mix: Mix, models: Mapping[str, int], ranked_at: int) -> Feed:
    drawn = mix.draw(request.user_id)
    return rank(request, scores, drawn.weights, models, ranked_at, drawn.arm)
