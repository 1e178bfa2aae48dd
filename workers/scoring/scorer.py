"""The models in force for a feed, as one immutable value: a swap puts another in its place, and no feed sees two.

The requests of a micro-batch are scored together: grouped by their models, joined to one matrix, one onnxruntime call
for each objective. The grouping cannot be seen in the scores (see model.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.ranking.features import FeatureSet
from workers.ranking.request import Request
from workers.ranking.scored import Scores
from workers.scoring.model import ROWS_PER_CALL, Matrix, Model


class ScoredBatch(NamedTuple):
    """`scores` stands in the order of the requests: for each float32 `[candidates, objectives]`.

    `clipped` counts features that were outside their bounds.
    """

    scores: list[Scores]
    clipped: int


@dataclass(frozen=True, eq=False)
class SurfaceModels:
    """A surface's models in the order of its objectives, each with the columns it reads (None: all, as they are)."""

    feature_set: FeatureSet
    models: tuple[tuple[Model, NDArray[np.intp] | None], ...]

    @classmethod
    def of(cls, feature_set: FeatureSet, models: Iterable[Model]) -> "SurfaceModels":
        """Raises ModelRefused where the feature set does not hold a model's features."""
        return cls(feature_set, tuple((model, model.columns(feature_set)) for model in models))

    @cached_property
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


def score_requests(asked: Sequence[tuple[Request, SurfaceModels]]) -> ScoredBatch:
    """Score a micro-batch, each request by its own models; one without candidates gets `[0, objectives]`."""
    scores: list[Scores] = [np.empty((0, 0), np.float32)] * len(asked)
    clipped = 0
    for models, places in _groups(asked):
        group, outside = models.score(b"".join([asked[place][0].rows for place in places]))
        clipped += outside
        start = 0
        for place in places:
            end = start + len(asked[place][0].item_ids)
            scores[place] = group[start:end]
            start = end
    return ScoredBatch(scores, clipped)


def _groups(asked: Sequence[tuple[Request, SurfaceModels]]) -> Iterator[tuple[SurfaceModels, list[int]]]:
    """Places of requests of the same models, at most ROWS_PER_CALL candidates together (one large may be more)."""
    open_groups: dict[SurfaceModels, tuple[list[int], int]] = {}
    for place, (request, models) in enumerate(asked):
        count = len(request.item_ids)
        places, rows = open_groups.get(models, ([], 0))
        if places and rows + count > ROWS_PER_CALL:
            yield models, places
            places, rows = [], 0
        places.append(place)
        open_groups[models] = places, rows + count
    yield from ((models, places) for models, (places, _) in open_groups.items())
