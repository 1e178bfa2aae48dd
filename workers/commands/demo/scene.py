"""Sets the scene: models verified, posts read, the stack up, a worker started.

Everything is the repository's own: a user's settings for another Kafka or other models do not reach the demo.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from onnx_models.posts import Post
from workers.commands.demo.posts import MODELS, REPOSITORY, SURFACE, SURFACES, load_posts
from workers.commands.demo.show import Narrator, typed
from workers.commands.demo.stage import Stage
from workers.local import StackAddresses
from workers.local.processes import ProcessMark
from workers.ranking.weights import WeightRules, Weights
from workers.scoring.store import load_models
from workers.settings import SETTINGS, load_surfaces
from workers.streaming.clients import Cluster

TOPIC_CANDIDATES = str(SETTINGS["topic_candidates"].default)
TOPIC_FEEDS = str(SETTINGS["topic_feeds"].default)
_TURNED = {"quality": 0.1, "engagement": 0.9}


@dataclass(frozen=True)
class Scene:
    """What the demo plays with; feeds are ranked under `before`, and once that is written under `after`."""

    addresses: StackAddresses
    worker: ProcessMark
    posts: list[Post]
    before: Weights
    after: Weights

    @property
    def cluster(self) -> Cluster:
        """The stack's Kafka."""
        return Cluster(self.addresses.kafka)

    def titles(self) -> Mapping[str, str]:
        """Item id to title."""
        return {post.item_id: post.title for post in self.posts}

    def labels(self) -> Mapping[str, str]:
        """Item id to community and title."""
        return {post.item_id: f"[{post.community}] {post.title}" for post in self.posts}

    def hset(self, weights: Mapping[str, float]) -> list[str]:
        """The redis-cli command that writes these weights, as one types it here."""
        fields = [word for objective, weight in weights.items() for word in (objective, f"{weight:g}")]
        return [typed(self.addresses.redis_cli), "-u", self.addresses.redis, "HSET", f"weights:{SURFACE}", *fields]


def set_scene(stage: Stage, seed: int, narrator: Narrator) -> Scene:
    """Make everything ready. Raises what is in the way: ConfigurationError, NoVerifiedModel, StackError."""
    rules = _verify_models(narrator)
    with narrator.step("posts") as tell:
        posts = load_posts(seed)
        tell(f"{len(posts):,} real posts of {len({post.community for post in posts})} communities")
    with narrator.step("stack") as tell:
        addresses = stage.up()
        tell(f"Kafka at {addresses.kafka}, Redis at {addresses.redis}")
    return Scene(addresses, _start_worker(stage, addresses), posts, rules.default(), rules.validate(_TURNED))


def _verify_models(narrator: Narrator) -> WeightRules:
    with narrator.step("models") as tell:
        surfaces = load_surfaces(SURFACES)
        models = load_models(MODELS, surfaces).models[SURFACE]
        tell(" and ".join(f"{objective}/{version}" for objective, version in models.items()) + ": verified")
    return surfaces[SURFACE].weight_rules


def _start_worker(stage: Stage, addresses: StackAddresses) -> ProcessMark:
    places = f"--surfaces={SURFACES}", f"--models={MODELS}", f"--home={stage.home}"
    servers = f"--kafka={addresses.kafka}", f"--redis={addresses.redis}"
    return stage.start("worker", REPOSITORY, "worker", *servers, *places)
