"""Train the objectives, and write `<objective>/<version>/model.onnx` and `manifest.json`.

- `python onnx_models/train.py` builds the models, their manifests and the README's tables
- `python onnx_models/train.py --check` trains again, and compares with the models in the repository
- `python onnx_models/train.py --cross-validate` prints the figures by which features and learners
  were chosen
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a file

from onnx_models import graph, readme
from onnx_models.manifest import VERSION, manifest, write_version
from onnx_models.objectives import OBJECTIVES
from onnx_models.posts import read_posts
from onnx_models.study import Study

HERE = Path(__file__).resolve().parent
DATA = HERE / "data" / "reddit_top_posts.csv.gz"
SEED = 7
TOLERANCE = 1e-6


def load_study(data: Path, seed: int) -> Study:
    """The posts of a CSV file. A post without votes is left out: it has no share of up votes."""
    return Study([post for post in read_posts(data) if post.ups + post.downs > 0], seed)


def one_thread() -> AbstractContextManager[object]:
    """Train inside of this context: the rounding of a sum depends on the number of threads."""
    limits: AbstractContextManager[object] = threadpool_limits(limits=1)
    return limits


def train_all(study: Study) -> dict[str, bytes]:
    """Train the models that are shipped: their bytes, by the name of the objective."""
    return {objective.name: study.ship(objective) for objective in OBJECTIVES}


def largest_difference(models: Mapping[str, bytes], committed: Path, study: Study) -> float:
    """The largest difference between the scores of the models and those of the committed ones, over
    all posts. 0.0 only if their bytes are the same.
    """
    largest = 0.0
    for name, model in models.items():
        committed_model = (committed / name / str(VERSION) / "model.onnx").read_bytes()
        if model == committed_model:
            continue
        differences = graph.run(model, study.rows) - graph.run(committed_model, study.rows)
        largest = max(largest, float(np.abs(differences).max()), sys.float_info.min)
    return largest


def check(study: Study, committed: Path) -> bool:
    """Train, and compare with the committed models. Returns whether the scores are the same."""
    difference = largest_difference(train_all(study), committed, study)
    if difference == 0:
        print("same bytes")
    else:
        allowed = f"(allowed: {TOLERANCE:g})"
        print(f"other bytes; scores differ by {difference:.2g} at most {allowed}")
    return difference <= TOLERANCE


def cross_validate(study: Study) -> None:
    """Print the figures by which features and learners were chosen."""
    for objective in OBJECTIVES:
        rho = study.cross_validate(objective)
        print(f"{objective.name}: Spearman {rho:.4f} on training communities left out")


def rebuild(study: Study, data: Path, target: Path) -> None:
    """Train, and write every version below `target`."""
    models = train_all(study)
    for objective in OBJECTIVES:
        folder = target / objective.name / str(VERSION)
        described = manifest(study, objective, models, data)
        write_version(folder, models[objective.name], described)
        print(folder)
    if target == HERE:
        readme.refresh(HERE)


def main(words: Sequence[str] | None = None) -> int:
    """Exit code: 0 success, 1 the check found a difference, 2 wrong use."""
    arguments = _parse(words)
    try:
        with one_thread():
            study = load_study(arguments.data, arguments.seed)
            if arguments.cross_validate:
                cross_validate(study)
            elif arguments.check:
                return 0 if check(study, arguments.out) else 1
            else:
                rebuild(study, arguments.data, arguments.out.resolve())
    except (OSError, ValueError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    return 0


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="CSV file of posts")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of everything random")
    parser.add_argument(
        "--out", type=Path, default=HERE, help="folder that the models are written to"
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--check",
        action="store_true",
        help="train again and compare, without writing; exit code 1 if they differ",
    )
    mode.add_argument(
        "--cross-validate", action="store_true", help="print figures on training communities only"
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
