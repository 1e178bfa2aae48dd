"""Which version of a model scores what.

The choice is made once for each surface, arm and catalogue, from one snapshot of the catalogue. A
version comes into force only once it is loaded. Until then the version that was in force goes on
scoring, if it is still loaded and suits the feature set: "current" below.

For each objective, the first row that applies:

| what the catalogue holds                               | what scores now  | load request     |
|--------------------------------------------------------|------------------|------------------|
| the pinned version, not verified yet                   | current, or wait | pinned version   |
| the pinned version, loaded, suits the feature set      | pinned version   |                  |
| the pinned version, available, suits the feature set   | current, or wait | pinned version   |
| a pin that cannot be met (*), and there is a current   | current          |                  |
| a version that is available and suits: the highest,    |                  |                  |
|   if it is loaded                                      | highest          |                  |
|   if it is not loaded                                  | current, or wait | highest          |
| no such version, but some that are not verified yet    | current, or wait | highest verified |
| nothing of these, and there is a current               | current          |                  |
| nothing of these                                       | nothing: Lacking |                  |

(*) A pin cannot be met if its version is unknown, refused, gone and not loaded, or reads features
that the feature set does not hold. `pin_unmet` is logged. Without a pin the first four rows do not
apply.

A surface gets its models only if every objective has one. Otherwise its requests wait (Loading), or
end in feeds that are not scored (Lacking).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from workers.ranking.features import FeatureSet
from workers.ranking.mix import Pinned
from workers.ranking.surface import Surface
from workers.scoring.catalogue import Catalogue, CatalogueEntry, VersionState
from workers.scoring.model import Model
from workers.scoring.scorer import SurfaceModels
from workers.scoring.session_cache import CachedSession


class LoadRequest(NamedTuple):
    """Asks the registry's thread to verify a version, and to load it if `load`.

    `version` None: the highest version that passes verification.
    """

    objective: str
    version: int | None
    load: bool


class Loading(NamedTuple):
    """The models of these objectives were requested. The requests must wait for them."""

    objectives: tuple[str, ...]


class Lacking(NamedTuple):
    """No version that passes verification can score an objective."""

    reason: str


Resolution = SurfaceModels | Loading | Lacking


class VersionChoice(NamedTuple):
    """The choice for one objective.

    `entry` scores now. `lacking` says why nothing scores it and nothing will. `pin_unmet`: the pin
    cannot be met.
    """

    entry: CatalogueEntry | None = None
    request: LoadRequest | None = None
    lacking: str | None = None
    pin_unmet: bool = False


def choose_version(
    catalogue: Catalogue,
    objective: str,
    feature_set: FeatureSet,
    pin: int | None,
    in_force: int | None,
) -> VersionChoice:
    """Choose what scores an objective, by the table above. `in_force` is the version in force until
    now. Pure.
    """
    current = _current(catalogue, objective, in_force, feature_set)
    if pin is None:
        return _choose_highest(catalogue, objective, feature_set, current)

    pinned = catalogue.entry(objective, pin)
    if pinned is not None:
        if pinned.state is VersionState.LISTED:
            return VersionChoice(current, LoadRequest(objective, pin, load=True))
        can_score = pinned.listed or pinned.cached_session is not None
        if can_score and pinned.suits(feature_set):
            return _turn_to(pinned, current)

    if current is not None:
        return VersionChoice(current, pin_unmet=True)
    choice = _choose_highest(catalogue, objective, feature_set, current=None)
    return choice._replace(pin_unmet=True)


def _choose_highest(
    catalogue: Catalogue,
    objective: str,
    feature_set: FeatureSet,
    current: CatalogueEntry | None,
) -> VersionChoice:
    highest = catalogue.highest(objective, feature_set)
    if highest is not None:
        return _turn_to(highest, current)

    if catalogue.highest_listed(objective) is not None:
        return VersionChoice(current, LoadRequest(objective, version=None, load=True))

    if current is not None:
        return VersionChoice(current)
    return VersionChoice(lacking=_why_lacking(catalogue, objective, feature_set))


def _current(
    catalogue: Catalogue, objective: str, in_force: int | None, feature_set: FeatureSet
) -> CatalogueEntry | None:
    """The version in force until now, if it is still loaded and suits the feature set."""
    if in_force is None:
        return None
    entry = catalogue.entry(objective, in_force)
    if entry is None or entry.cached_session is None or not entry.suits(feature_set):
        return None
    return entry


def _turn_to(target: CatalogueEntry, current: CatalogueEntry | None) -> VersionChoice:
    """Use a version if it is loaded. Otherwise request it, and go on with the current one."""
    if target.cached_session is not None:
        return VersionChoice(target)
    version = target.version
    return VersionChoice(current, LoadRequest(version.objective, version.number, load=True))


def _why_lacking(catalogue: Catalogue, objective: str, feature_set: FeatureSet) -> str:
    versions = catalogue.versions(objective).values()
    if not versions:
        return f"objective {objective!r}: no version in the models' folder"

    reasons = [str(entry.refusal) for entry in versions if entry.refusal]
    for entry in versions:
        if entry.is_available:
            reasons.append(
                f"{entry.version.number} reads features that {feature_set.name!r} does not hold"
            )
    return f"objective {objective!r}: no version verifies: " + "; ".join(reasons)


class ModelQuery(NamedTuple):
    """Asks for the models of one surface's feeds of one arm."""

    surface: Surface
    arm: str
    objectives: Sequence[str]
    pins: Pinned

    @property
    def key(self) -> tuple[str, str]:
        """Surface and arm."""
        return self.surface.name, self.arm


class _CachedResolution(NamedTuple):
    query: ModelQuery
    resolution: Resolution
    sessions: tuple[CachedSession, ...] = ()


class Resolver:
    """Resolves queries of the ranking loop, in the loop's thread alone.

    A resolution is kept as long as the catalogue and the query stay the same. `in_force` maps
    surface and arm to objective to version. It is replaced as a whole and never changed, so any
    thread may read it.
    """

    def __init__(
        self,
        request_load: Callable[[LoadRequest], None],
        log: Callable[..., None],
        clock: Callable[[], float],
    ) -> None:
        self.in_force: Mapping[tuple[str, str], Mapping[str, int]] = {}
        self.hits = 0
        self.misses = 0
        self.swaps = 0

        self._request_load = request_load
        self._log = log
        self._clock = clock

        self._catalogue: Catalogue | None = None
        self._resolutions: dict[tuple[str, str], _CachedResolution] = {}
        self._surface_models: dict[tuple[str, tuple[tuple[str, int], ...]], SurfaceModels] = {}
        self._logged_trouble: dict[tuple[str, str], str] = {}

    def resolve(self, catalogue: Catalogue, query: ModelQuery) -> Resolution:
        """The models that score a surface's feeds of one arm. Never waits. Requests what is
        missing.
        """
        if catalogue is not self._catalogue:
            # Drop all of them: a resolution that nobody asks for again would hold its sessions past
            # the budget.
            self._catalogue = catalogue
            self._resolutions = {}
            self._surface_models = {}

        cached = self._resolutions.get(query.key)
        if cached is None or cached.query != query:
            cached = self._choose(catalogue, query)
            self._resolutions[query.key] = cached

        if isinstance(cached.resolution, SurfaceModels):
            self.hits += 1
            now = self._clock()
            for session in cached.sessions:
                session.used_at = now
        else:
            self.misses += 1
        return cached.resolution

    def _choose(self, catalogue: Catalogue, query: ModelQuery) -> _CachedResolution:
        """Choose a version for each objective, and request what has to be loaded."""
        feature_set = query.surface.feature_set
        in_force = self.in_force.get(query.key, {})
        choices: dict[str, VersionChoice] = {}
        for objective in query.objectives:
            choices[objective] = choose_version(
                catalogue,
                objective,
                feature_set,
                pin=query.pins.get(objective),
                in_force=in_force.get(objective),
            )

        for choice in choices.values():
            if choice.request is not None:
                self._request_load(choice.request)
        self._log_trouble(query, choices)

        entries = [choice.entry for choice in choices.values() if choice.entry is not None]
        if len(entries) == len(choices):
            models = self._models_of(feature_set, entries)
            self._put_in_force(query, models)
            sessions = [entry.cached_session for entry in entries if entry.cached_session]
            return _CachedResolution(query, models, tuple(sessions))

        lacking = [choice.lacking for choice in choices.values() if choice.lacking]
        if lacking:
            return _CachedResolution(query, Lacking("; ".join(lacking)))
        loading = [objective for objective, choice in choices.items() if choice.entry is None]
        return _CachedResolution(query, Loading(tuple(loading)))

    def _models_of(
        self, feature_set: FeatureSet, entries: Sequence[CatalogueEntry]
    ) -> SurfaceModels:
        """The models of these versions. Surfaces with the same versions share one value, so that
        their requests are scored in one call.
        """
        versions = tuple((entry.version.objective, entry.version.number) for entry in entries)
        key = (feature_set.name, versions)
        if key not in self._surface_models:
            models = list[Model]()
            for entry in entries:
                if entry.verified is not None and entry.cached_session is not None:
                    models.append(entry.verified.model(entry.cached_session))
            self._surface_models[key] = SurfaceModels.of(feature_set, models)
        return self._surface_models[key]

    def _put_in_force(self, query: ModelQuery, models: SurfaceModels) -> None:
        before = self.in_force.get(query.key)
        versions = models.versions
        if versions == before:
            return

        self.in_force = {**self.in_force, query.key: versions}
        if before is not None:
            self.swaps += 1
            self._log(
                "models_swapped",
                surface=query.surface.name,
                arm=query.arm,
                models=versions,
                before=dict(before),
            )

    def _log_trouble(self, query: ModelQuery, choices: Mapping[str, VersionChoice]) -> None:
        """Log that objectives lack a model or that pins cannot be met, each time this changes."""
        unmet = list[str]()
        reasons = list[str]()
        for objective, choice in choices.items():
            if choice.pin_unmet:
                unmet.append(f"{objective}/{query.pins[objective]}")
            if choice.lacking:
                reasons.append(choice.lacking)
        lacking = "; ".join(reasons)
        trouble = f"{lacking} {unmet}" if lacking or unmet else ""
        if trouble == self._logged_trouble.get(query.key, ""):
            return

        self._logged_trouble[query.key] = trouble
        if lacking:
            self._log("models_lacking", surface=query.surface.name, arm=query.arm, error=lacking)
        if unmet:
            self._log("pin_unmet", surface=query.surface.name, arm=query.arm, pinned=unmet)
