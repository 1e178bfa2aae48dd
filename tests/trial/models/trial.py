"""One whole trial of models: calm, then swaps, over one stream of requests that never stops."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from redis import Redis

from tests.bench.machine import this_machine
from tests.bench.rig import SURFACES, SURFACES_FILE, Lane, Rig
from tests.bench.runner import Running
from tests.integration.oracle import Oracle
from tests.trial.crew import start_crew
from tests.trial.judge import Span, lost_and_doubled
from tests.trial.models import judge
from tests.trial.models.owner import Made, Owner
from tests.trial.models.plan import REASONS, plan
from tests.trial.models.report import Limits, Report
from tests.trial.models.seen import Silences, follow, spans_of, swaps_seen
from tests.trial.models.stream import FeedScored, see_scored
from tests.trial.operators import pause
from tests.trial.scene import Played, play, span_of
from tests.trial.statuses import Statuses
from workers.steering.keys import Keys

Say = Callable[[str], None]
_LAST_SECONDS = 1.0


class Acts(NamedTuple):
    """What was done: the swaps, the calm before, and what the workers said of bad versions in the
    end.
    """

    made: list[Made]
    calm: Span
    swapping: Span
    refusals: dict[tuple[str, int], list[str | None]]
    partitions_moved: bool


_Seen = Played[FeedScored, Acts]


def run_models_trial(rig: Rig, limits: Limits, say: Say) -> Report:
    """Try it on servers that are up; `say` is told what is being done."""
    began, load_before = time.monotonic(), os.getloadavg()[0]
    # The oracle clips this feature, as the surfaces of the other tests on the real stack do.
    bounded = SURFACES.replace(
        "[feature_sets.wide]", "[feature_sets.wide]\nbounds = { f0 = [-1.0, 1.0] }"
    )
    (rig.folder / SURFACES_FILE).write_text(bounded)
    lane, see = rig.lane(), partial(see_scored, candidates=limits.candidates)
    seen = play(
        lane, limits, see, _owner(lane, limits, say), lambda owner: _act(owner, limits, say)
    )
    say(f"{len(seen.feeds):,} feeds to be judged")
    return _judged(rig, limits, seen, (load_before, os.getloadavg()[0]), time.monotonic() - began)


@contextmanager
def _owner(lane: Lane, limits: Limits, say: Say) -> Iterator[tuple[Owner, Running]]:
    keys = Keys(f"{lane.place.group}:")
    say(f"{limits.workers} workers")
    with Redis.from_url(lane.place.redis, decode_responses=True) as client:
        statuses = Statuses(client, keys.prefix)
        with start_crew(lane, limits.workers, statuses) as running:
            yield Owner(lane.place, client, keys, statuses, limits.workers), running


def _act(owner: Owner, limits: Limits, say: Say) -> Acts:
    swaps = plan(limits.copies, limits.trips, limits.seed)
    owner.weigh()
    pause(limits.warm_up_seconds)
    owners = owner.statuses.owners()
    say(f"calm, {limits.calm_seconds:.0f} s")
    calm = span_of(lambda: pause(limits.calm_seconds))
    say(f"{len(swaps)} swaps")
    made = [owner.make(swap) for swap in swaps]
    swapping = Span(calm.end, time.time_ns())
    pause(_LAST_SECONDS)
    return Acts(made, calm, swapping, owner.refusals(), owner.statuses.owners() != owners)


def _judged(
    rig: Rig, limits: Limits, seen: _Seen, loads: tuple[float, float], seconds: float
) -> Report:
    acts, feeds = seen.acts, judge.by_partition(seen.feeds)
    lost, doubled = lost_and_doubled(len(seen.sent), (feed.request for feed in seen.feeds))
    followed, silences = follow(feeds, acts.made), Silences.of(feeds, seen.sent, seen.wakings)
    return Report(
        machine=this_machine(),
        limits=limits,
        load=loads,
        seconds=round(seconds, 1),
        swapping_seconds=round((acts.swapping.end - acts.swapping.start) / 1e9, 1),
        requests=len(seen.sent),
        feeds=len(seen.feeds),
        lost=lost,
        doubled=doubled,
        unsound=sum(not feed.sound for feed in seen.feeds),
        astray=followed.astray,
        misscored=judge.count_misscored(
            _by_good(seen), limits.load, Oracle(rig.folder / "models").model
        ),
        unrefused=judge.unrefused(acts.made, acts.refusals, limits.workers),
        misnamed=sum(one.told != one.swap.version for one in acts.made),
        partitions_moved=acts.partitions_moved,
        swaps=tuple(swaps_seen(acts.made, followed, silences)),
        calm=silences.within(acts.calm),
        apart=silences.within(acts.swapping, apart_from=spans_of(acts.made, followed)),
    )


def _by_good(seen: _Seen) -> Iterator[FeedScored]:
    """The feeds by no bad version: those by one are astray, and its file gives no score."""
    bad = {
        (one.swap.objective, one.swap.version) for one in seen.acts.made if one.swap.kind in REASONS
    }
    return (feed for feed in seen.feeds if not bad & feed.models.items())
