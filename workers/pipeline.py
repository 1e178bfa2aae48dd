"""Look up, score, combine, filter, diversify, rank: closed requests become feeds.

The same path for the worker and for `trimtab rank`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from workers.ranking.feed import Feed
from workers.ranking.lookup import LookUp, hydrate, nothing_to_look_up
from workers.ranking.mix import Assignment, Mix
from workers.ranking.rank import rank
from workers.ranking.request import Request
from workers.ranking.unscored import unscored
from workers.scoring.registry import Registry
from workers.scoring.resolver import Loading, Resolution
from workers.scoring.scorer import SurfaceModels, score_requests


class Ranked(NamedTuple):
    """`feeds` in the order of the requests; None where the models are still loading, and the
    request is to come again.

    `clipped` counts features that were outside their bounds, `unscored` the feeds that no model has
    scored, `dropped` and `defaulted` the candidates that were dropped and that have default
    features, `without_lookups` the feeds for which a look-up was skipped, `model_errors` the
    candidates that a model failed on.
    """

    feeds: list[Feed | None]
    clipped: int
    unscored: int
    dropped: int
    defaulted: int
    without_lookups: int
    model_errors: int = 0


def rank_requests(
    requests: Sequence[Request],
    registry: Registry,
    mix_of: Callable[[str], Mix],
    ranked_at: Callable[[Request], int],
    is_overdue: Callable[[Request], bool] = lambda _: False,
    look_up: LookUp = nothing_to_look_up,
) -> Ranked:
    """Rank a micro-batch; a request that is overdue does not wait for models any more.

    `mix_of` is asked once for each surface: all its feeds are drawn of one mix, and each is ranked
    under one set, by one version of each objective. `look_up` is asked at most once, and only for
    requests that are ranked now: one that still waits for its models costs no look-up. A candidate
    that a model fails on is removed; where a model fails altogether, the request ends in a feed
    that says that nothing was scored.
    """
    mixes = {name: mix_of(name) for name in {request.surface.name for request in requests}}
    assignments = [mixes[request.surface.name].assign(request.user_id) for request in requests]
    found = list(zip(requests, assignments, _answers(requests, assignments, registry), strict=True))
    scorable = [
        (request, models) for request, _, models in found if isinstance(models, SurfaceModels)
    ]
    known = hydrate([request for request, _ in scorable], look_up)
    batch = score_requests(
        [(one.request, models) for one, (_, models) in zip(known, scorable, strict=True)]
    )
    registry.note_errors(batch.errors)
    feeds = list[Feed | None]()
    lacking = 0
    scored = iter(range(len(scorable)))
    for request, under, models in found:
        if isinstance(models, Loading) and not is_overdue(request):
            feeds.append(None)
            continue
        place = next(scored) if isinstance(models, SurfaceModels) else None
        if not isinstance(models, SurfaceModels) or place is None or place in batch.unscored:
            feeds.append(unscored(request, under, ranked_at(request)))
            lacking += 1
            continue
        feed = rank(
            known[place].request,
            batch.scores[place],
            under.weights,
            models.versions,
            ranked_at(request),
            under.arm,
            batch.failed.get(place),
        )
        feeds.append(known[place].tell(feed))
    looked_up = [one for place, one in enumerate(known) if place not in batch.unscored]
    return Ranked(
        feeds,
        batch.clipped,
        lacking,
        dropped=sum(len(one.dropped) for one in looked_up),
        defaulted=sum(len(one.defaulted) for one in looked_up),
        without_lookups=sum(bool(one.skipped) for one in looked_up),
        model_errors=batch.model_errors,
    )


def _answers(
    requests: Sequence[Request], assignments: Sequence[Assignment], registry: Registry
) -> list[Resolution]:
    """The models of each request: looked for once for each surface and arm."""
    known: dict[tuple[str, str], Resolution] = {}
    for request, under in zip(requests, assignments, strict=True):
        at = request.surface.name, under.arm
        if at not in known:
            known[at] = registry.models_for(
                request.surface, tuple(under.weights.values), under.pins, under.arm
            )
    return [
        known[request.surface.name, under.arm]
        for request, under in zip(requests, assignments, strict=True)
    ]
