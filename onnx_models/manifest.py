"""manifest.json: what a model version says of itself. schemas/manifest.schema.json is its contract."""

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np

from onnx_models import graph
from onnx_models.communities import LATER_FROM
from onnx_models.features import NAMES
from onnx_models.metrics import metrics
from onnx_models.objectives import Objective
from onnx_models.study import Study

HERE = Path(__file__).resolve().parent
SOURCES = (
    "communities.py",
    "features.py",
    "graph.py",
    "learners.py",
    "manifest.py",
    "measure.py",
    "metrics.py",
    "objectives.py",
    "posts.py",
    "study.py",
    "train.py",
    "words.py",
)
LIBRARIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")
INNERMOST_LIST = re.compile(r"\[[^][{}]*\]")
GOLDEN_TOLERANCE = 1e-5
GOLDEN_BY_SCORE = 17
CALIBRATION = (
    f"inside the graph: interpolated quantile of the raw output over the training posts, {graph.KNOTS + 1} knots, the "
    "outermost a quarter of the range beyond the training's extremes; 0.7 means: above 70 % of the training posts"
)
LICENCE = "Apache-2.0 (trained on data in the public domain, PDDL-1.0)"


def manifest(
    study: Study, objective: Objective, models: Mapping[str, bytes], data: Path, version: int
) -> Mapping[str, object]:
    """The manifest of one objective; `models` holds the bytes of all of them."""
    model = models[objective.name]
    return {
        "objective": objective.name,
        "version": version,
        "sha256": hashlib.sha256(model).hexdigest(),
        "input": {"name": graph.INPUT, "dtype": "float32", "shape": [None, len(NAMES)]},
        "output": {"name": graph.OUTPUT, "dtype": "float32", "shape": [None, 1]},
        "features": list(NAMES),
        "golden": _golden(study, model),
        "golden_tolerance": GOLDEN_TOLERANCE,
        "calibration": CALIBRATION,
        "training": _training(study, objective, data),
        "metrics": metrics(study, objective, models),
        "licence": LICENCE,
    }


def write(folder: Path, model: bytes, described: Mapping[str, object]) -> None:
    """Write both files of a version, the manifest last: a folder without one is still being
    written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    text = INNERMOST_LIST.sub(_flat, json.dumps(described, indent=1, ensure_ascii=False))
    (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")


def code_revision() -> str:
    """A hash over the training's source files: a commit cannot name itself."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update(f"{name}\0".encode() + (HERE / name).read_bytes() + b"\0")
    return f"sha256:{digest.hexdigest()}"


def _training(study: Study, objective: Objective, data: Path) -> Mapping[str, object]:
    return {
        "data_sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
        "code_revision": code_revision(),
        "libraries": {
            "python": platform.python_version(),
            **{name: version_of(name) for name in LIBRARIES},
        },
        "seed": study.seed,
        "split": {
            "held_out_communities": list(study.split.quarters[0]),
            "trained_on_posts_before": LATER_FROM.isoformat(),
            "posts": int(study.split.without(0).sum()),
        },
        "target": objective.target,
        "family": objective.family,
    }


def _golden(study: Study, model: bytes) -> list[Mapping[str, object]]:
    """Real posts of unseen communities: by score from the lowest to the highest, and each feature's
    extremes.
    """
    rows = np.unique(study.rows[study.split.in_quarter[0]], axis=0)
    order = np.argsort(graph.run(model, rows), kind="stable")
    by_score = order[np.linspace(0, len(order) - 1, GOLDEN_BY_SCORE).astype(np.intp)]
    extremes = np.concatenate([rows.argmin(axis=0), rows.argmax(axis=0)])
    chosen = rows[list(dict.fromkeys([*by_score.tolist(), *extremes.tolist()]))]
    scores = graph.run(model, chosen)
    return [
        {"features": [round(float(value), 4) for value in row], "score": float(score)}
        for row, score in zip(chosen, scores, strict=True)
    ]


def _flat(numbers_or_names: re.Match[str]) -> str:
    return re.sub(r"\s*\n\s*", " ", numbers_or_names[0]).replace("[ ", "[").replace(" ]", "]")
