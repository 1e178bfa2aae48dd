"""The trial of steering: calm, changes, acknowledgements, outages, over one stream of requests that
never stops.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from tests.rig.background import Background
from tests.rig.environment import Environment
from tests.rig.machine import this_machine
from tests.rig.measured import SURFACES
from tests.rig.process import Process, pause
from tests.rig.redis import RedisServer
from tests.rig.statuses import Statuses
from tests.rig.times import Span, Times
from tests.trial.steering import judge
from tests.trial.steering.acknowledgements import Acknowledgement, acknowledge
from tests.trial.steering.applied import AppliedSeen, overhear
from tests.trial.steering.feeds import FeedSeen, see_feed
from tests.trial.steering.operators import Operators
from tests.trial.steering.outages import Outage, Outages
from tests.trial.steering.plan import Change, Texts, plan, sets_of
from tests.trial.steering.report import Acknowledged, Changes, Limits, OutageSeen, Report
from tests.trial.workload import SURFACE, Recording, record, start_workers
from workers.steering.keys import Keys

Say = Callable[[str], None]
_BOUNDS = "weight_bounds = { quality = [0.0, 1.0], engagement = [0.0, 1.0] }\n"


class Storm(NamedTuple):
    """The changes that were made, the calm before them, and what the workers reported."""

    changes: Sequence[Change]
    calm: Span
    storm: Span
    reports: list[AppliedSeen]


class Acts(NamedTuple):
    """What was done, and by whom, before it is judged."""

    operators: Operators
    storm: Storm
    acknowledgements: list[Acknowledgement]
    outages: list[Outage]


@dataclass(frozen=True)
class Actor:
    """Does everything to an environment whose workers are ready."""

    limits: Limits
    env: Environment
    redis: RedisServer
    operators: Operators
    statuses: Statuses
    sets: Iterator[Texts]
    say: Say

    def act(self) -> Acts:
        """All acts, one after the other."""
        pause(self.limits.warm_up_seconds)
        return Acts(
            operators=self.operators,
            storm=self._storm(),
            acknowledgements=self._acknowledge(),
            outages=self._outages(),
        )

    def _storm(self) -> Storm:
        changes = plan(self.limits.changes, self.limits.seed, self.sets)
        seconds = sum(change.pause for change in changes)
        self._settle()
        with Background(overhear, self.redis.port, self.operators.keys.prefix) as listening:
            self.say(f"calm, {seconds:.0f} s")
            calm = Span.of(lambda: pause(seconds))
            self.say(f"{len(changes):,} changes")
            storm = Span.of(lambda: self._make(changes))
            self._settle()
            reports = listening.stop()
        return Storm(changes, calm, storm, reports)

    def _make(self, changes: Sequence[Change]) -> None:
        for change in changes:
            pause(change.pause)
            self.operators.make(change)

    def _settle(self) -> None:
        """Write a set, and wait until all workers are under it."""
        self.operators.hset(next(self.sets))
        version = self.operators.history.version_in_force
        self.statuses.wait_until_applied(SURFACE, version, self.limits.workers)

    def _acknowledge(self) -> list[Acknowledgement]:
        limits = self.limits
        draw = random.Random(limits.seed)
        self.say(f"{limits.acknowledged} changes, each waited for")
        acknowledgements = []
        for _ in range(limits.acknowledged):
            acknowledgements.append(
                acknowledge(
                    env=self.env,
                    operators=self.operators,
                    statuses=self.statuses,
                    texts=next(self.sets),
                    workers=limits.workers,
                    head_start=draw.uniform(0.5, 2.0),
                )
            )
        return acknowledgements

    def _outages(self) -> list[Outage]:
        limits = self.limits
        outages = Outages(
            redis=self.redis,
            operators=self.operators,
            statuses=self.statuses,
            workers=limits.workers,
            seconds=limits.outage_seconds,
            draw=random.Random(limits.seed),
        )
        kinds = (outages.killed, outages.frozen, outages.replaced)
        made = []
        for make in kinds[: limits.outages]:
            self.say(f"Redis goes away: {make.__name__}")
            made.append(make(next(self.sets)))
        return made


def run_trial(base: Environment, redis: RedisServer, limits: Limits, say: Say) -> Report:
    """Try everything on servers that are up; `base` has their addresses and the files.

    `say` gets a line for each step.
    """
    began = time.monotonic()
    load_before = os.getloadavg()[0]
    (base.folder / "surfaces.toml").write_text(SURFACES + _BOUNDS)
    env = replace(base, redis=redis.url).fresh()
    see = partial(see_feed, candidates=limits.candidates)
    workers = _workers(env, limits, redis, say)
    recording = record(env, limits, see, workers, act=Actor.act)
    judged = _Judged(limits, recording)
    periods = recording.acts.operators.history.periods()
    return Report(
        machine=this_machine(),
        limits=limits,
        load=(load_before, os.getloadavg()[0]),
        seconds=round(time.monotonic() - began, 1),
        feeds=judge.count_feeds(recording.sent, recording.feeds, periods),
        changes=judged.changes(),
        acknowledged=judged.acknowledged(),
        outages=tuple(judged.outage(outage) for outage in recording.acts.outages),
    )


@contextmanager
def _workers(
    env: Environment, limits: Limits, redis: RedisServer, say: Say
) -> Iterator[tuple[Actor, Process]]:
    prefix = f"{env.name}:"
    say(f"{limits.workers} workers")
    with redis.operator_client() as client:
        statuses = Statuses(client, prefix)
        with start_workers(env, limits.workers, statuses) as process:
            operators = Operators(client, redis.url, Keys(prefix))
            count = 2 * limits.changes + limits.acknowledged + limits.outages + 2
            sets = sets_of(limits.seed, count)
            yield Actor(limits, env, redis, operators, statuses, sets, say), process


@dataclass(frozen=True)
class _Judged:
    """Everything that was recorded, and what it comes to."""

    limits: Limits
    recording: Recording[FeedSeen, Acts]

    def changes(self) -> Changes:
        sent = self.recording.sent
        feeds = self.recording.feeds
        made = self.recording.acts.storm
        races = self.recording.acts.operators.races
        periods = self.recording.acts.operators.history.periods()
        of_storm = [period for period in periods if made.storm.holds(period.sent)]
        return Changes(
            kinds=dict(Counter(str(change.kind) for change in made.changes).most_common()),
            sets_in_force=len(of_storm),
            seconds=round((made.storm.end - made.storm.start) / 1e9, 1),
            applying=judge.applying(of_storm, made.reports, self.limits.workers),
            stale=judge.stale(feeds, periods, made.storm),
            calm=judge.latency(sent, feeds, made.calm),
            storm=judge.latency(sent, feeds, made.storm),
            late_in_calm=judge.lateness(self.recording.wakeups, made.calm),
            late_in_storm=judge.lateness(self.recording.wakeups, made.storm),
            races=races.run,
            races_read_again=races.read_again,
            races_wrong=races.wrong,
        )

    def acknowledged(self) -> Acknowledged:
        periods = self.recording.acts.operators.history.periods()
        false = 0
        for one in self.recording.acts.acknowledgements:
            false += one.elsewhere
            false += judge.ranked_before(
                self.recording.feeds, one.acknowledged, periods, one.version
            )
        times = Times.of(
            one.acknowledged - one.sent for one in self.recording.acts.acknowledgements
        )
        return Acknowledged(times, false)

    def outage(self, outage: Outage) -> OutageSeen:
        span = Span(outage.gone, outage.written)
        return OutageSeen(
            name=outage.name,
            gone_seconds=round((outage.back - outage.gone) / 1e9, 1),
            feeds=judge.latency(self.recording.sent, self.recording.feeds, span),
            against=judge.ranked_against(self.recording.feeds, span, outage.version),
            reported_ms=outage.reported_ms,
            applied_ms=round(outage.applied_ms, 1),
        )
