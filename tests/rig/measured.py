"""An environment whose times are measured: long deadlines, and feeds that the broker stamps."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from onnx import ModelProto

from tests.rig.environment import LOG_APPEND_TIME, OBJECTIVES, Environment
from tests.scoring.building import FEATURES, add_model, mlp

# Deadlines are long: a slow machine must show in the figures, and not in feeds that are cut.
DEADLINE_MS = 600_000
FEATURE_SET = f"[feature_sets.wide]\nnames = {json.dumps(list(FEATURES))}\n"
_SURFACE = """
[surfaces.{name}]
feature_set = "wide"
objectives = {objectives}
deadline_ms = {deadline_ms}
horizon_ms = {deadline_ms}
max_candidates = 1000
weights = {weights}
"""


def surface(name: str, weights: dict[str, float]) -> str:
    """The section of a surface in surfaces.toml."""
    pairs = ", ".join(f"{objective} = {weight}" for objective, weight in weights.items())
    return _SURFACE.format(
        name=name,
        objectives=json.dumps(list(weights)),
        deadline_ms=DEADLINE_MS,
        weights=f"{{ {pairs} }}",
    )


SURFACES = FEATURE_SET + surface("home", dict.fromkeys(OBJECTIVES, 0.5))


def small_mlp(seed: int) -> ModelProto:
    """The model that is measured if nothing else is said: an MLP 32-64-32-1."""
    return mlp(hidden=(64, 32), seed=seed)


def measured_environment(
    kafka: str,
    redis: str,
    folder: Path,
    surfaces: str = SURFACES,
    objectives: Sequence[str] = OBJECTIVES,
    build: Callable[[int], ModelProto] = small_mlp,
) -> Environment:
    """An environment with files. Its `fresh()` gives one with topics for each measurement.

    `build` makes the model of each objective, from a seed. The broker stamps the feeds, too: the
    clocks of producers mean different things in different programs.
    """
    (folder / "surfaces.toml").write_text(surfaces)
    for seed, objective in enumerate(objectives, start=1):
        add_model(folder / "models", build(seed), objective)
    return Environment(kafka, redis, folder, feeds_config=LOG_APPEND_TIME)
