"""Look up, score, combine, filter, diversify, rank: closed requests become feeds.

The worker and `trimtab rank` use the same path. Each request is one job, and each step below fills
in its own field of the jobs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from workers.ranking.feed import Feed, unscored_feed
from workers.ranking.lookup import HydratedRequest, LookUp, hydrate, skip_lookups
from workers.ranking.mix import Assignment, Mix
from workers.ranking.rank import RankJob, rank_together
from workers.ranking.request import Request
from workers.scoring.registry import Registry
from workers.scoring.resolver import Loading, Resolution
from workers.scoring.scorer import ScoredGroup, SurfaceModels, score_requests


class Ranked(NamedTuple):
    """The result of a micro-batch: a feed for each request, in the order of the requests.

    A feed is None if the models of its request are still loading. The request must come again.
    """

    feeds: list[Feed | None]
    clipped: int
    """Features that were outside their bounds."""
    unscored: int
    """Feeds that no model has scored."""
    dropped: int
    """Candidates that a look-up dropped."""
    defaulted: int
    """Candidates with default features."""
    without_lookups: int
    """Feeds for which a look-up was skipped."""
    model_errors: int = 0
    """Candidates that a model failed on."""
    score_ns: Mapping[str, int] = {}
    """Nanoseconds of scoring, by objective."""


@dataclass(slots=True)
class Job:
    """One request on its way to a feed."""

    request: Request
    assignment: Assignment
    resolution: Resolution = field(init=False)

    # Filled in only if the models of the request are loaded.
    models: SurfaceModels = field(init=False)
    hydrated: HydratedRequest = field(init=False)
    feed: Feed | None = None
    """None if the request is not scored."""


def rank_requests(
    requests: Sequence[Request],
    registry: Registry,
    mix_of: Callable[[str], Mix],
    ranked_at: Callable[[Request], int],
    is_overdue: Callable[[Request], bool] = lambda _: False,
    look_up: LookUp = skip_lookups,
) -> Ranked:
    """Rank a micro-batch. What becomes of a request:

    | its models                       | its feed                                      |
    |----------------------------------|-----------------------------------------------|
    | are loading                      | None: the request must come again             |
    | are loading, and it is overdue   | without items: nothing was scored             |
    | are missing                      | without items: nothing was scored             |
    | one fails on all rows of a batch | without items: nothing was scored             |
    | one fails on some rows           | ranked, and the candidates of those rows are  |
    |                                  | removed                                       |
    | all succeed                      | ranked                                        |

    - `mix_of` is called once for each surface, so that all its feeds are ranked under one mix. Each
      feed is ranked under one set of weights, by one version of each objective.
    - `look_up` is called at most once, and only for requests whose models are loaded.
    - `ranked_at` returns ms since the epoch.
    """
    jobs = _assign(requests, mix_of)
    _resolve_models(jobs, registry)

    ready = [job for job in jobs if isinstance(job.resolution, SurfaceModels)]
    _look_up(ready, look_up)
    batch = score_requests([(job.hydrated.request, job.models) for job in ready])
    registry.note_errors(batch.errors)
    for group in batch.groups:
        _rank([ready[index] for index in group.indices], group, ranked_at)

    feeds = list[Feed | None]()
    unscored_feeds = 0
    for job in jobs:
        if job.feed is not None:
            feeds.append(job.feed)
        elif isinstance(job.resolution, Loading) and not is_overdue(job.request):
            feeds.append(None)
        else:
            feeds.append(unscored_feed(job.request, job.assignment, ranked_at(job.request)))
            unscored_feeds += 1

    scored = [job.hydrated for job in ready if job.feed is not None]
    return Ranked(
        feeds=feeds,
        clipped=batch.clipped,
        unscored=unscored_feeds,
        dropped=sum(len(hydrated.dropped) for hydrated in scored),
        defaulted=sum(len(hydrated.defaulted) for hydrated in scored),
        without_lookups=sum(bool(hydrated.skipped) for hydrated in scored),
        model_errors=batch.model_errors,
        score_ns=batch.nanoseconds,
    )


def _assign(requests: Sequence[Request], mix_of: Callable[[str], Mix]) -> list[Job]:
    """Assign each request to an arm of its surface's mix."""
    mixes: dict[str, Mix] = {}
    jobs = list[Job]()
    for request in requests:
        surface = request.surface.name
        if surface not in mixes:
            mixes[surface] = mix_of(surface)
        jobs.append(Job(request, mixes[surface].assign(request.user_id)))
    return jobs


def _resolve_models(jobs: Sequence[Job], registry: Registry) -> None:
    """Ask the registry for the models of each job, once for each surface and arm."""
    resolutions: dict[tuple[str, str], Resolution] = {}
    for job in jobs:
        assignment = job.assignment
        key = (job.request.surface.name, assignment.arm)
        if key not in resolutions:
            resolutions[key] = registry.models_for(
                job.request.surface,
                objectives=tuple(assignment.weights.values),
                pins=assignment.pins,
                arm=assignment.arm,
            )

        job.resolution = resolutions[key]
        if isinstance(job.resolution, SurfaceModels):
            job.models = job.resolution


def _look_up(ready: Sequence[Job], look_up: LookUp) -> None:
    """Drop the items that a look-up excludes, and fill in features that the candidates lack."""
    hydrated = hydrate([job.request for job in ready], look_up)
    for job, hydrated_request in zip(ready, hydrated, strict=True):
        job.hydrated = hydrated_request


def _rank(jobs: Sequence[Job], group: ScoredGroup, ranked_at: Callable[[Request], int]) -> None:
    """Combine, filter, diversify and rank the requests of a group. Record what their look-ups did."""
    rank_jobs: list[RankJob] = []
    for job in jobs:
        rank_jobs.append(
            RankJob(
                request=job.hydrated.request,
                assignment=job.assignment,
                models=job.models.versions,
                ranked_at=ranked_at(job.request),
            )
        )

    feeds = rank_together(rank_jobs, group.scores, group.failed)
    for job, feed in zip(jobs, feeds, strict=True):
        job.feed = job.hydrated.annotate(feed)
