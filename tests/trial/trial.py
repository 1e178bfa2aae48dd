"""One whole trial: calm, changes, acknowledgements, outages, over one stream of requests that never
stops.
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

from tests.bench.machine import this_machine
from tests.bench.rig import SURFACES, SURFACES_FILE, Lane, Rig
from tests.bench.runner import Running
from tests.trial import judge
from tests.trial.acknowledge import Acknowledgement, acknowledge
from tests.trial.apart import Apart
from tests.trial.crew import start_crew
from tests.trial.judge import Span
from tests.trial.operators import Operators, pause
from tests.trial.outages import Outage, Outages
from tests.trial.own_redis import OwnRedis
from tests.trial.plan import Change, Texts, plan, sets_of
from tests.trial.report import Acknowledged, Changes, Limits, OutageSeen, Report
from tests.trial.scene import Played, play, span_of
from tests.trial.statuses import AppliedSeen, Statuses, overhear
from tests.trial.stream import FeedSeen, see_feed
from workers.steering.keys import Keys

Say = Callable[[str], None]
_BOUNDS = "weight_bounds = { quality = [0.0, 1.0], engagement = [0.0, 1.0] }\n"


class Storm(NamedTuple):
    """The changes that were made, the calm before them, and what the workers said."""

    changes: Sequence[Change]
    calm: Span
    storm: Span
    heard: list[AppliedSeen]


class Acts(NamedTuple):
    """What was done, and by whom, before it is judged."""

    operators: Operators
    storm: Storm
    acknowledgements: list[Acknowledgement]
    outages: list[Outage]


@dataclass(frozen=True)
class Stage:
    """A lane with workers that are ready, and all that turns their weights."""

    limits: Limits
    lane: Lane
    redis: OwnRedis
    operators: Operators
    statuses: Statuses
    sets: Iterator[Texts]
    say: Say

    def play(self) -> Acts:
        """All acts, one after the other."""
        pause(self.limits.warm_up_seconds)
        return Acts(self.operators, self._storm(), self._acknowledge(), self._outages())

    def _storm(self) -> Storm:
        changes = plan(self.limits.changes, self.limits.seed, self.sets)
        seconds = sum(change.pause for change in changes)
        self._settle()
        with Apart(overhear, self.redis.port, self.operators.keys.prefix) as listening:
            self.say(f"calm, {seconds:.0f} s")
            calm = span_of(lambda: pause(seconds))
            self.say(f"{len(changes):,} changes")
            storm = span_of(lambda: self._make(changes))
            self._settle()
            heard = listening.end()
        return Storm(changes, calm, storm, heard)

    def _make(self, changes: Sequence[Change]) -> None:
        for change in changes:
            pause(change.pause)
            self.operators.make(change)

    def _settle(self) -> None:
        """A set that all workers stand on."""
        self.operators.hset(next(self.sets))
        self.statuses.wait_for(self.operators.ledger.in_force, self.limits.workers)

    def _acknowledge(self) -> list[Acknowledgement]:
        limits, draw = self.limits, random.Random(self.limits.seed)
        self.say(f"{limits.acknowledged} changes, each waited for")
        return [
            acknowledge(
                self.operators,
                self.statuses,
                self.lane.place,
                next(self.sets),
                limits.workers,
                draw.uniform(0.5, 2.0),
            )
            for _ in range(limits.acknowledged)
        ]

    def _outages(self) -> list[Outage]:
        limits = self.limits
        outages = Outages(
            redis=self.redis,
            operators=self.operators,
            statuses=self.statuses,
            workers=limits.workers,
            seconds=limits.outage_seconds,
            now=time.time_ns,
            draw=random.Random(limits.seed),
        )
        found = []
        for outage in (outages.killed, outages.frozen, outages.replaced)[: limits.outages]:
            self.say(f"Redis goes away: {outage.__name__}")
            found.append(outage(next(self.sets)))
        return found


def run_trial(rig: Rig, redis: OwnRedis, limits: Limits, say: Say) -> Report:
    """Try everything on servers that are up; `say` is told what is being done."""
    began, load_before = time.monotonic(), os.getloadavg()[0]
    (rig.folder / SURFACES_FILE).write_text(SURFACES + _BOUNDS)
    lane = replace(rig, redis=redis.url).lane()
    see = partial(see_feed, candidates=limits.candidates)
    seen = _Seen(limits, play(lane, limits, see, _workers(lane, limits, redis, say), Stage.play))
    return Report(
        machine=this_machine(),
        limits=limits,
        load=(load_before, os.getloadavg()[0]),
        seconds=round(time.monotonic() - began, 1),
        feeds=judge.count_feeds(seen.played.sent, seen.played.feeds, seen.operators.ledger.eras()),
        changes=seen.changes(),
        acknowledged=seen.acknowledged(),
        outages=tuple(seen.outage(outage) for outage in seen.played.acts.outages),
    )


@contextmanager
def _workers(
    lane: Lane, limits: Limits, redis: OwnRedis, say: Say
) -> Iterator[tuple[Stage, Running]]:
    prefix = f"{lane.place.group}:"
    say(f"{limits.workers} workers")
    with (
        redis.client() as client,
        start_crew(lane, limits.workers, statuses := Statuses(client, prefix)) as running,
    ):
        operators = Operators(client, redis.url, Keys(prefix))
        sets = sets_of(limits.seed, 2 * limits.changes + limits.acknowledged + limits.outages + 2)
        yield Stage(limits, lane, redis, operators, statuses, sets, say), running


@dataclass(frozen=True)
class _Seen:
    """Everything that was seen, to be judged."""

    limits: Limits
    played: Played[FeedSeen, Acts]

    @property
    def operators(self) -> Operators:
        """Who has turned the weights."""
        return self.played.acts.operators

    def changes(self) -> Changes:
        made, races = self.played.acts.storm, self.operators.races
        eras = self.operators.ledger.eras()
        of_storm = [era for era in eras if made.storm.holds(era.sent)]
        return Changes(
            kinds=dict(Counter(str(change.kind) for change in made.changes).most_common()),
            sets_in_force=len(of_storm),
            seconds=round((made.storm.end - made.storm.start) / 1e9, 1),
            applying=judge.applying(of_storm, made.heard, self.limits.workers),
            stale=judge.stale(self.played.feeds, eras, made.storm),
            calm=judge.latency(self.played.sent, self.played.feeds, made.calm),
            storm=judge.latency(self.played.sent, self.played.feeds, made.storm),
            woken_in_calm=judge.woken(self.played.wakings, made.calm),
            woken_in_storm=judge.woken(self.played.wakings, made.storm),
            races=races.run,
            races_read_again=races.read_again,
            races_wrong=races.wrong,
        )

    def acknowledged(self) -> Acknowledged:
        eras, found = self.operators.ledger.eras(), self.played.acts.acknowledgements
        behind = [
            judge.ranked_before(self.played.feeds, one.acknowledged, eras, one.version)
            for one in found
        ]
        return Acknowledged(
            times=judge.Times.of(one.acknowledged - one.sent for one in found),
            false=sum(one.elsewhere for one in found) + sum(behind),
        )

    def outage(self, outage: Outage) -> OutageSeen:
        span = Span(outage.gone, outage.written)
        return OutageSeen(
            name=outage.name,
            gone_seconds=round((outage.back - outage.gone) / 1e9, 1),
            feeds=judge.latency(self.played.sent, self.played.feeds, span),
            against=judge.ranked_against(self.played.feeds, span, outage.version),
            heard_ms=outage.heard_ms,
            applied_ms=round(outage.applied_ms, 1),
        )
