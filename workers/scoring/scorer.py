"""The models in force, as one immutable snapshot: a swap puts another in its place, and no feed sees two.

The requests of a micro-batch are scored together: grouped by surface, joined to one matrix, one onnxruntime call for
each objective. The grouping cannot be seen in the scores (see model.py).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.ranking.features import FeatureSet
from workers.ranking.request import Request
from workers.ranking.scored import Scores
from workers.ranking.surface import Surface, Surfaces
from workers.scoring.model import ROWS_PER_CALL, Matrix, Model
from workers.scoring.refusal import Refusal


class ScoredBatch(NamedTuple):
    """`scores` stands in the order of the requests: for each float32 `[candidates, objectives]`.

    `models` is objective to version by surface; `clipped` counts features that were outside their bounds.
    """

    scores: list[Scores]
    models: Mapping[str, Mapping[str, int]]
    clipped: int


class SurfaceModels(NamedTuple):
    """A surface's models in its order of objectives, each with the columns it reads (None: all, as they are)."""

    feature_set: FeatureSet
    models: tuple[tuple[Model, NDArray[np.intp] | None], ...]

    @classmethod
    def of(cls, surface: Surface, models: Mapping[str, Model]) -> "SurfaceModels":
        """Raises ModelRefused where the surface's feature set does not hold a model's features."""
        mine = [models[objective] for objective in surface.objectives]
        return cls(surface.feature_set, tuple((model, model.columns(surface.feature_set)) for model in mine))

    @property
    def versions(self) -> dict[str, int]:
        """Objective to version."""
        return {model.manifest.objective: model.manifest.version for model, _ in self.models}

    def score(self, rows: bytes) -> tuple[Scores, int]:
        """Candidates' rows, joined, to float32 `[candidates, objectives]`; also how many features were clipped."""
        matrix: Matrix = np.frombuffer(rows, "<f4").reshape(-1, self.feature_set.width)
        matrix, clipped = self.feature_set.clip(matrix)
        scores = np.empty((len(matrix), len(self.models)), np.float32)
        for place, (model, columns) in enumerate(self.models):
            scores[:, place] = model.score(matrix if columns is None else matrix[:, columns])
        return scores, clipped


class Scorer:
    """Scores closed requests of any of the surfaces. `models` needs a model for every objective they name.

    `models` is objective to version by surface; `refusals` names the higher versions that were passed over.
    """

    def __init__(self, surfaces: Surfaces, models: Mapping[str, Model], refusals: Iterable[Refusal] = ()) -> None:
        self._surfaces = {name: SurfaceModels.of(surface, models) for name, surface in surfaces.items()}
        self.models: Mapping[str, Mapping[str, int]] = {n: s.versions for n, s in self._surfaces.items()}
        self.refusals = tuple(refusals)

    def score(self, requests: Sequence[Request]) -> ScoredBatch:
        """Score a micro-batch, also of several surfaces; a request without candidates gets `[0, objectives]`."""
        scores: list[Scores] = [np.empty((0, 0), np.float32)] * len(requests)
        clipped = 0
        for surface, places in _groups(requests):
            joined = b"".join([requests[place].rows for place in places])
            group, outside = self._surfaces[surface].score(joined)
            clipped += outside
            start = 0
            for place in places:
                end = start + len(requests[place].item_ids)
                scores[place] = group[start:end]
                start = end
        return ScoredBatch(scores, self.models, clipped)


def _groups(requests: Sequence[Request]) -> Iterator[tuple[str, list[int]]]:
    """Places of requests of one surface, at most ROWS_PER_CALL candidates together (one large request may be more)."""
    open_groups: dict[str, tuple[list[int], int]] = {}
    for place, request in enumerate(requests):
        name, count = request.surface.name, len(request.item_ids)
        places, rows = open_groups.get(name, ([], 0))
        if places and rows + count > ROWS_PER_CALL:
            yield name, places
            places, rows = [], 0
        places.append(place)
        open_groups[name] = places, rows + count
    yield from ((name, places) for name, (places, _) in open_groups.items())
