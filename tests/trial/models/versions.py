"""Versions of models as their owner has them before the copy: good ones, and bad ones of each kind."""

import json
from pathlib import Path

from tests.rig.environment import OBJECTIVES
from tests.scoring.building import FEATURES, add_model, golden_of, manifest_of, mlp, write_version
from tests.trial.models.plan import ADDED, Kind, Swap

_ALL = (*OBJECTIVES, ADDED)
_OFF = 0.01


def build_version(root: Path, swap: Swap) -> Path:
    """Write the version that a swap copies under `root`; no two are one model."""
    objective = swap.objective
    version = swap.version
    built = mlp(seed=1000 * (1 + _ALL.index(objective)) + version)
    match swap.kind:
        case Kind.WRONG_HASH:
            return add_model(root, built, objective, version, sha256="0" * 64)
        case Kind.WRONG_SHAPE:
            raw = mlp(width=len(FEATURES) // 2).SerializeToString()
            return write_version(root, raw, manifest_of(raw, objective=objective, version=version))
        case Kind.GOLDEN_OFF:
            golden = [row | {"score": row["score"] + _OFF} for row in golden_of(built)]
            return add_model(root, built, objective, version, golden=golden)
        case Kind.CUT:
            folder = add_model(root, built, objective, version)
            raw = (folder / "model.onnx").read_bytes()
            (folder / "model.onnx").write_bytes(raw[: len(raw) // 2])
            return folder
        case Kind.REORDERED:
            built.metadata_props.add(key="trimtab.features", value=json.dumps(FEATURES[::-1]))
            return add_model(root, built, objective, version)
        case _:
            return add_model(root, built, objective, version)
