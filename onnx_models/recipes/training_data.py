"""The training data of every recipe: the repository's own posts, with the features and the split of
`train.py`. And what every recipe writes.

Needs only numpy, onnx and onnxruntime, so that a recipe runs in the environment of its trainer.
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
from onnx_models.metrics import by_community, spearman
from onnx_models.posts import read_posts

POSTS = Path(__file__).resolve().parents[1] / "data" / "reddit_top_posts.csv.gz"
SEED = 7
FEATURES_KEY = "trimtab.features"
GOLDEN_ROWS = 500
ROUNDING = 1e-5

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class TrainingData:
    """Posts to train on, and posts of unseen communities to evaluate with.

    `rows` are features, float32 `[posts, features]`. `target` is the rank of a post's comments
    within its community, float64 `[posts]`, 0 to 1.
    """

    rows: Rows
    target: Numbers
    unseen_rows: Rows
    unseen_target: Numbers
    unseen_communities: Names


def load_training_data(path: Path = POSTS) -> TrainingData:
    """Read the posts. Raises PostError if the file cannot be read."""
    posts = [post for post in read_posts(path) if post.ups + post.downs > 0]
    rows = matrix(posts)
    communities = np.array([post.community for post in posts])
    comments = np.array([post.comments for post in posts], np.float64)
    target = ranks_within(comments, communities)

    parts = split(posts, SEED)
    seen = parts.without(0)
    unseen = parts.in_quarter[0]
    return TrainingData(
        rows=rows[seen],
        target=target[seen],
        unseen_rows=rows[unseen],
        unseen_target=target[unseen],
        unseen_communities=communities[unseen],
    )


def out_folder(words: Sequence[str] | None) -> Path:
    """The folder that the command line names. The recipe writes into it."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "out", type=Path, metavar="DIR", help="folder for model.onnx and golden.csv"
    )
    out: Path = parser.parse_args(words).out
    return out


def write(out: Path, model: onnx.ModelProto, data: TrainingData, expected: Numbers) -> None:
    """Write model.onnx with the names of its features, and golden.csv with real posts for its
    golden rows. Print how good the model is.

    `expected` has the trainer's own scores of the unseen rows, `[posts]`. It is printed how many
    differ from those of the file. A few may: trainers may store the thresholds of trees in float64,
    but ONNX stores them in float32.
    """
    helper.set_model_props(model, {FEATURES_KEY: json.dumps(NAMES)})
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.onnx").write_bytes(model.SerializeToString())

    step = len(data.unseen_rows) // GOLDEN_ROWS + 1
    with (out / "golden.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([NAMES, *data.unseen_rows[::step].tolist()])

    session = onnxruntime.InferenceSession(
        str(out / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    (scores,) = session.run(None, {session.get_inputs()[0].name: data.unseen_rows})
    scores = scores.reshape(-1)
    rho = by_community(spearman, scores, data.unseen_target, data.unseen_communities)
    different = int((np.abs(scores - expected) > ROUNDING).sum())
    print(
        f"{out / 'model.onnx'}: Spearman {rho:.3f} on unseen communities; "
        f"{different} of {len(scores)} scores differ from the trainer's by more than {ROUNDING:g}"
    )
