"""What `--outcomes` works with: the same posts and models, three sets of weights, simulated readers,
and a worker, a join and a users stage on a stack of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from demo.audit import WeightsByArm
from demo.environment import MODELS, SURFACES, Environment
from demo.fixtures import SURFACE, load_posts, verify_models
from demo.taste import Taste
from demo.terminal import Terminal
from onnx_models.posts import Post
from workers.local import StackAddresses
from workers.local.processes import ProcessIdentity
from workers.ranking.experiment import CONTROL
from workers.ranking.surface import Surface
from workers.ranking.weights import Weights
from workers.streaming.clients import Cluster
from workers.surfaces import load_surfaces

WINDOW_S = 5
VIEW = "view"
CLICK = "click"
HIDE = "hide"

CANARY = "canary"
RISKY = "risky"
PERCENTS = {CANARY: 40, RISKY: 20}
"""The share of users of each arm."""
TUNED_FOR = "25%"
TAKE_RATE_BOUND = -0.10
"""The lift that no arm's take-rate may fall below."""
GUARD_RAILS = (f"take_rate >= {TAKE_RATE_BOUND * 100:+.0f}%", f"{HIDE} <= +50%")

_CANARY = {"quality": 0.2, "engagement": 0.8}
_RISKY = {"quality": 0.9, "engagement": 0.1}
_OUTCOMES = f"""
[surfaces.{SURFACE}.outcomes]
window_s = {WINDOW_S}
seen = {{ kind = "{VIEW}" }}
take = {{ kind = "{CLICK}" }}
others = {{ {HIDE} = {{ kind = "{HIDE}" }} }}
"""


@dataclass(frozen=True)
class OutcomesFixtures:
    """Everything that is ready when the first request is sent.

    `arms` has the weights of control and of both arms. `processes` are those that must run to the
    end, by name.
    """

    addresses: StackAddresses
    processes: Mapping[str, ProcessIdentity]
    surface: Surface
    surfaces_file: Path
    posts: list[Post]
    taste: Taste
    arms: Mapping[str, Weights]

    @property
    def cluster(self) -> Cluster:
        """The stack's Kafka."""
        return Cluster(self.addresses.kafka)

    @property
    def weights_by_arm(self) -> WeightsByArm:
        """Every set of weights that is in force at some time: those of CANARY are promoted."""
        return {
            CONTROL: (self.arms[CONTROL], self.arms[CANARY]),
            CANARY: (self.arms[CANARY],),
            RISKY: (self.arms[RISKY],),
        }


def prepare_outcomes(environment: Environment, seed: int, terminal: Terminal) -> OutcomesFixtures:
    """Make everything ready, and start the stack, the worker and both stages of outcomes.

    Raises ConfigurationError, NoVerifiedModel or StackError.
    """
    with terminal.step("models") as report:
        _, versions = verify_models()
        report(f"{' and '.join(versions)} verified")

    with terminal.step("posts") as report:
        posts = load_posts(seed)
        taste = Taste(posts, seed)
        communities = {post.community for post in posts}
        report(f"{len(posts):,} real posts of {len(communities)} communities")

    with terminal.step("stack") as report:
        addresses = environment.start_stack()
        report(f"Kafka at {addresses.kafka}, Redis at {addresses.redis}")

    surfaces_file = environment.folder / "surfaces.toml"
    surfaces_file.write_text(SURFACES.read_text(encoding="utf-8") + _OUTCOMES, encoding="utf-8")
    surface = load_surfaces(surfaces_file)[SURFACE]

    flags = [
        f"--kafka={addresses.kafka}",
        f"--redis={addresses.redis}",
        f"--surfaces={surfaces_file}",
        f"--home={environment.folder}",
    ]
    commands = {
        "worker": ["worker", f"--models={MODELS}"],
        "join": ["outcomes", "join"],
        "users": ["outcomes", "users"],
    }
    processes: dict[str, ProcessIdentity] = {}
    for name, command in commands.items():
        processes[name] = environment.start(name, "workers.cli", *command, *flags)

    rules = surface.weight_rules
    return OutcomesFixtures(
        addresses=addresses,
        processes=processes,
        surface=surface,
        surfaces_file=surfaces_file,
        posts=posts,
        taste=taste,
        arms={
            CONTROL: rules.default(),
            CANARY: rules.validate(_CANARY),
            RISKY: rules.validate(_RISKY),
        },
    )
