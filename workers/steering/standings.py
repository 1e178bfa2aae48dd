"""Where all surfaces stand: the snapshot that is ranked under, what is said of its changes, and its copy on disk."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from workers.ranking.surface import Surface
from workers.ranking.weights import Weights
from workers.steering import last_good
from workers.steering.events import Events
from workers.steering.last_good import LastGoodIgnored
from workers.steering.standing import Applied, Source, Standing


class Standings:
    """One standing for each surface, at first its default set; `keys` names each surface's hash in Redis.

    One thread changes them. `snapshot` and `current` are immutable mappings, replaced whole: any thread reads them.
    """

    def __init__(
        self,
        surfaces: Mapping[str, Surface],
        keys: Mapping[str, str],
        home: Path,
        events: Events,
        now: Callable[[], int],
    ) -> None:
        self._rules = {name: surface.weight_rules for name, surface in surfaces.items()}
        self._keys = keys
        self._home = home
        self._events = events
        self._now = now
        self._kept: dict[str, Applied] = {}
        self._replace({n: Standing(Applied(r.default(), Source.DEFAULT, now())) for n, r in self._rules.items()})

    def restore(self) -> None:
        """Stand on the sets kept on disk; a file that must not be used is said and ignored."""
        self._replace({name: self._restored(name, standing) for name, standing in self.current.items()})

    def say_fallbacks(self) -> None:
        """Say which surfaces do not stand on Redis, and on what instead."""
        for name, standing in self.current.items():
            if standing.applied.source is not Source.REDIS:
                self._events.say("weights_fallback", surface=name, **_described(standing.applied))

    def take(self, replies: Iterable[object]) -> bool:
        """Judge Redis's replies, one a surface in their order; True where a set was applied or refused."""
        before, now = self.current, self._now()
        after = {
            name: before[name].judge(reply, rules, now)
            for (name, rules), reply in zip(self._rules.items(), replies, strict=True)
        }
        changed = [name for name in after if after[name] is not before[name]]
        if changed:
            self._replace(after)
        for name in changed:
            self._say_change(name, before[name], after[name])
        return bool(changed)

    def keep(self) -> None:
        """Keep on disk what came from Redis and is not kept yet; an unwritable home is said and tried again."""
        trouble = None
        for name, standing in self.current.items():
            if standing.applied.source is Source.REDIS and standing.applied is not self._kept.get(name):
                try:
                    last_good.save(self._home, self._keys[name], standing.applied)
                    self._kept[name] = standing.applied
                except OSError as error:
                    trouble = str(error)
        self._events.trouble("last_good_unwritable", trouble)

    def _replace(self, standings: dict[str, Standing]) -> None:
        self.current: Mapping[str, Standing] = MappingProxyType(standings)
        weights = {name: standing.applied.weights for name, standing in standings.items()}
        self.snapshot: Mapping[str, Weights] = MappingProxyType(weights)

    def _restored(self, name: str, standing: Standing) -> Standing:
        try:
            weights = last_good.load(self._home, self._keys[name], self._rules[name])
        except LastGoodIgnored as ignored:
            self._events.say("last_good_ignored", surface=name, reason=str(ignored))
            return standing
        return standing if weights is None else Standing(Applied(weights, Source.LAST_GOOD, self._now()))

    def _say_change(self, name: str, before: Standing, after: Standing) -> None:
        version = before.applied.weights.version
        if after.applied is not before.applied:
            self._events.say("weights_applied", surface=name, previous=version, **_described(after.applied))
        elif after.refused:
            self._events.say("weights_refused", surface=name, version=version, reason=after.refused.reason)


def _described(applied: Applied) -> dict[str, object]:
    weights = applied.weights
    return {"version": weights.version, "values": dict(weights.values), "source": str(applied.source)}
