"""What every recipe learns from: the repository's own posts, with the features and the split of
`train.py`.

Needs numpy and onnx alone, so that a recipe runs beside whatever trainer it is about.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from onnx_models.communities import Names, Numbers, ranks_within, split
from onnx_models.features import NAMES, matrix
from onnx_models.measure import by_community, spearman
from onnx_models.posts import read_posts

POSTS = Path(__file__).resolve().parents[1] / "data" / "reddit_top_posts.csv.gz"
SEED = 7
FEATURES_KEY = "trimtab.features"
GOLDEN_ROWS = 500
ROUNDING = 1e-5

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Lesson:
    """Posts to train on and posts of other communities to be judged by.

    `rows` are features, float32 `[posts, features]`; `target` is the rank of a post's comments
    within its community, float64 `[posts]`, 0 to 1.
    """

    rows: Rows
    target: Numbers
    unseen_rows: Rows
    unseen_target: Numbers
    unseen_communities: Names


def lesson(path: Path = POSTS) -> Lesson:
    """Raises PostError where the file cannot be read."""
    posts = [post for post in read_posts(path) if post.ups + post.downs > 0]
    communities = np.array([post.community for post in posts])
    target = ranks_within(np.array([post.comments for post in posts], np.float64), communities)
    parts, rows = split(posts, SEED), matrix(posts)
    seen, unseen = parts.without(0), parts.in_quarter[0]
    return Lesson(rows[seen], target[seen], rows[unseen], target[unseen], communities[unseen])


def out_folder(words: Sequence[str] | None) -> Path:
    """The folder that a recipe is told to write into."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "out", type=Path, metavar="DIR", help="folder for model.onnx and golden.csv"
    )
    out: Path = parser.parse_args(words).out
    return out


def write(out: Path, model: onnx.ModelProto, taught: Lesson, expected: Numbers) -> None:
    """Write model.onnx, which carries the names of its features, and golden.csv: real rows for its
    golden rows.

    `expected` is what the trainer itself gives for the unseen rows, `[posts]`: printed is on how
    many the file differs. A few may, whose feature stands on a tree's threshold: trainers may hold
    thresholds in float64, ONNX in float32.
    """
    helper.set_model_props(model, {FEATURES_KEY: json.dumps(NAMES)})
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.onnx").write_bytes(model.SerializeToString())
    with (out / "golden.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [NAMES, *taught.unseen_rows[:: len(taught.unseen_rows) // GOLDEN_ROWS + 1].tolist()]
        )
    _report(out, taught, expected)


def _report(out: Path, taught: Lesson, expected: Numbers) -> None:
    session = onnxruntime.InferenceSession(
        str(out / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    scores = session.run(None, {session.get_inputs()[0].name: taught.unseen_rows})[0].reshape(-1)
    rho = by_community(spearman, scores, taught.unseen_target, taught.unseen_communities)
    off = int((np.abs(scores - expected) > ROUNDING).sum())
    print(f"{out / 'model.onnx'}: Spearman {rho:.3f} on unseen communities;", end=" ")
    print(f"{off} of {len(scores)} scores differ from the trainer's by more than {ROUNDING:g}")
