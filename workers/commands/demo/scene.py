"""Sets the scene: models verified, posts read, another model trained, the stack up, a worker
started.

Everything is the repository's own: a user's settings for another Kafka or other models do not reach
the demo.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onnx_models.posts import Post
from workers.commands.demo.audit import InForce
from workers.commands.demo.models import OBJECTIVE, copy_models, train_another
from workers.commands.demo.posts import MODELS, REPOSITORY, SURFACE, SURFACES, load_posts
from workers.commands.demo.shell import typed
from workers.commands.demo.show import Narrator
from workers.commands.demo.stage import Stage
from workers.local import StackAddresses
from workers.local.processes import ProcessMark
from workers.ranking.experiment import CONTROL
from workers.ranking.surface import Surface
from workers.ranking.weights import Weights
from workers.scoring.registry import Registry
from workers.settings import SETTINGS
from workers.streaming.clients import Cluster
from workers.surfaces import load_surfaces

TOPIC_CANDIDATES = str(SETTINGS["topic_candidates"].default)
TOPIC_FEEDS = str(SETTINGS["topic_feeds"].default)
CANARY = "canary"
CANARY_PERCENT = 20
_MODELS_BYTES = 1024 * 1024 * 1024
_TURNED = {"quality": 0.1, "engagement": 0.9}
_PROPOSED = {"quality": 0.9, "engagement": 0.1}
_CANARY = {"quality": 0.4, "engagement": 0.6}


@dataclass(frozen=True)
class Scene:
    """What the demo plays with.

    Feeds are ranked under `before`, then under `after`, which redis-cli writes, then under
    `proposed`, which is previewed and set, and after a rollback under `after` again; those of the
    arm CANARY under `canary`. `models` is the demo's own folder of models, `another` a model that
    is not in it yet.
    """

    addresses: StackAddresses
    worker: ProcessMark
    surface: Surface
    posts: list[Post]
    models: Path
    another: Path
    before: Weights
    after: Weights
    proposed: Weights
    canary: Weights

    @property
    def cluster(self) -> Cluster:
        """The stack's Kafka."""
        return Cluster(self.addresses.kafka)

    @property
    def in_force(self) -> InForce:
        """Every set that is in force at some time."""
        return {CONTROL: (self.before, self.after, self.proposed), CANARY: (self.canary,)}

    def titles(self) -> Mapping[str, str]:
        """Item id to title."""
        return {post.item_id: post.title for post in self.posts}

    def labels(self) -> Mapping[str, str]:
        """Item id to community and title."""
        return {post.item_id: f"[{post.community}] {post.title}" for post in self.posts}

    def hset(self, weights: Mapping[str, float]) -> list[str]:
        """The redis-cli command that writes these weights, as one types it here."""
        fields = [
            word for objective, weight in weights.items() for word in (objective, f"{weight:g}")
        ]
        return [
            typed(self.addresses.redis_cli),
            "-u",
            self.addresses.redis,
            "HSET",
            f"weights:{SURFACE}",
            *fields,
        ]


def set_scene(stage: Stage, seed: int, narrator: Narrator) -> Scene:
    """Make everything ready. Raises what is in the way: ConfigurationError, NoVerifiedModel,
    StackError.
    """
    surface = _verify_models(narrator)
    with narrator.step("posts") as tell:
        posts = load_posts(seed)
        tell(f"{len(posts):,} real posts of {len({post.community for post in posts})} communities")
    with narrator.step("another") as tell:
        trained = train_another(posts)
        tell(
            f"{OBJECTIVE} trained anew, on these posts alone: {len(trained):,} bytes that no worker knows"
        )
    with narrator.step("stack") as tell:
        addresses = stage.up()
        tell(f"Kafka at {addresses.kafka}, Redis at {addresses.redis}")
    models, another = stage.home / "models", stage.home / "another.onnx"
    copy_models(surface.objectives, models)
    another.write_bytes(trained)
    rules = surface.weight_rules
    sets = rules.default(), *(rules.validate(values) for values in (_TURNED, _PROPOSED, _CANARY))
    return Scene(
        addresses, _start_worker(stage, addresses, models), surface, posts, models, another, *sets
    )


def _verify_models(narrator: Narrator) -> Surface:
    with narrator.step("models") as tell:
        surfaces = load_surfaces(SURFACES)
        with Registry(MODELS, surfaces, _MODELS_BYTES) as registry:
            models = registry.available()
        tell(
            " and ".join(f"{name}/{models[name]}" for name in surfaces[SURFACE].objectives)
            + ": verified"
        )
    return surfaces[SURFACE]


def _start_worker(stage: Stage, addresses: StackAddresses, models: Path) -> ProcessMark:
    places = f"--surfaces={SURFACES}", f"--models={models}", f"--home={stage.home}"
    servers = f"--kafka={addresses.kafka}", f"--redis={addresses.redis}"
    return stage.start("worker", REPOSITORY, "worker", *servers, *places)
