"""The models' folder, `<root>/<objective>/<version>/`: for each objective the highest version that verifies is used."""

import re
from collections.abc import Iterable
from pathlib import Path

from workers.observe.failure import Failure
from workers.ranking.features import FeatureSet
from workers.ranking.surface import Surfaces
from workers.scoring.model import Model
from workers.scoring.refusal import ModelRefused, Refusal, Version
from workers.scoring.scorer import Scorer
from workers.scoring.verify import SIZE_LIMIT, verify

_NUMBER = re.compile("[0-9]+")


class NoVerifiedModel(Failure):
    """An objective that a surface needs has no version that verifies: the worker must not start."""


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


def load_models(root: Path, surfaces: Surfaces, size_limit: int = SIZE_LIMIT) -> Scorer:
    """Load the model in force for every objective that the surfaces name; what was passed over is on the scorer.

    Raises NoVerifiedModel, naming every objective without one and why each of its versions was refused.
    """
    versions = find_versions(root)
    models: dict[str, Model] = {}
    refusals: list[Refusal] = []
    lacking: list[str] = []
    for objective, feature_sets in feature_sets_by_objective(surfaces).items():
        model, refused = choose(versions.get(objective, ()), feature_sets, size_limit)
        refusals += refused
        if model is None:
            lacking.append(_lack(root, objective, refused))
        else:
            models[objective] = model
    if lacking:
        raise NoVerifiedModel("; ".join(lacking))
    return Scorer(surfaces, models, refusals)


def _lack(root: Path, objective: str, refused: list[Refusal]) -> str:
    if not refused:
        return f"objective {objective!r}: no version in {root / objective}, expected {root / objective / '1'}"
    return f"objective {objective!r}: no version verifies: " + "; ".join(map(str, refused))
