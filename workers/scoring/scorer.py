"""Scores the requests of a micro-batch together.

- The models in force for a feed are one immutable value. A swap puts another value in its place, so
  no feed is scored by two versions of a model.
- Requests with the same models are grouped, and their candidates joined to one matrix: one
  onnxruntime call for each objective.
- The grouping does not change the scores (model.py), nor which candidates a model fails on
  (failing_rows.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.ranking.features import FeatureSet
from workers.ranking.rank import Mask, Scores
from workers.ranking.request import Request
from workers.scoring.failing_rows import ModelError, ModelFailed, score_isolated
from workers.scoring.model import ROWS_PER_CALL, Matrix, Model


@dataclass
class ScoredBatch:
    """The scores of a micro-batch. An index is that of a request in the batch."""

    scores: list[Scores]
    """For each request float32 `[candidates, objectives]`."""
    clipped: int = 0
    """Features that were outside their bounds."""

    # The rest is empty unless a model fails.
    failed: dict[int, Mask] = field(default_factory=dict)
    """Index of the request to the candidates that a model failed on."""
    unscored: set[int] = field(default_factory=set)
    """The indices of requests with candidates, if a model failed on every row."""
    model_errors: int = 0
    """The number of candidates in `failed` and `unscored`."""
    errors: list[ModelError] = field(default_factory=list)


class SurfaceScores(NamedTuple):
    """Scores as float32 `[candidates, objectives]`.

    `failed` has the candidates that a model failed on. None: no candidate.
    """

    scores: Scores
    clipped: int
    failed: Mask | None
    errors: list[ModelError]


@dataclass(frozen=True, eq=False)
class SurfaceModels:
    """A surface's models in the order of its objectives, each with the columns that it reads. None:
    all columns as they are.
    """

    feature_set: FeatureSet
    models: tuple[tuple[Model, NDArray[np.intp] | None], ...]

    @classmethod
    def of(cls, feature_set: FeatureSet, models: Iterable[Model]) -> "SurfaceModels":
        """Raises ModelRefused if the feature set does not hold a model's features."""
        return cls(feature_set, tuple((model, model.columns(feature_set)) for model in models))

    @cached_property
    def versions(self) -> dict[str, int]:
        """Objective to version."""
        return {model.manifest.objective: model.manifest.version for model, _ in self.models}

    def score(self, rows: bytes) -> SurfaceScores:
        """Score candidates, whose rows are joined. Raises ModelFailed if a model fails on every
        row.
        """
        matrix: Matrix = np.frombuffer(rows, "<f4").reshape(-1, self.feature_set.width)
        matrix, clipped = self.feature_set.clip(matrix)

        scores = np.empty((len(matrix), len(self.models)), np.float32)
        failed: Mask | None = None
        errors: list[ModelError] = []
        for objective, (model, columns) in enumerate(self.models):
            inputs = matrix if columns is None else matrix[:, columns]
            isolated = score_isolated(model, inputs)
            scores[:, objective] = isolated.scores
            if isolated.error is not None:
                if failed is None:
                    failed = np.zeros(len(matrix), np.bool_)
                failed[isolated.failed] = True
                errors.append(isolated.error)
        return SurfaceScores(scores, clipped, failed, errors)


def score_requests(pairs: Sequence[tuple[Request, SurfaceModels]]) -> ScoredBatch:
    """Score a micro-batch, each request by its own models. A request without candidates gets scores
    of shape `[0, objectives]`.
    """
    batch = ScoredBatch([np.empty((0, 0), np.float32)] * len(pairs))
    for models, indices in _groups(pairs):
        try:
            group = models.score(b"".join([pairs[index][0].rows for index in indices]))
        except ModelFailed as failed:
            batch.errors.append(failed.error)
            for index in indices:
                batch.scores[index] = np.empty((0, len(models.models)), np.float32)
                candidates = len(pairs[index][0].item_ids)
                if candidates:
                    batch.unscored.add(index)
                    batch.model_errors += candidates
            continue

        batch.clipped += group.clipped
        batch.errors += group.errors
        start = 0
        for index in indices:
            end = start + len(pairs[index][0].item_ids)
            batch.scores[index] = group.scores[start:end]
            if group.failed is not None and group.failed[start:end].any():
                batch.failed[index] = group.failed[start:end]
                batch.model_errors += int(group.failed[start:end].sum())
            start = end
    return batch


def _groups(
    pairs: Sequence[tuple[Request, SurfaceModels]],
) -> Iterator[tuple[SurfaceModels, list[int]]]:
    """Indices of requests with the same models, at most ROWS_PER_CALL candidates together. A single
    large request may have more.
    """
    open_groups: dict[SurfaceModels, tuple[list[int], int]] = {}
    for index, (request, models) in enumerate(pairs):
        candidates = len(request.item_ids)
        indices, rows = open_groups.get(models, ([], 0))
        if indices and rows + candidates > ROWS_PER_CALL:
            yield models, indices
            indices = []
            rows = 0
        indices.append(index)
        open_groups[models] = indices, rows + candidates

    for models, (indices, _) in open_groups.items():
        yield models, indices
