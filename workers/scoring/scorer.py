"""The models in force for a feed, as one immutable value: a swap puts another in its place, and no
feed sees two.

The requests of a micro-batch are scored together: grouped by their models, joined to one matrix,
one onnxruntime call for each objective. The grouping cannot be seen in the scores (see model.py),
nor in what a model fails on (see isolate.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.ranking.features import FeatureSet
from workers.ranking.request import Request
from workers.ranking.scored import Scores
from workers.scoring.isolate import ModelError, ModelFailed, score_isolated
from workers.scoring.model import ROWS_PER_CALL, Matrix, Model

Mask = NDArray[np.bool_]


@dataclass
class ScoredBatch:
    """`scores` stands in the order of the requests: for each float32 `[candidates, objectives]`.

    `clipped` counts features that were outside their bounds. The rest is empty unless a model
    fails: `failed` has the candidates that a model failed on, by the place of their request,
    `unscored` the places of the requests that have candidates and of which a model failed
    altogether. `model_errors` counts the candidates of both.
    """

    scores: list[Scores]
    clipped: int = 0
    model_errors: int = 0
    failed: dict[int, Mask] = field(default_factory=dict)
    unscored: set[int] = field(default_factory=set)
    errors: list[ModelError] = field(default_factory=list)


class SurfaceScores(NamedTuple):
    """Scores as float32 `[candidates, objectives]`; `failed` has the candidates that a model failed
    on, None: none.
    """

    scores: Scores
    clipped: int
    failed: Mask | None
    errors: list[ModelError]


@dataclass(frozen=True, eq=False)
class SurfaceModels:
    """A surface's models in the order of its objectives, each with the columns it reads (None: all,
    as they are).
    """

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

    def score(self, rows: bytes) -> SurfaceScores:
        """Score candidates' rows, joined. A row that a model fails on has no score of it. Raises
        ModelFailed.
        """
        matrix: Matrix = np.frombuffer(rows, "<f4").reshape(-1, self.feature_set.width)
        matrix, clipped = self.feature_set.clip(matrix)
        scores = np.empty((len(matrix), len(self.models)), np.float32)
        failed: Mask | None = None
        errors: list[ModelError] = []
        for place, (model, columns) in enumerate(self.models):
            own = matrix if columns is None else matrix[:, columns]
            isolated = score_isolated(model, own)
            scores[:, place] = isolated.scores
            if isolated.error is not None:
                failed = np.zeros(len(matrix), np.bool_) if failed is None else failed
                failed[isolated.failed] = True
                errors.append(isolated.error)
        return SurfaceScores(scores, clipped, failed, errors)


def score_requests(asked: Sequence[tuple[Request, SurfaceModels]]) -> ScoredBatch:
    """Score a micro-batch, each request by its own models; one without candidates gets `[0,
    objectives]`.
    """
    batch = ScoredBatch([np.empty((0, 0), np.float32)] * len(asked))
    for models, places in _groups(asked):
        try:
            group = models.score(b"".join([asked[place][0].rows for place in places]))
        except ModelFailed as failed:
            batch.errors.append(failed.error)
            for place in places:
                batch.scores[place] = np.empty((0, len(models.models)), np.float32)
                if asked[place][0].item_ids:
                    batch.unscored.add(place)
                    batch.model_errors += len(asked[place][0].item_ids)
            continue
        batch.clipped += group.clipped
        batch.errors += group.errors
        start = 0
        for place in places:
            end = start + len(asked[place][0].item_ids)
            batch.scores[place] = group.scores[start:end]
            if group.failed is not None and group.failed[start:end].any():
                batch.failed[place] = group.failed[start:end]
                batch.model_errors += int(group.failed[start:end].sum())
            start = end
    return batch


def _groups(
    asked: Sequence[tuple[Request, SurfaceModels]],
) -> Iterator[tuple[SurfaceModels, list[int]]]:
    """Places of requests of the same models, at most ROWS_PER_CALL candidates together (one large
    may be more).
    """
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
