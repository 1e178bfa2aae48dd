"""An environment whose times are measured: long deadlines, and feeds that the broker stamps."""

import json
from pathlib import Path

from tests.rig.environment import LOG_APPEND_TIME, OBJECTIVES, Environment, write_files
from tests.scoring.building import FEATURES

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


def measured_environment(
    kafka: str, redis: str, folder: Path, surfaces: str = SURFACES
) -> Environment:
    """An environment with files. Its `fresh()` gives one with topics for each measurement.

    The broker stamps the feeds, too: the clocks of producers mean different things in different
    programs.
    """
    write_files(folder, surfaces)
    return Environment(kafka, redis, folder, feeds_config=LOG_APPEND_TIME)
