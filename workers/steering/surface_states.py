"""Where all surfaces stand: the snapshot that is ranked under, what is said of its changes, and its
copy on disk.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from workers.ranking.experiment import Experiment
from workers.ranking.mix import Mix
from workers.ranking.pins import AvailableModels, Pins
from workers.ranking.surface import Surface
from workers.ranking.weights import Weights
from workers.steering import last_good
from workers.steering.connection import Events
from workers.steering.document_state import Applied, DocumentState, Moment, Source
from workers.steering.keys import Keys
from workers.steering.last_good import LastGoodIgnored
from workers.steering.surface_state import ArmStanding, Replies, SurfaceState, default_standing

T = TypeVar("T")


class SurfaceStates:
    """One standing for each surface, at first its default set.

    One thread changes them, another one keeps them. `snapshot` and `current` are immutable
    mappings, replaced whole: any thread reads them.
    """

    def __init__(
        self,
        surfaces: Mapping[str, Surface],
        keys: Keys,
        home: Path,
        events: Events,
        now: Callable[[], int],
        available: Callable[[], AvailableModels],
    ) -> None:
        self._surfaces = surfaces
        self._keys = keys
        self._home = home
        self._events = events
        self._now = now
        self._available = available
        self._kept: Mapping[str, Mix] = {}
        self.current: Mapping[str, SurfaceState] = {}
        self.snapshot: Mapping[str, Mix] = {}
        self._replace(
            {name: default_standing(surface, now()) for name, surface in surfaces.items()}
        )

    def restore(self) -> None:
        """Stand on the mixes kept on disk; a file that must not be used is said and ignored."""
        self._replace(
            {name: self._restored(name, standing) for name, standing in self.current.items()}
        )
        self._kept = self.snapshot

    def say_fallbacks(self) -> None:
        """Say which surfaces do not stand on Redis, and on what instead."""
        for name, standing in self.current.items():
            if standing.applied.source is not Source.REDIS:
                self._events.say("weights_fallback", surface=name, **_described(standing.applied))

    def take(self, replies: Mapping[str, Replies], push_ms: float | None) -> list[str]:
        """Judge Redis's replies; the surfaces for which something was applied or refused, or is not
        there any more.
        """
        before, moment, available = self.current, Moment(self._now(), push_ms), self._available()
        after = {
            name: before[name].judge(found, self._surfaces[name], available, moment)
            for name, found in replies.items()
        }
        weighed = {
            name: standing for name, standing in after.items() if standing is not before[name]
        }
        if weighed:
            self._replace(weighed)
        changed = [name for name, standing in weighed.items() if standing.is_news(before[name])]
        for name in changed:
            self._say_changes(name, before[name], after[name])
        return changed

    def keep(self) -> bool:
        """Keep on disk what is not kept yet; an unwritable home is said. Whether all is kept that
        was there.
        """
        trouble, kept = None, dict(self._kept)
        for name, mix in self.snapshot.items():
            if mix != kept.get(name):
                try:
                    last_good.save(
                        self._home,
                        self._keys.weights(name),
                        mix,
                        self._surfaces[name].weight_rules.default(),
                    )
                    kept[name] = mix
                except OSError as error:
                    trouble = str(error)
        self._kept = kept
        self._events.trouble("last_good_unwritable", trouble)
        return trouble is None

    def _replace(self, standings: Mapping[str, SurfaceState]) -> None:
        """Put these in the place of theirs; only their mixes are made anew."""
        mixes = {name: standing.mix for name, standing in standings.items()}
        self.current = MappingProxyType({**self.current, **standings})
        self.snapshot = MappingProxyType({**self.snapshot, **mixes})

    def _restored(self, name: str, standing: SurfaceState) -> SurfaceState:
        try:
            kept = last_good.load(
                self._home, self._keys.weights(name), self._surfaces[name], self._available()
            )
        except LastGoodIgnored as ignored:
            self._events.say("last_good_ignored", surface=name, reason=str(ignored))
            return standing
        if kept is None:
            return standing
        if kept.without_pins:
            self._events.say(
                "last_good_ignored", surface=name, reason=f"models: {kept.without_pins}"
            )
        return _standing_on(kept.mix, standing, self._now())

    def _say_changes(self, name: str, before: SurfaceState, after: SurfaceState) -> None:
        self._say_arm({"surface": name}, before.own, after.own)
        for arm, standing in after.arms.items():
            self._say_arm(
                {"surface": name, "arm": arm}, before.arms.get(arm, ArmStanding()), standing
            )
        self._say_experiment(name, before.experiment, after.experiment)

    def _say_arm(self, whose: Mapping[str, str], before: ArmStanding, after: ArmStanding) -> None:
        self._say_weights(whose, before.weights, after.weights)
        self._say_models(whose, before.models, after.models)

    def _say_models(
        self, whose: Mapping[str, str], before: DocumentState[Pins], after: DocumentState[Pins]
    ) -> None:
        if after.applied and after.applied is not before.applied:
            self._events.say("models_applied", **whose, pins=after.applied.value.fields())
        elif after.refused and after.refused is not before.refused:
            self._events.say("models_refused", **whose, reason=after.refused.reason)

    def _say_weights(
        self,
        whose: Mapping[str, str],
        before: DocumentState[Weights],
        after: DocumentState[Weights],
    ) -> None:
        version = before.applied and before.applied.value.version
        if after.applied and after.applied is not before.applied:
            self._events.say(
                "weights_applied", **whose, previous=version, **_described(after.applied)
            )
        elif after.refused and after.refused is not before.refused:
            self._events.say(
                "weights_refused", **whose, version=version, reason=after.refused.reason
            )

    def _say_experiment(
        self, name: str, before: DocumentState[Experiment], after: DocumentState[Experiment]
    ) -> None:
        if after.applied and after.applied is not before.applied:
            # The arms stand apart: their names are anybody's, `event` and `surface` too.
            salt, arms = after.applied.value.salt, after.applied.value.percents()
            self._events.say("experiment_applied", surface=name, salt=salt, arms=arms)
        elif after.refused and after.refused is not before.refused:
            self._events.say("experiment_refused", surface=name, reason=after.refused.reason)


def _standing_on(mix: Mix, standing: SurfaceState, now: int) -> SurfaceState:
    """What a surface stands on that was kept; its default is no news."""

    def kept(value: T) -> DocumentState[T]:
        return DocumentState(Applied(value, Source.LAST_GOOD, now))

    def models(pins: Mapping[str, int]) -> DocumentState[Pins]:
        return kept(Pins(pins)) if pins else DocumentState()

    weights = standing.own.weights if mix.weights == standing.applied.value else kept(mix.weights)
    experiment = DocumentState[Experiment]() if mix.experiment is None else kept(mix.experiment)
    arms = {
        arm: ArmStanding(kept(one), models(mix.arm_pins.get(arm, {})))
        for arm, one in mix.arms.items()
    }
    return SurfaceState(ArmStanding(weights, models(mix.pins)), experiment, arms)


def _described(applied: Applied[Weights]) -> dict[str, object]:
    weights = applied.value
    return {
        "version": weights.version,
        "values": dict(weights.values),
        "source": str(applied.source),
    }
