"""Pins: which version of each objective's model is in force on a surface, and what may be weighted
and pinned at all.

An objective that is not pinned takes the highest version that is available.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from workers.ranking.features import FeatureSet
from workers.ranking.surface import Surface
from workers.ranking.version import MAX_VERSION, read_version

LATEST = "latest"
"""The word for no pin: the highest version that is available."""


class PinsRefused(ValueError):
    """Pins that must not be applied: the message names the field, the value and what was expected."""


@dataclass(frozen=True)
class Pins:
    """One immutable document: objective to version, None where it says `latest`."""

    versions: Mapping[str, int | None]

    @classmethod
    def read(
        cls, fields: Mapping[str, str], surface: Surface, available: "AvailableModels"
    ) -> "Pins":
        """From the fields of the hash. Raises PinsRefused where an objective or its version is not
        to be had.
        """
        known = available.objectives(surface)
        for objective in fields:
            if objective not in known:
                expected = f"expected one of: {', '.join(known)}"
                raise PinsRefused(
                    f"{objective[:80]}: not an objective of this surface with a model, {expected}"
                )
        return cls(
            {o: _version(o, value, surface.feature_set, available) for o, value in fields.items()}
        )

    def fields(self) -> dict[str, str]:
        """The fields of the hash."""
        return {
            objective: LATEST if v is None else str(v) for objective, v in self.versions.items()
        }

    @property
    def pinned(self) -> Mapping[str, int]:
        """Objective to version, of those that are pinned."""
        return {o: version for o, version in self.versions.items() if version is not None}


@dataclass(frozen=True, eq=False)
class AvailableModels:
    """What a worker has: objective to its verified versions, each with the features that it reads.

    Where `any_version` is True nothing is known, and every version of every declared objective is
    taken for available. Compared by identity: thousands of documents are held against thousands of
    models, again and again.
    """

    models: Mapping[str, Mapping[int, frozenset[str]]] = field(default_factory=dict)
    any_version: bool = False
    _suited: dict[tuple[str, ...], tuple[str, ...]] = field(
        default_factory=dict, init=False, repr=False
    )

    def suitable_objectives(self, feature_set: FeatureSet) -> tuple[str, ...]:
        """The objectives of which a version reads nothing but the features of the set, by name."""
        if feature_set.names not in self._suited:
            found = (
                objective
                for objective in sorted(self.models)
                if self.versions(objective, feature_set)
            )
            self._suited[feature_set.names] = tuple(found)
        return self._suited[feature_set.names]

    def added(self, surface: Surface) -> tuple[str, ...]:
        """The objectives that the surface does not declare and may weight all the same, by name."""
        return tuple(
            o for o in self.suitable_objectives(surface.feature_set) if o not in surface.objectives
        )

    def objectives(self, surface: Surface) -> tuple[str, ...]:
        """All that the surface may weight: those that it declares, then the others by name."""
        return surface.objectives + self.added(surface)

    def versions(self, objective: str, feature_set: FeatureSet) -> Collection[int]:
        """The versions whose features the feature set holds."""
        names = set(feature_set.names)
        return [
            version
            for version, features in self.models.get(objective, {}).items()
            if features <= names
        ]


ANY_VERSION = AvailableModels(any_version=True)
"""For those who know no worker's models."""


def named_versions(fields: Mapping[str, str]) -> list[tuple[str, int]]:
    """The versions that the content of a document names, sound or not."""
    found = ((objective, read_version(value)) for objective, value in fields.items())
    return [(objective, version) for objective, version in found if version is not None]


def _version(
    objective: str, value: str, feature_set: FeatureSet, available: AvailableModels
) -> int | None:
    if value == LATEST:
        return None
    version = read_version(value)
    if version is None:
        expected = (
            f"expected the number of a version, or {LATEST!r}; versions are from 1 to {MAX_VERSION}"
        )
        raise PinsRefused(f"{objective}: got {value[:80]!r}, {expected}")
    versions = available.versions(objective, feature_set)
    if version not in versions and not available.any_version:
        there = ", ".join(map(str, sorted(versions))) or "none"
        raise PinsRefused(
            f"{objective}: version {value} is not available, expected one of: {there}"
        )
    return version
