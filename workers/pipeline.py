"""Score, combine, filter, diversify, rank: closed requests become feeds.

The same path for the worker and for `trimtab rank`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from workers.ranking.feed import Feed
from workers.ranking.mix import Drawn, Mix
from workers.ranking.rank import rank
from workers.ranking.request import Request
from workers.ranking.unscored import unscored
from workers.scoring.answers import Answer, Loading
from workers.scoring.library import Library
from workers.scoring.scorer import SurfaceModels, score_requests


class Ranked(NamedTuple):
    """`feeds` in the order of the requests; None where the models are still loading, and the request is to come again.

    `clipped` counts features that were outside their bounds, `unscored` the feeds that no model has scored.
    """

    feeds: list[Feed | None]
    clipped: int
    unscored: int


def rank_requests(
    requests: Sequence[Request],
    library: Library,
    mix_of: Callable[[str], Mix],
    ranked_at: Callable[[Request], int],
    is_overdue: Callable[[Request], bool] = lambda _: False,
) -> Ranked:
    """Rank a micro-batch; a request that is overdue does not wait for models any more.

    `mix_of` is asked once for each surface: all its feeds are drawn of one mix, and each is ranked under one set, by
    one version of each objective.
    """
    mixes = {name: mix_of(name) for name in {request.surface.name for request in requests}}
    drawn = [mixes[request.surface.name].draw(request.user_id) for request in requests]
    answers = _answers(requests, drawn, library)
    found = list(zip(requests, drawn, answers, strict=True))
    batch = score_requests([(request, models) for request, _, models in found if isinstance(models, SurfaceModels)])
    scores, feeds, lacking = iter(batch.scores), list[Feed | None](), 0
    for request, under, models in found:
        if isinstance(models, SurfaceModels):
            scored = next(scores)
            feeds.append(rank(request, scored, under.weights, models.versions, ranked_at(request), under.arm))
        elif isinstance(models, Loading) and not is_overdue(request):
            feeds.append(None)
        else:
            feeds.append(unscored(request, under, ranked_at(request)))
            lacking += 1
    return Ranked(feeds, batch.clipped, lacking)


def _answers(requests: Sequence[Request], drawn: Sequence[Drawn], library: Library) -> list[Answer]:
    """The models of each request: looked for once for each surface and arm."""
    known: dict[tuple[str, str], Answer] = {}
    for request, under in zip(requests, drawn, strict=True):
        at = request.surface.name, under.arm
        if at not in known:
            known[at] = library.models_for(request.surface, tuple(under.weights.values), under.pins, under.arm)
    return [known[request.surface.name, under.arm] for request, under in zip(requests, drawn, strict=True)]
