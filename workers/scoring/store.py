"""The models' folder, `<root>/<objective>/<version>/`: for each objective the highest version that verifies is used."""

import re
from collections.abc import Iterable
from pathlib import Path

from workers.ranking.features import FeatureSet
from workers.ranking.surface import Surfaces
from workers.scoring.model import Model
from workers.scoring.refusal import ModelRefused, Refusal, Version
from workers.scoring.verify import SIZE_LIMIT, verify

_NUMBER = re.compile("[0-9]+")


def find_versions(root: Path) -> dict[str, list[Version]]:
    """Versions by objective, the highest first. Folders whose names are no whole numbers are not versions."""
    found: dict[str, list[Version]] = {}
    for folder in root.glob("*/*/"):
        if _NUMBER.fullmatch(folder.name):
            objective = folder.parent.name
            found.setdefault(objective, []).append(Version(objective, int(folder.name), folder))
    return {o: sorted(found[o], key=lambda version: -version.number) for o in sorted(found)}


def feature_sets_by_objective(surfaces: Surfaces) -> dict[str, list[FeatureSet]]:
    """The feature sets that each objective's model is given, over all surfaces that name it."""
    found: dict[str, dict[str, FeatureSet]] = {}
    for surface in surfaces.values():
        for objective in surface.objectives:
            found.setdefault(objective, {})[surface.feature_set.name] = surface.feature_set
    return {objective: list(sets.values()) for objective, sets in found.items()}


def choose(
    versions: Iterable[Version], feature_sets: Iterable[FeatureSet] = (), size_limit: int = SIZE_LIMIT
) -> tuple[Model | None, list[Refusal]]:
    """The first of `versions` that verifies, and the refusals before it."""
    sets, refusals = list(feature_sets), list[Refusal]()
    for version in versions:
        try:
            return verify(version.folder, sets, size_limit), refusals
        except ModelRefused as refused:
            refusals.append(Refusal(version, refused.reason, refused.message))
    return None, refusals
