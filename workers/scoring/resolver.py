"""Which version scores what: decided once a micro-batch for each surface and arm, from one snapshot
of the catalogue.

Whatever is to be in force is loaded first; until then what was in force goes on, if there was
something.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from workers.ranking.features import FeatureSet
from workers.ranking.mix import Pinned
from workers.ranking.surface import Surface
from workers.scoring.catalogue import Catalogue, Entry, State
from workers.scoring.scorer import SurfaceModels
from workers.scoring.session_cache import CachedSession


class LoadRequest(NamedTuple):
    """What the library is asked for: to verify a version, and to load it. None: the highest that
    verifies.
    """

    objective: str
    version: int | None
    load: bool


class Loading(NamedTuple):
    """Not yet: the models are asked for, and the requests wait."""

    objectives: tuple[str, ...]


class Lacking(NamedTuple):
    """Nothing that verifies can score an objective."""

    reason: str


Resolution = SurfaceModels | Loading | Lacking


class Choice(NamedTuple):
    """One objective: what scores it now, what it waits for or turns to, and why it waits for
    nothing.

    `unmet` says that a pin names a version that is not to be had.
    """

    now: Entry | None = None
    ask: LoadRequest | None = None
    lacking: str | None = None
    unmet: bool = False


def choose_version(
    catalogue: Catalogue,
    objective: str,
    feature_set: FeatureSet,
    pin: int | None,
    before: int | None,
) -> Choice:
    """Choose what scores an objective. `before` is the version in force until now. Pure."""
    going_on = _loaded(catalogue, objective, before, feature_set)
    pinned = None if pin is None else catalogue.entry(objective, pin)
    if pinned is not None and pinned.state is State.LISTED:
        return Choice(going_on, LoadRequest(objective, pin, load=True))
    if pinned is not None and pinned.suits(feature_set) and (pinned.session_entry or pinned.listed):
        return _turn_to(pinned, going_on)
    unmet = pin is not None
    if unmet and going_on is not None:
        return Choice(going_on, unmet=True)
    highest = catalogue.highest(objective, feature_set)
    if highest is not None:
        return _turn_to(highest, going_on)._replace(unmet=unmet)
    if any(entry.state is State.LISTED for entry in catalogue.versions(objective).values()):
        return Choice(going_on, LoadRequest(objective, None, load=True), unmet=unmet)
    return Choice(
        going_on, None, None if going_on else _lack(catalogue, objective, feature_set), unmet
    )


def _loaded(
    catalogue: Catalogue, objective: str, number: int | None, feature_set: FeatureSet
) -> Entry | None:
    entry = None if number is None else catalogue.entry(objective, number)
    return (
        entry
        if entry is not None and entry.session_entry is not None and entry.suits(feature_set)
        else None
    )


def _turn_to(target: Entry, going_on: Entry | None) -> Choice:
    if target.session_entry is not None:
        return Choice(target)
    return Choice(going_on, LoadRequest(target.version.objective, target.version.number, load=True))


def _lack(catalogue: Catalogue, objective: str, feature_set: FeatureSet) -> str:
    versions = catalogue.versions(objective).values()
    if not versions:
        return f"objective {objective!r}: no version in the models' folder"
    unsuited = [e for e in versions if e.is_available]
    why = [str(entry.refusal) for entry in versions if entry.refusal]
    why += [
        f"{e.version.number} reads features that {feature_set.name!r} does not hold"
        for e in unsuited
    ]
    return f"objective {objective!r}: no version verifies: " + "; ".join(why)


class ModelQuery(NamedTuple):
    """What the loop asks for: the models of one surface's feeds of one arm."""

    surface: Surface
    arm: str
    objectives: Sequence[str]
    pins: Pinned

    @property
    def at(self) -> tuple[str, str]:
        """Surface and arm."""
        return self.surface.name, self.arm


class _Known(NamedTuple):
    asked: ModelQuery
    answer: Resolution
    sessions: tuple[CachedSession, ...] = ()


class Resolver:
    """Answers for the loop, in its thread alone: they hold while the catalogue and what is asked
    stay the same.

    `in_force` is surface and arm to objective to version, replaced and never changed: any thread
    reads it.
    """

    def __init__(
        self,
        ask: Callable[[LoadRequest], None],
        say: Callable[..., None],
        clock: Callable[[], float],
    ) -> None:
        self.in_force: Mapping[tuple[str, str], Mapping[str, int]] = {}
        self.hits = self.misses = self.swaps = 0
        self._ask, self._say, self._clock = ask, say, clock
        self._catalogue: Catalogue | None = None
        self._known: dict[tuple[str, str], _Known] = {}
        self._built: dict[tuple[str, tuple[tuple[str, int], ...]], SurfaceModels] = {}
        self._said: dict[tuple[str, str], str] = {}

    def answer(self, catalogue: Catalogue, asked: ModelQuery) -> Resolution:
        """The models that score a surface's feeds of one arm. Never waits; what is missing is asked
        for.
        """
        if catalogue is not self._catalogue:
            # All of it: an answer that nobody asks for again would hold sessions past the budget.
            self._catalogue, self._known, self._built = catalogue, {}, {}
        known = self._known.get(asked.at)
        if known is None or known.asked != asked:
            known = self._known[asked.at] = self._choose(catalogue, asked)
        if isinstance(known.answer, SurfaceModels):
            self.hits += 1
            now = self._clock()
            for session_entry in known.sessions:
                session_entry.used_at = now
        else:
            self.misses += 1
        return known.answer

    def _choose(self, catalogue: Catalogue, asked: ModelQuery) -> _Known:
        before, feature_set = self.in_force.get(asked.at, {}), asked.surface.feature_set
        chosen = {
            objective: choose_version(
                catalogue, objective, feature_set, asked.pins.get(objective), before.get(objective)
            )
            for objective in asked.objectives
        }
        for one in chosen.values():
            if one.ask is not None:
                self._ask(one.ask)
        self._say_trouble(asked, chosen)
        entries = [one.now for one in chosen.values() if one.now is not None]
        if len(entries) == len(chosen):
            models = self._build(feature_set, entries)
            self._put_in_force(asked, models)
            return _Known(
                asked,
                models,
                tuple(entry.session_entry for entry in entries if entry.session_entry is not None),
            )
        lacking = [one.lacking for one in chosen.values() if one.lacking]
        waiting = tuple(objective for objective, one in chosen.items() if not one.now)
        return _Known(asked, Lacking("; ".join(lacking)) if lacking else Loading(waiting))

    def _build(self, feature_set: FeatureSet, entries: Iterable[Entry]) -> SurfaceModels:
        """One value for surfaces that are scored alike: their requests go into one call."""
        key = feature_set.name, tuple((e.version.objective, e.version.number) for e in entries)
        if key not in self._built:
            models = [
                e.sound.model(e.session_entry)
                for e in entries
                if e.sound is not None and e.session_entry is not None
            ]
            self._built[key] = SurfaceModels.of(feature_set, models)
        return self._built[key]

    def _put_in_force(self, asked: ModelQuery, models: SurfaceModels) -> None:
        before, versions = self.in_force.get(asked.at), models.versions
        if before == versions:
            return
        self.in_force = {**self.in_force, asked.at: versions}
        if before is not None:
            self.swaps += 1
            surface, arm = asked.at
            self._say(
                "models_swapped", surface=surface, arm=arm, models=versions, before=dict(before)
            )

    def _say_trouble(self, asked: ModelQuery, chosen: Mapping[str, Choice]) -> None:
        """Once each time it changes: that feeds lack a model, or that a pin names a version which
        is not to be had.
        """
        unmet = [
            f"{objective}/{asked.pins[objective]}" for objective, one in chosen.items() if one.unmet
        ]
        lacking = "; ".join(one.lacking for one in chosen.values() if one.lacking)
        trouble = f"{lacking} {unmet}" if lacking or unmet else ""
        if trouble == self._said.get(asked.at, ""):
            return
        self._said[asked.at] = trouble
        surface, arm = asked.at
        if lacking:
            self._say("models_lacking", surface=surface, arm=arm, error=lacking)
        if unmet:
            self._say("pin_unmet", surface=surface, arm=arm, pinned=unmet)
