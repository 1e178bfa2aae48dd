"""Where all surfaces stand: the snapshot that is ranked under, what is said of its changes, and its copy on disk."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from workers.ranking.experiment import Experiment
from workers.ranking.mix import Mix
from workers.ranking.surface import Surface
from workers.ranking.weights import Weights
from workers.steering import last_good
from workers.steering.events import Events
from workers.steering.keys import Keys
from workers.steering.last_good import LastGoodIgnored
from workers.steering.standing import Applied, Moment, Source, Standing
from workers.steering.surface_standing import Replies, SurfaceStanding, default_standing


class Standings:
    """One standing for each surface, at first its default set.

    One thread changes them. `snapshot` and `current` are immutable mappings, replaced whole: any thread reads them.
    """

    def __init__(
        self, surfaces: Mapping[str, Surface], keys: Keys, home: Path, events: Events, now: Callable[[], int]
    ) -> None:
        self._rules = {name: surface.weight_rules for name, surface in surfaces.items()}
        self._keys = keys
        self._home = home
        self._events = events
        self._now = now
        self._kept: dict[str, Mix] = {}
        self._replace({name: default_standing(rules, now()) for name, rules in self._rules.items()})

    def restore(self) -> None:
        """Stand on the mixes kept on disk; a file that must not be used is said and ignored."""
        self._replace({name: self._restored(name, standing) for name, standing in self.current.items()})
        self._kept = dict(self.snapshot)

    def say_fallbacks(self) -> None:
        """Say which surfaces do not stand on Redis, and on what instead."""
        for name, standing in self.current.items():
            if standing.applied.source is not Source.REDIS:
                self._events.say("weights_fallback", surface=name, **_described(standing.applied))

    def take(self, replies: Mapping[str, Replies], push_ms: float | None) -> list[str]:
        """Judge Redis's replies; the surfaces for which something was applied or refused, or is not there any more."""
        before, moment = self.current, Moment(self._now(), push_ms)
        after = {name: before[name].judge(found, self._rules[name], moment) for name, found in replies.items()}
        changed = [name for name in after if after[name] is not before[name]]
        if changed:
            self._replace({**before, **after})
        for name in changed:
            self._say_changes(name, before[name], after[name])
        return changed

    def keep(self) -> None:
        """Keep on disk what is not kept yet; an unwritable home is said and tried again."""
        trouble = None
        for name, mix in self.snapshot.items():
            if mix != self._kept.get(name):
                try:
                    last_good.save(self._home, self._keys.weights(name), mix, self._rules[name].default())
                    self._kept[name] = mix
                except OSError as error:
                    trouble = str(error)
        self._events.trouble("last_good_unwritable", trouble)

    def _replace(self, standings: dict[str, SurfaceStanding]) -> None:
        self.current: Mapping[str, SurfaceStanding] = MappingProxyType(standings)
        self.snapshot: Mapping[str, Mix] = MappingProxyType({name: s.mix for name, s in standings.items()})

    def _restored(self, name: str, standing: SurfaceStanding) -> SurfaceStanding:
        try:
            mix = last_good.load(self._home, self._keys.weights(name), self._rules[name])
        except LastGoodIgnored as ignored:
            self._events.say("last_good_ignored", surface=name, reason=str(ignored))
            return standing
        return standing if mix is None else _standing_on(mix, standing, self._now())

    def _say_changes(self, name: str, before: SurfaceStanding, after: SurfaceStanding) -> None:
        self._say_weights({"surface": name}, before.weights, after.weights)
        for arm, standing in after.arms.items():
            self._say_weights({"surface": name, "arm": arm}, before.arms.get(arm, Standing()), standing)
        self._say_experiment(name, before.experiment, after.experiment)

    def _say_weights(self, whose: Mapping[str, str], before: Standing[Weights], after: Standing[Weights]) -> None:
        version = before.applied and before.applied.value.version
        if after.applied and after.applied is not before.applied:
            self._events.say("weights_applied", **whose, previous=version, **_described(after.applied))
        elif after.refused and after.refused is not before.refused:
            self._events.say("weights_refused", **whose, version=version, reason=after.refused.reason)

    def _say_experiment(self, name: str, before: Standing[Experiment], after: Standing[Experiment]) -> None:
        if after.applied and after.applied is not before.applied:
            # The arms stand apart: their names are anybody's, `event` and `surface` too.
            salt, arms = after.applied.value.salt, after.applied.value.percents()
            self._events.say("experiment_applied", surface=name, salt=salt, arms=arms)
        elif after.refused and after.refused is not before.refused:
            self._events.say("experiment_refused", surface=name, reason=after.refused.reason)


def _standing_on(mix: Mix, standing: SurfaceStanding, now: int) -> SurfaceStanding:
    """What a surface stands on that was kept; its default is no news."""

    def kept(weights: Weights) -> Standing[Weights]:
        return Standing(Applied(weights, Source.LAST_GOOD, now))

    weights = standing.weights if mix.weights == standing.applied.value else kept(mix.weights)
    experiment = None if mix.experiment is None else Applied(mix.experiment, Source.LAST_GOOD, now)
    return SurfaceStanding(weights, Standing(experiment), {arm: kept(weights) for arm, weights in mix.arms.items()})


def _described(applied: Applied[Weights]) -> dict[str, object]:
    weights = applied.value
    return {"version": weights.version, "values": dict(weights.values), "source": str(applied.source)}
