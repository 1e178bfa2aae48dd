"""A candidate's score must not depend on the candidates beside it: found out by trying, for each
model.

What only rounds otherwise from place to place is scored one row a call; what differs by more is no
ranking model (it normalises over the batch, quantises by it, or draws random numbers) and is
refused.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from workers.scoring.model import Matrix, Model, RunFailed
from workers.scoring.refusal import ModelReason, ModelRefused

_ROUNDING = 1e-4
_ROWS = 320
_ALONE = 64
_CUTS = (1, 2, 3, 5, 7, 16, 50, 319)


def settle_batching(model: Model) -> Model:
    """The model, set to as many rows a call as keep each row's score the same. Raises ModelRefused."""
    probe = _probe(model)
    off = _largest_difference(model, probe)
    if off == 0:
        return model
    if off > _ROUNDING:
        raise _refused(off, "from batch to batch")
    alone = replace(model, rows_per_call=1)
    if (off := _largest_difference(alone, probe)) > 0:
        raise _refused(off, "from run to run")
    return alone


def _refused(off: float, when: str) -> ModelRefused:
    message = f"model.onnx: the score of the same features changes by {off:.3g} {when}, expected no change"
    return ModelRefused(ModelReason.BATCH, message)


def _largest_difference(model: Model, probe: Matrix) -> float:
    whole = model.score(probe)
    return max(_difference(whole[rows], scores) for rows, scores in _other_batches(model, probe))


def _other_batches(model: Model, probe: Matrix) -> Iterator[tuple[slice, Matrix]]:
    """The same rows again, alone and at other places of other batches."""
    for row in range(_ALONE):
        rows = slice(row, row + 1)
        yield rows, model.score(probe[rows])
    for cut in _CUTS:
        for rows in (slice(0, cut), slice(cut, None)):
            yield rows, model.score(probe[rows])


def _difference(one: Matrix, other: Matrix) -> float:
    """The largest, relative to scores beyond 1; at least a trace where any bit differs."""
    if _bits(one) == _bits(other):
        return 0.0
    wide, narrow = one.astype(np.float64), other.astype(np.float64)
    off: NDArray[np.float64] = np.abs(wide - narrow) / np.maximum(1.0, np.abs(wide))
    return max(
        float(np.max(np.where(np.isnan(off), np.inf, off))), float(np.finfo(np.float64).tiny)
    )


def _bits(scores: Matrix) -> bytes:
    return np.where(np.isnan(scores), np.float32("nan"), scores).tobytes()


def _probe(model: Model) -> Matrix:
    """Rows like the golden ones: each column shuffled apart, and moved a little. The same at each
    start.

    A model that looks categories up may fail on numbers that were moved: then they are only
    shuffled.
    """
    random = np.random.default_rng(0)
    golden = np.array([row.features for row in model.manifest.golden], np.float32)
    rows = np.resize(golden, (_ROWS, golden.shape[1]))
    rows = random.permuted(rows, axis=0)
    moved = rows * random.uniform(0.9, 1.1, rows.shape) + random.uniform(-0.01, 0.01, rows.shape)
    probe = np.clip(moved, -1e30, 1e30).astype(np.float32)
    try:
        model.score(probe)
    except RunFailed:
        return rows
    return probe
