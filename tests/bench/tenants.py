"""A platform of many surfaces, each with a model of its own, and the requests that they get."""

import random
from dataclasses import dataclass, replace
from itertools import accumulate
from math import ceil

from tests.bench.cost import MIB
from tests.rig.environment import Environment
from tests.rig.measured import FEATURE_SET, surface
from tests.scoring.building import add_model, trees
from workers.scoring.files import MODEL
from workers.scoring.session_cache import session_bytes

TREES = 100
DEPTH = 3


@dataclass(frozen=True)
class Tenants:
    """Surfaces by name. Each has one model, under the objective of its name, of `file_bytes` bytes.

    The first surface is the one in constant use. Workers of `env` have a budget for `held` models.
    """

    env: Environment
    names: tuple[str, ...]
    file_bytes: tuple[int, ...]
    held: int
    budget_mib: int

    @classmethod
    def create(cls, env: Environment, name: str, count: int, held: int | None) -> "Tenants":
        """Write their files into a folder of this name. If `held` is None, all models are one file."""
        folder = env.folder / name
        folder.mkdir()
        names = tuple(f"surface-{number:04d}" for number in range(count))
        sections = [surface(name, {name: 1.0}) for name in names]
        (folder / "surfaces.toml").write_text(FEATURE_SET + "".join(sections))

        sizes = []
        for seed, objective in enumerate(names):
            model = trees(TREES, DEPTH, seed=0 if held is None else seed)
            version = add_model(folder / "models", model, objective)
            sizes.append((version / MODEL).stat().st_size)

        budget_mib = ceil((held or 1) * session_bytes(max(sizes)) / MIB)
        own = replace(env, folder=folder).fresh(TRIMTAB_MODELS_MB=str(budget_mib))
        return cls(own, names, tuple(sizes), held or 1, budget_mib)

    def visits(self, seed: int, requests: int, lead_in: int) -> list[str]:
        """The surface of each request. It is the first surface for `lead_in` requests, and then for
        every other one. The rest go to the others by Zipf's law, in an order that is drawn.
        """
        draw = random.Random(seed)
        constant = self.names[0]
        others = draw.sample(self.names[1:], len(self.names) - 1)
        weights = list(accumulate(1 / rank for rank in range(1, len(others) + 1)))
        visited = (draw.choices(others, cum_weights=weights)[0] for _ in range(requests))
        return [constant if n < lead_in or n % 2 else next(visited) for n in range(requests)]
