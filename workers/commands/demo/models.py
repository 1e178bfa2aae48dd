"""The demo's models: a folder of its own that begins as the repository's, and another model that is
to come into it.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnx_models.features import matrix
from onnx_models.objectives import QUALITY
from onnx_models.posts import Post
from workers.commands.demo.audit import InUse
from workers.commands.demo.posts import MODELS
from workers.ranking.surface import Surface
from workers.scoring.folder import Folder
from workers.scoring.refusal import Version
from workers.scoring.verify import verify
from workers.settings import ConfigurationError

OBJECTIVE = QUALITY.name
OLD, NEW, BAD = 1, 2, 3
"""The version that comes with the repository; the demo's own; and one that is only half of that."""
_SEED = 8


def train_another(posts: Sequence[Post]) -> bytes:
    """Train OBJECTIVE as the repository does, but on these posts alone and from another seed: the
    bytes of a model.

    Raises ConfigurationError where the trainer's packages are not installed.
    """
    try:
        from onnx_models.study import Study  # noqa: PLC0415
        from onnx_models.train import one_thread  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            f"{error.name}: not found, and the demo trains a model; pip install -e '.[train]'"
        ) from None
    with one_thread():
        return Study([post for post in posts if post.ups + post.downs > 0], _SEED).ship(QUALITY)


def copy_models(objectives: Sequence[str], folder: Path) -> None:
    """Make the demo's own folder of models."""
    for objective in objectives:
        shutil.copytree(MODELS / objective, folder / objective)


def half_of(folder: Path) -> list[str]:
    """Lines for a shell that make BAD of the first half of NEW's file, and of all of its manifest."""
    half = (folder / OBJECTIVE / str(NEW) / "model.onnx").stat().st_size // 2
    return [
        f"mkdir {BAD}",
        f"head -c {half} {NEW}/model.onnx > {BAD}/model.onnx",
        f"""sed 's/"version": {NEW}/"version": {BAD}/' {NEW}/manifest.json > {BAD}/manifest.json""",
    ]


def in_use(folder: Path, surface: Surface, posts: Sequence[Post]) -> InUse:
    """What each version but BAD gives each post: what a feed by that version must have, bit for
    bit.
    """
    first = {post.item_id: post for post in reversed(posts)}
    rows, _ = surface.feature_set.clip(matrix(first.values()))

    def scores(version: Version) -> Mapping[str, float]:
        found: list[float] = verify(version.folder, [surface.feature_set]).score(rows).tolist()
        return dict(zip(first, found, strict=True))

    return {
        objective: {
            number: scores(one)
            for number, one in versions.items()
            if (objective, number) != (OBJECTIVE, BAD)
        }
        for objective, versions in Folder(folder).look().items()
    }
