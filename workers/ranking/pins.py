"""Pins: which version of each objective's model is in force on a surface, and what a surface may
weight and pin at all.

An objective that is not pinned uses its highest available version.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from workers.ranking.features import FeatureSet
from workers.ranking.surface import Surface
from workers.ranking.version import MAX_VERSION, read_version

LATEST = "latest"
"""The value of an objective that is not pinned."""


class PinsRefused(ValueError):
    """Pins that must not be applied. The message names the field, the value and what was
    expected.
    """


@dataclass(frozen=True, eq=False)
class AvailableModels:
    """The models of a worker: objective to its verified versions, each with the features that it
    reads.

    If `any_version` is True, the models are unknown. Every version of every declared objective then
    counts as available.

    Compared by identity: thousands of documents are judged against thousands of models, again and
    again.
    """

    models: Mapping[str, Mapping[int, frozenset[str]]] = field(default_factory=dict)
    any_version: bool = False
    # By the names of a feature set.
    _suitable: dict[tuple[str, ...], tuple[str, ...]] = field(
        default_factory=dict, init=False, repr=False
    )

    def versions(self, objective: str, feature_set: FeatureSet) -> list[int]:
        """The versions of an objective that read nothing but the features of the set."""
        names = set(feature_set.names)
        versions = list[int]()
        for version, features in self.models.get(objective, {}).items():
            if features <= names:
                versions.append(version)
        return versions

    def suitable_objectives(self, feature_set: FeatureSet) -> tuple[str, ...]:
        """The objectives with such a version, sorted."""
        if feature_set.names not in self._suitable:
            suitable = list[str]()
            for objective in sorted(self.models):
                if self.versions(objective, feature_set):
                    suitable.append(objective)
            self._suitable[feature_set.names] = tuple(suitable)
        return self._suitable[feature_set.names]

    def added_objectives(self, surface: Surface) -> tuple[str, ...]:
        """The objectives that a surface may weight although it does not declare them, sorted."""
        suitable = self.suitable_objectives(surface.feature_set)
        return tuple(objective for objective in suitable if objective not in surface.objectives)

    def objectives(self, surface: Surface) -> tuple[str, ...]:
        """All objectives that a surface may weight: first those that it declares."""
        return surface.objectives + self.added_objectives(surface)


ANY_VERSION = AvailableModels(any_version=True)
"""For tools that do not know the models of any worker."""


@dataclass(frozen=True)
class Pins:
    """One immutable document: objective to version. The version is None for `latest`."""

    versions: Mapping[str, int | None]

    @classmethod
    def read(
        cls, fields: Mapping[str, str], surface: Surface, available: AvailableModels
    ) -> "Pins":
        """Read the fields of the hash. Raises PinsRefused if an objective or its version is not
        available.
        """
        known = available.objectives(surface)
        for objective in fields:
            if objective not in known:
                expected = f"expected one of: {', '.join(known)}"
                raise PinsRefused(
                    f"{objective[:80]}: not an objective of this surface with a model, {expected}"
                )

        versions: dict[str, int | None] = {}
        for objective, value in fields.items():
            if value == LATEST:
                versions[objective] = None
            else:
                versions[objective] = _read_available(
                    value, objective, surface.feature_set, available
                )
        return cls(versions)

    def fields(self) -> dict[str, str]:
        """The fields of the hash."""
        fields: dict[str, str] = {}
        for objective, version in self.versions.items():
            fields[objective] = LATEST if version is None else str(version)
        return fields

    @property
    def pinned(self) -> Mapping[str, int]:
        """Objective to version, without the objectives that are not pinned."""
        pinned: dict[str, int] = {}
        for objective, version in self.versions.items():
            if version is not None:
                pinned[objective] = version
        return pinned


def _read_available(
    value: str, objective: str, feature_set: FeatureSet, available: AvailableModels
) -> int:
    version = read_version(value)
    if version is None:
        expected = (
            f"expected the number of a version, or {LATEST!r}; versions are from 1 to {MAX_VERSION}"
        )
        raise PinsRefused(f"{objective}: got {value[:80]!r}, {expected}")

    versions = available.versions(objective, feature_set)
    if version not in versions and not available.any_version:
        names = ", ".join(str(known) for known in sorted(versions)) or "none"
        raise PinsRefused(
            f"{objective}: version {value} is not available, expected one of: {names}"
        )
    return version


def named_versions(fields: Mapping[str, str]) -> list[tuple[str, int]]:
    """The objectives and versions that the fields of a document name. The document may be invalid
    otherwise.
    """
    named = list[tuple[str, int]]()
    for objective, value in fields.items():
        version = read_version(value)
        if version is not None:
            named.append((objective, version))
    return named
