"""What the demo works with: posts, models, weights, the addresses of its stack, and its worker.

All of it comes from this repository.
"""

import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.audit import ScoresByModel, WeightsByArm
from demo.environment import MODELS, SURFACES, Environment
from demo.terminal import Terminal, short_path
from onnx_models.features import matrix
from onnx_models.objectives import QUALITY
from onnx_models.posts import Post, PostError, read_posts
from workers.local import StackAddresses
from workers.local.processes import ProcessIdentity
from workers.ranking.experiment import CONTROL
from workers.ranking.surface import Surface
from workers.ranking.weights import Weights
from workers.scoring.folder import Folder
from workers.scoring.registry import Registry
from workers.scoring.verify import verify
from workers.settings import SETTINGS, ConfigurationError
from workers.streaming.clients import Cluster
from workers.surfaces import load_surfaces

SURFACE = "home"
TOPIC_CANDIDATES = str(SETTINGS["topic_candidates"].default)
TOPIC_FEEDS = str(SETTINGS["topic_feeds"].default)

OBJECTIVE = QUALITY.name
"""The objective whose model is swapped."""
OLD = 1
"""The version of its model that is in the repository."""
NEW = 2
"""The version that the demo trains."""
BAD = 3
"""A version with only half of that file."""

CANARY = "canary"
CANARY_PERCENT = 20

_BY_HAND = {"quality": 0.1, "engagement": 0.9}
_PREVIEWED = {"quality": 0.9, "engagement": 0.1}
_CANARY = {"quality": 0.4, "engagement": 0.6}

# Few enough that computing their features costs the machine nothing while requests are sent.
_MAX_POSTS = 3_000
_TRAINING_SEED = 8
_MODELS_BYTES = 1024 * 1024 * 1024


@dataclass(frozen=True)
class Fixtures:
    """Everything that is ready when the first request is sent.

    Feeds are ranked under `initial` first, then under `by_hand`, which redis-cli writes, then under
    `previewed`, and after a rollback under `by_hand` again. Those of the arm CANARY are ranked
    under `canary`. `models` is the demo's own folder of models. `new_model` is a trained model that
    is not in that folder yet.
    """

    addresses: StackAddresses
    worker: ProcessIdentity
    surface: Surface
    posts: list[Post]
    models: Path
    new_model: Path
    initial: Weights
    by_hand: Weights
    previewed: Weights
    canary: Weights

    @property
    def cluster(self) -> Cluster:
        """The stack's Kafka."""
        return Cluster(self.addresses.kafka)

    @property
    def weights_by_arm(self) -> WeightsByArm:
        """Every set of weights that is in force at some time."""
        return {CONTROL: (self.initial, self.by_hand, self.previewed), CANARY: (self.canary,)}

    def titles(self) -> Mapping[str, str]:
        """Item id to title."""
        return {post.item_id: post.title for post in self.posts}

    def labels(self) -> Mapping[str, str]:
        """Item id to community and title."""
        return {post.item_id: f"[{post.community}] {post.title}" for post in self.posts}

    def hset_command(self, weights: Weights) -> list[str]:
        """The redis-cli command that writes these weights, as one types it here."""
        redis_cli = short_path(self.addresses.redis_cli)
        command = [redis_cli, "-u", self.addresses.redis, "HSET", f"weights:{SURFACE}"]
        for objective, weight in weights.values.items():
            command += [objective, f"{weight:g}"]
        return command

    def model_scores(self) -> ScoresByModel:
        """The score that each version but BAD gives each post, bit for bit."""
        return model_scores(self.surface, self.posts, self.models, leave_out=(OBJECTIVE, BAD))


def prepare(environment: Environment, seed: int, terminal: Terminal) -> Fixtures:
    """Make everything ready, and start the stack and the worker.

    Raises ConfigurationError, NoVerifiedModel or StackError.
    """
    with terminal.step("models") as report:
        surface, versions = verify_models()
        report(f"{' and '.join(versions)} verified")

    with terminal.step("posts") as report:
        posts = load_posts(seed)
        communities = {post.community for post in posts}
        report(f"{len(posts):,} real posts of {len(communities)} communities")

    with terminal.step("training") as report:
        trained = train_new_model(posts)
        report(f"a new {OBJECTIVE}, on these posts only: {len(trained):,} bytes, not in use yet")

    with terminal.step("stack") as report:
        addresses = environment.start_stack()
        report(f"Kafka at {addresses.kafka}, Redis at {addresses.redis}")

    models = environment.folder / "models"
    for objective in surface.objectives:
        shutil.copytree(MODELS / objective, models / objective)
    new_model = environment.folder / "new-model.onnx"
    new_model.write_bytes(trained)

    worker = environment.start(
        "worker",
        "workers.cli",
        "worker",
        f"--kafka={addresses.kafka}",
        f"--redis={addresses.redis}",
        f"--surfaces={SURFACES}",
        f"--models={models}",
        f"--home={environment.folder}",
    )

    rules = surface.weight_rules
    return Fixtures(
        addresses=addresses,
        worker=worker,
        surface=surface,
        posts=posts,
        models=models,
        new_model=new_model,
        initial=rules.default(),
        by_hand=rules.validate(_BY_HAND),
        previewed=rules.validate(_PREVIEWED),
        canary=rules.validate(_CANARY),
    )


def verify_models() -> tuple[Surface, list[str]]:
    """Verify the repository's models as a worker does. Return the surface, and the version of each
    of its objectives.
    """
    surfaces = load_surfaces(SURFACES)
    with Registry(MODELS, surfaces, _MODELS_BYTES) as registry:
        available = registry.available()

    surface = surfaces[SURFACE]
    versions = [f"{objective}/{available[objective]}" for objective in surface.objectives]
    return surface, versions


def load_posts(seed: int) -> list[Post]:
    """Choose the posts that requests are made of. Raises ConfigurationError."""
    try:
        posts = list(read_posts(MODELS / "data" / "reddit_top_posts.csv.gz"))
    except (OSError, PostError) as error:
        raise ConfigurationError(f"the repository's posts: {error}") from None
    return random.Random(seed).sample(posts, min(_MAX_POSTS, len(posts)))


def train_new_model(posts: Sequence[Post]) -> bytes:
    """Train OBJECTIVE as the repository does, but on these posts only and from another seed.

    Raises ConfigurationError if the trainer's packages are not installed.
    """
    try:
        from onnx_models.study import Study  # noqa: PLC0415
        from onnx_models.train import one_thread  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            f"{error.name}: not found, but the demo trains a model; pip install -e '.[train]'"
        ) from None

    voted = [post for post in posts if post.ups + post.downs > 0]
    with one_thread():
        return Study(voted, _TRAINING_SEED).ship(QUALITY)


def model_scores(
    surface: Surface,
    posts: Sequence[Post],
    models: Path,
    leave_out: tuple[str, int] | None = None,
) -> ScoresByModel:
    """The score that each version in the folder `models` gives each post, bit for bit, except for
    the objective and version `leave_out`.
    """
    first_posts: dict[str, Post] = {}
    for post in posts:
        first_posts.setdefault(post.item_id, post)
    rows, _ = surface.feature_set.clip(matrix(first_posts.values()))

    by_model: dict[str, dict[int, Mapping[str, float]]] = {}
    for objective, versions in Folder(models).scan().items():
        by_model[objective] = {}
        for number, version in versions.items():
            if (objective, number) == leave_out:
                continue
            model = verify(version.folder, [surface.feature_set])
            scores: list[float] = model.score(rows).tolist()
            by_model[objective][number] = dict(zip(first_posts, scores, strict=True))
    return by_model
