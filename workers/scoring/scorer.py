"""Scores the requests of a micro-batch together.

- The models in force for a feed are one immutable value. A swap puts another value in its place, so
  no feed is scored by two versions of a model.
- Requests with the same models are grouped, and their candidates joined to one matrix. Each model
  scores it in as few onnxruntime calls as its limit of rows allows (model.py).
- The grouping does not change the scores (model.py), nor which candidates a model fails on
  (failing_rows.py).
"""

import time
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
from workers.scoring.model import Matrix, Model

CANDIDATES_TOGETHER = 16_384
"""Bounds the memory of one group."""


class ScoredGroup(NamedTuple):
    """Requests that were scored together. `indices` are theirs in the micro-batch.

    `scores` float32 `[candidates, objectives]` and `failed` `[candidates]` have the candidates of
    one request after the other. `failed`: a model failed on them. None: on no candidate.
    """

    indices: list[int]
    scores: Scores
    failed: Mask | None


@dataclass
class ScoredBatch:
    """The scores of a micro-batch, in groups of requests with the same models."""

    groups: list[ScoredGroup] = field(default_factory=list)
    clipped: int = 0
    """Features that were outside their bounds."""
    nanoseconds: dict[str, int] = field(default_factory=dict)
    """How long scoring took, by objective."""

    # The rest is empty unless a model fails.
    unscored: set[int] = field(default_factory=set)
    """The indices of requests with candidates, if a model failed on every row."""
    model_errors: int = 0
    """The number of candidates that a model failed on."""
    errors: list[ModelError] = field(default_factory=list)


class SurfaceScores(NamedTuple):
    """Scores as float32 `[candidates, objectives]`.

    `failed` has the candidates that a model failed on. None: no candidate. `nanoseconds` is how long
    each model took, in the order of the objectives.
    """

    scores: Scores
    clipped: int
    failed: Mask | None
    errors: list[ModelError]
    nanoseconds: list[int]


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
        nanoseconds: list[int] = []
        for objective, (model, columns) in enumerate(self.models):
            began = time.perf_counter_ns()
            inputs = matrix if columns is None else matrix[:, columns]
            isolated = score_isolated(model, inputs)
            scores[:, objective] = isolated.scores
            nanoseconds.append(time.perf_counter_ns() - began)
            if isolated.error is not None:
                if failed is None:
                    failed = np.zeros(len(matrix), np.bool_)
                failed[isolated.failed] = True
                errors.append(isolated.error)
        return SurfaceScores(scores, clipped, failed, errors, nanoseconds)


def score_requests(pairs: Sequence[tuple[Request, SurfaceModels]]) -> ScoredBatch:
    """Score a micro-batch, each request by its own models. Every request is in one group, or it is
    `unscored`.
    """
    batch = ScoredBatch()
    for models, indices in _groups(pairs):
        try:
            scored = models.score(b"".join([pairs[index][0].rows for index in indices]))
        except ModelFailed as failed:
            batch.errors.append(failed.error)
            _leave_unscored(batch, pairs, indices, len(models.models))
            continue

        batch.groups.append(ScoredGroup(indices, scored.scores, scored.failed))
        batch.clipped += scored.clipped
        for objective, took in zip(models.versions, scored.nanoseconds, strict=True):
            batch.nanoseconds[objective] = batch.nanoseconds.get(objective, 0) + took
        batch.errors += scored.errors
        if scored.failed is not None:
            batch.model_errors += int(scored.failed.sum())
    return batch


def _leave_unscored(
    batch: ScoredBatch,
    pairs: Sequence[tuple[Request, SurfaceModels]],
    indices: Sequence[int],
    objectives: int,
) -> None:
    """A model failed on every row. Requests without candidates have all their scores."""
    empty: list[int] = []
    for index in indices:
        candidates = len(pairs[index][0].item_ids)
        if candidates == 0:
            empty.append(index)
            continue
        batch.unscored.add(index)
        batch.model_errors += candidates
    if empty:
        batch.groups.append(ScoredGroup(empty, np.empty((0, objectives), np.float32), None))


def _groups(
    pairs: Sequence[tuple[Request, SurfaceModels]],
) -> Iterator[tuple[SurfaceModels, list[int]]]:
    """Indices of requests with the same models, at most CANDIDATES_TOGETHER. A single large request
    may have more.
    """
    open_groups: dict[SurfaceModels, tuple[list[int], int]] = {}
    for index, (request, models) in enumerate(pairs):
        candidates = len(request.item_ids)
        indices, rows = open_groups.get(models, ([], 0))
        if indices and rows + candidates > CANDIDATES_TOGETHER:
            yield models, indices
            indices = []
            rows = 0
        indices.append(index)
        open_groups[models] = indices, rows + candidates

    for models, (indices, _) in open_groups.items():
        yield models, indices
