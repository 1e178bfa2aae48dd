"""A platform of many surfaces, each with a model of its own, and who visits which of them."""

import json
import random
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from pathlib import Path

from tests.bench.cost import MIB
from tests.bench.rig import DEADLINE_MS, MODELS_FOLDER, SURFACES_FILE, Rig
from tests.scoring.building import FEATURES, add_model, trees
from workers.scoring.files import MODEL
from workers.scoring.session_cache import session_bytes

TREES, DEPTH = 100, 3
_SURFACE = """
[surfaces.{name}]
feature_set = "wide"
objectives = ["{name}"]
deadline_ms = {deadline}
horizon_ms = {deadline}
max_candidates = 1000
weights = {{ {name} = 1.0 }}
"""


@dataclass(frozen=True)
class Tenants:
    """Surfaces by name, the model of each under the objective of that name, and the bytes of each
    model.onnx.

    The first surface is the one in constant use. The budget of `rig` is for `held` of the models.
    """

    rig: Rig
    names: tuple[str, ...]
    file_bytes: tuple[int, ...]
    held: int

    @classmethod
    def furnish(cls, rig: Rig, folder: str, count: int, held: int | None) -> "Tenants":
        """Write them into a folder beside what a rig has; `held` None: all the models are one file."""
        place = rig.folder / folder
        place.mkdir()
        names = tuple(f"surface-{number:04d}" for number in range(count))
        surfaces = "".join(_SURFACE.format(name=name, deadline=DEADLINE_MS) for name in names)
        (place / SURFACES_FILE).write_text(
            f"[feature_sets.wide]\nnames = {json.dumps(FEATURES)}\n{surfaces}"
        )
        seeds = [0] * count if held is None else range(count)
        sizes = tuple(_add(place / MODELS_FOLDER, *of) for of in zip(names, seeds, strict=True))
        budget = ceil((held or 1) * session_bytes(max(sizes)) / MIB)
        return cls(Rig(rig.kafka, rig.redis, place, budget), names, sizes, held or 1)

    def visits(self, seed: int, requests: int, lead_in: int) -> list[str]:
        """The surface of each request: the first one for the lead-in and then every other time.

        Else another, by Zipf's law in an order that is drawn.
        """
        draw, constant = random.Random(seed), self.names[0]
        others = draw.sample(self.names[1:], len(self.names) - 1)
        weights = list(accumulate(1 / rank for rank in range(1, len(others) + 1)))
        visited = (draw.choices(others, cum_weights=weights)[0] for _ in range(requests))
        return [constant if n < lead_in or n % 2 else next(visited) for n in range(requests)]


def _add(models: Path, name: str, seed: int) -> int:
    return (add_model(models, trees(TREES, DEPTH, seed=seed), name) / MODEL).stat().st_size
