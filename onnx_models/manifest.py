"""manifest.json of a model version: what it is, what it was trained on, and how good it is.

schemas/manifest.schema.json is its contract. All figures are on posts that the model in question
never saw, beside the figures of orders that need no model.
"""

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np

from onnx_models import graph
from onnx_models.communities import LATER_FROM, Mask
from onnx_models.features import NAMES
from onnx_models.graph import Rows
from onnx_models.metrics import baselines, conflict, quality_of_order
from onnx_models.objectives import ENGAGEMENT, QUALITY, Objective
from onnx_models.study import Study

HERE = Path(__file__).resolve().parent
VERSION = 1
"""The version of both models. A version is never changed: raise it to train other models."""
SOURCES = (
    "communities.py",
    "features.py",
    "graph.py",
    "learners.py",
    "manifest.py",
    "metrics.py",
    "objectives.py",
    "posts.py",
    "study.py",
    "train.py",
    "words.py",
)
"""The code of the training. If one of these files changes, the manifests have to be built again."""
LIBRARIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")

GOLDEN_TOLERANCE = 1e-5
GOLDEN_BY_SCORE = 17
CALIBRATION = (
    "inside the graph: interpolated quantile of the raw output over the training posts, "
    f"{graph.KNOTS + 1} knots, the outermost a quarter of the range beyond the training's "
    "extremes; 0.7 means: above 70 % of the training posts"
)
LICENCE = "Apache-2.0 (trained on data in the public domain, PDDL-1.0)"

_INNERMOST_LIST = re.compile(r"\[[^][{}]*\]")


def manifest(
    study: Study, objective: Objective, models: Mapping[str, bytes], data: Path
) -> Mapping[str, object]:
    """The manifest of one objective, ready for JSON.

    `models` has the bytes of every objective's model, by the name of the objective. `data` is the
    CSV file of the posts.
    """
    model = models[objective.name]
    return {
        "objective": objective.name,
        "version": VERSION,
        "sha256": hashlib.sha256(model).hexdigest(),
        "input": {"name": graph.INPUT, "dtype": "float32", "shape": [None, len(NAMES)]},
        "output": {"name": graph.OUTPUT, "dtype": "float32", "shape": [None, 1]},
        "features": list(NAMES),
        "golden": _golden_rows(study, model),
        "golden_tolerance": GOLDEN_TOLERANCE,
        "calibration": CALIBRATION,
        "training": _training(study, objective, data),
        "metrics": _metrics(study, objective, models),
        "licence": LICENCE,
    }


def write_version(folder: Path, model: bytes, manifest: Mapping[str, object]) -> None:
    """Write both files of a version. The manifest is written last, because a folder without one is
    not a version yet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)

    indented = json.dumps(manifest, indent=1, ensure_ascii=False)
    text = _INNERMOST_LIST.sub(_on_one_line, indented)
    (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")


def code_revision() -> str:
    """A hash of the code of the training. A commit cannot be named here, as it would name itself."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update(f"{name}\0".encode() + (HERE / name).read_bytes() + b"\0")
    return f"sha256:{digest.hexdigest()}"


def _on_one_line(json_list: re.Match[str]) -> str:
    line = re.sub(r"\s*\n\s*", " ", json_list[0])
    return line.replace("[ ", "[").replace(" ]", "]")


def _golden_rows(study: Study, model: bytes) -> list[Mapping[str, object]]:
    """Posts of unseen communities: some at equal steps from the lowest score to the highest, and
    those with the lowest and the highest value of each feature.
    """
    rows = np.unique(study.rows[study.split.in_quarter[0]], axis=0)
    by_score = np.argsort(graph.run(model, rows), kind="stable")
    steps = np.linspace(0, len(by_score) - 1, GOLDEN_BY_SCORE).astype(np.intp)
    indices = [
        *by_score[steps].tolist(),
        *rows.argmin(axis=0).tolist(),
        *rows.argmax(axis=0).tolist(),
    ]
    chosen = rows[list(dict.fromkeys(indices))]  # each row once, in this order

    golden = list[Mapping[str, object]]()
    for row, score in zip(chosen, graph.run(model, chosen), strict=True):
        features = [round(float(value), 4) for value in row]
        golden.append({"features": features, "score": float(score)})
    return golden


def _training(study: Study, objective: Objective, data: Path) -> Mapping[str, object]:
    libraries = {"python": platform.python_version()}
    for name in LIBRARIES:
        libraries[name] = version_of(name)
    return {
        "data_sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
        "code_revision": code_revision(),
        "libraries": libraries,
        "seed": study.seed,
        "split": {
            "held_out_communities": list(study.split.quarters[0]),
            "trained_on_posts_before": LATER_FROM.isoformat(),
            "posts": int(study.split.without(0).sum()),
        },
        "target": objective.target,
        "family": objective.family,
    }


def _metrics(
    study: Study, objective: Objective, models: Mapping[str, bytes]
) -> Mapping[str, object]:
    scores = {name: graph.run(model, study.rows) for name, model in models.items()}
    shipped = scores[objective.name]
    held_out = study.split.in_quarter[0]
    later = study.split.later & ~held_out
    everywhere = np.ones_like(held_out)
    return {
        "unseen_communities": {
            "how": "each quarter of the communities by a model trained without it; the word "
            "classes of the features were chosen on all but the held-out quarter",
            **_figures(study, objective, study.scores_by_unseen_quarter(objective), everywhere),
        },
        "held_out_communities": {
            "how": "this model, on the quarter of the communities that it was trained without",
            **_figures(study, objective, shipped, held_out),
        },
        "unseen_time": {
            "how": "this model, on later posts of the communities that it was trained on",
            **_figures(study, objective, shipped, later),
        },
        "conflict": _conflict(study, scores, held_out),
    }


def _figures(study: Study, objective: Objective, scores: Rows, mask: Mask) -> Mapping[str, object]:
    """How good the order by `scores`, float32 `[posts]`, is on the posts of a mask."""
    communities = study.communities[mask]
    values = study.values(objective)[mask]
    return {
        "communities": len(set(communities)),
        "posts": int(mask.sum()),
        **quality_of_order(scores[mask], values, communities),
        "baselines": baselines(study.created[mask], values, communities, study.seed),
    }


def _conflict(study: Study, scores: Mapping[str, Rows], mask: Mask) -> Mapping[str, object]:
    """How much quality and engagement conflict on the posts of a mask: as they turned out, and as
    the models score them.
    """
    communities = study.communities[mask]
    quality = study.values(QUALITY)[mask]
    engagement = study.values(ENGAGEMENT)[mask]
    quality_scores = scores[QUALITY.name][mask]
    engagement_scores = scores[ENGAGEMENT.name][mask]
    return {
        "outcomes": conflict(quality, engagement, communities),
        "scores": conflict(quality_scores, engagement_scores, communities),
    }
