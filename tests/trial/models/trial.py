"""The trial of models: calm, then swaps, over one stream of requests that never stops."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from tests.rig.environment import Environment
from tests.rig.judge import count
from tests.rig.machine import this_machine
from tests.rig.measured import SURFACES
from tests.rig.oracle import Oracle
from tests.rig.process import Process, pause
from tests.rig.statuses import Statuses
from tests.rig.times import Span
from tests.trial.models import judge
from tests.trial.models.feeds import FeedScored, see_scored
from tests.trial.models.owner import Made, Owner
from tests.trial.models.plan import REASONS, plan
from tests.trial.models.report import Limits, Report
from tests.trial.models.swaps import Silences, follow, spans_of, swaps_seen
from tests.trial.workload import Recording, record, start_workers
from workers.steering.keys import Keys

Say = Callable[[str], None]
_LAST_SECONDS = 1.0


class Acts(NamedTuple):
    """What was done: the calm, then the swaps. And why the workers refuse bad versions at the end."""

    swaps_made: list[Made]
    calm: Span
    swapping: Span
    refusals: dict[tuple[str, int], list[str | None]]
    partitions_moved: bool


def run_models_trial(base: Environment, limits: Limits, say: Say) -> Report:
    """Try it on servers that are up; `base` has their addresses and the files, to which versions
    are added. `say` gets a line for each step.
    """
    began = time.monotonic()
    load_before = os.getloadavg()[0]
    # The oracle clips this feature, as the surfaces of the other tests on real servers do.
    bounded = SURFACES.replace(
        "[feature_sets.wide]", "[feature_sets.wide]\nbounds = { f0 = [-1.0, 1.0] }"
    )
    (base.folder / "surfaces.toml").write_text(bounded)
    env = base.fresh()
    recording = record(
        env,
        limits,
        see=partial(see_scored, candidates=limits.candidates),
        workers=_owner(env, limits, say),
        act=lambda owner: _act(owner, limits, say),
    )

    say(f"{len(recording.feeds):,} feeds to be judged")
    acts = recording.acts
    counted = count(range(len(recording.sent)), (feed.request for feed in recording.feeds))
    feeds = judge.by_partition(recording.feeds)
    followed = follow(feeds, acts.swaps_made)
    silences = Silences.of(feeds, recording.sent, recording.wakeups)
    oracle = Oracle(env.folder / "models")
    return Report(
        machine=this_machine(),
        limits=limits,
        load=(load_before, os.getloadavg()[0]),
        seconds=round(time.monotonic() - began, 1),
        swapping_seconds=round((acts.swapping.end - acts.swapping.start) / 1e9, 1),
        requests=len(recording.sent),
        feeds=len(recording.feeds),
        lost=len(counted.lost),
        doubled=counted.extra,
        not_whole=sum(not feed.whole for feed in recording.feeds),
        out_of_turn=followed.out_of_turn,
        misscored=judge.count_misscored(_by_good_versions(recording), limits.load, oracle.model),
        unrefused=judge.unrefused(acts.swaps_made, acts.refusals, limits.workers),
        misnamed=sum(made.named != made.swap.version for made in acts.swaps_made),
        partitions_moved=acts.partitions_moved,
        swaps=tuple(swaps_seen(acts.swaps_made, followed, silences)),
        calm=silences.within(acts.calm),
        apart=silences.within(acts.swapping, apart_from=spans_of(acts.swaps_made, followed)),
    )


@contextmanager
def _owner(env: Environment, limits: Limits, say: Say) -> Iterator[tuple[Owner, Process]]:
    keys = Keys(f"{env.name}:")
    say(f"{limits.workers} workers")
    with env.redis_client() as client:
        statuses = Statuses(client, keys.prefix)
        with start_workers(env, limits.workers, statuses) as process:
            yield Owner(env, client, keys, statuses, limits.workers), process


def _act(owner: Owner, limits: Limits, say: Say) -> Acts:
    swaps = plan(limits.copies, limits.trips, limits.seed)
    owner.weigh()
    pause(limits.warm_up_seconds)
    owners = owner.statuses.owners()

    say(f"calm, {limits.calm_seconds:.0f} s")
    calm = Span.of(lambda: pause(limits.calm_seconds))

    say(f"{len(swaps)} swaps")
    swaps_made = [owner.make(swap) for swap in swaps]
    swapping = Span(calm.end, time.time_ns())
    pause(_LAST_SECONDS)
    return Acts(
        swaps_made=swaps_made,
        calm=calm,
        swapping=swapping,
        refusals=owner.refusals(),
        partitions_moved=owner.statuses.owners() != owners,
    )


def _by_good_versions(recording: Recording[FeedScored, Acts]) -> Iterator[FeedScored]:
    """The feeds by no bad version. One by a bad version is out of turn, and its file has no score."""
    bad = {
        (made.swap.objective, made.swap.version)
        for made in recording.acts.swaps_made
        if made.swap.kind in REASONS
    }
    return (feed for feed in recording.feeds if not bad & feed.models.items())
