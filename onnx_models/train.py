"""Train both objectives and write `<objective>/1/model.onnx` and `manifest.json`.

- `python onnx_models/train.py` rebuilds both models, their manifests and the README's tables
- `python onnx_models/train.py --check` trains again and compares with what stands here
- `python onnx_models/train.py --cross-validate` prints the figures that features and learners were
  chosen by
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a file

from onnx_models import graph
from onnx_models.manifest import manifest, write
from onnx_models.objectives import OBJECTIVES
from onnx_models.posts import read_posts
from onnx_models.readme import refresh
from onnx_models.study import Study

HERE = Path(__file__).resolve().parent
DATA = HERE / "data" / "reddit_top_posts.csv.gz"
SEED = 7
VERSION, MODEL = "1", "model.onnx"
TOLERANCE = 1e-6


def study(data: Path, seed: int) -> Study:
    """The posts of a file that can be learned from: a post without a vote has no share of up votes."""
    return Study([post for post in read_posts(data) if post.ups + post.downs > 0], seed)


def difference(models: Mapping[str, bytes], committed: Path, posts: Study) -> float:
    """The largest difference between two builds' scores of any post; 0.0 where the bytes are the
    same.
    """
    return max(
        _difference(model, (committed / name / VERSION / MODEL).read_bytes(), posts)
        for name, model in models.items()
    )


def _difference(model: bytes, committed: bytes, posts: Study) -> float:
    if model == committed:
        return 0.0
    scores = [graph.run(each, posts.rows) for each in (model, committed)]
    return max(float(np.abs(scores[0] - scores[1]).max()), sys.float_info.min)


def one_thread() -> AbstractContextManager[object]:
    """Train within it: a sum over threads rounds by how many there are."""
    limits: AbstractContextManager[object] = threadpool_limits(limits=1)
    return limits


def _train(posts: Study) -> dict[str, bytes]:
    return {objective.name: posts.ship(objective) for objective in OBJECTIVES}


def _check(posts: Study, committed: Path) -> int:
    worst = difference(_train(posts), committed, posts)
    print(
        "same bytes"
        if worst == 0
        else f"other bytes; scores differ by {worst:.2g} at most (allowed: {TOLERANCE:g})"
    )
    return 0 if worst <= TOLERANCE else 1


def _rebuild(posts: Study, data: Path, target: Path) -> int:
    models = _train(posts)
    for objective in OBJECTIVES:
        folder = target / objective.name / VERSION
        write(
            folder, models[objective.name], manifest(posts, objective, models, data, int(VERSION))
        )
        print(folder)
    if target == HERE:
        refresh(HERE)
    return 0


def _cross_validate(posts: Study) -> int:
    for objective in OBJECTIVES:
        print(
            f"{objective.name}: Spearman {posts.cross_validate(objective):.4f} on training communities left out"
        )
    return 0


def _run(arguments: argparse.Namespace) -> int:
    posts = study(arguments.data, arguments.seed)
    if arguments.cross_validate:
        return _cross_validate(posts)
    if arguments.check:
        return _check(posts, arguments.out)
    return _rebuild(posts, arguments.data, arguments.out.resolve())


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="CSV file of posts")
    parser.add_argument("--seed", type=int, default=SEED, help="everything random is drawn from it")
    parser.add_argument(
        "--out", type=Path, default=HERE, help="folder that the models are written under"
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--check",
        action="store_true",
        help="rebuild elsewhere and compare; exit 1 where they differ",
    )
    kind.add_argument(
        "--cross-validate", action="store_true", help="figures on training communities only"
    )
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Exit code: 0 fine, 1 the check found a difference, 2 wrong use."""
    arguments = _arguments(words)
    try:
        with one_thread():
            return _run(arguments)
    except (OSError, ValueError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
