"""Verifies a version. Nothing in its folder is trusted. The first step that fails refuses it.

- Verification runs the model, and a model may run for ever. So verification happens in a separate
  process (verifier_process.py).
- The worker then opens again what was verified (reopen.py). That runs the model once more, so that
  it is warm for its first feed.
- A candidate's score must not depend on the candidates beside it. This is tried for each model. A
  model that only rounds differently at different positions is scored one row a call. A model whose
  scores differ by more is not a ranking model, and is refused: it normalises over the batch,
  quantises by it, or draws random numbers.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers.ranking.features import FeatureSet
from workers.ranking.version import MAX_VERSION, read_version
from workers.scoring.files import MODEL
from workers.scoring.graph import check_graph, read_model
from workers.scoring.manifest import Manifest, read_manifest
from workers.scoring.model import Matrix, Model, RunFailed, check_features, open_model
from workers.scoring.refusal import ModelReason, ModelRefused
from workers.scoring.reopen import (
    SIZE_LIMIT,
    check_golden_rows,
    check_hash,
    read_model_file,
    running,
)

# How the dependence on the batch is tried
_PROBE_ROWS = 320
_ALONE = 64  # this number of rows is also scored one by one
_CUTS = (1, 2, 3, 5, 7, 16, 50, 319)  # the rows are also cut in two, before each of these
_ROUNDING = 1e-4  # a larger difference is not from rounding


def verify(
    folder: Path, feature_sets: Iterable[FeatureSet] = (), size_limit: int = SIZE_LIMIT
) -> Model:
    """Verify `<root>/<objective>/<version>` and open its model. Every feature set must hold its
    features.

    `size_limit` is in bytes. Raises ModelRefused.
    """
    root = folder.parent.parent
    manifest = read_manifest(folder, root)
    _check_folder(manifest, folder)

    raw = read_model_file(folder / MODEL, root, size_limit)
    check_hash(manifest, raw)
    read_model(raw)
    check_graph(raw, manifest)
    for feature_set in feature_sets:
        check_features(manifest, feature_set)

    model = open_model(raw, manifest)
    with running():
        model = settle_batching(model)
        check_golden_rows(model)
    return model


def _check_folder(manifest: Manifest, folder: Path) -> None:
    if read_version(folder.name) is None:
        expected = f"expected a whole number from 1 to {MAX_VERSION}, without leading zeros"
        raise ModelRefused(ModelReason.FOLDER, f"folder: got {folder.name[:80]!r}, {expected}")

    for key, got, expected in (
        ("objective", manifest.objective, folder.parent.name),
        ("version", str(manifest.version), folder.name),
    ):
        if got != expected:
            message = (
                f"manifest.json: {key}: got {got!r}, expected {expected!r}, the name of its folder"
            )
            raise ModelRefused(ModelReason.FOLDER, message)


# Whether a score depends on the batch


def settle_batching(model: Model) -> Model:
    """The model, set to score as many rows a call as keep each row's score the same.

    Raises ModelRefused.
    """
    probe = _probe(model)
    difference = _largest_difference(model, probe)
    if difference == 0:
        return model
    if difference > _ROUNDING:
        raise _depends_on_batch(difference, "from batch to batch")

    row_by_row = replace(model, rows_per_call=1)
    difference = _largest_difference(row_by_row, probe)
    if difference > 0:
        raise _depends_on_batch(difference, "from run to run")
    return row_by_row


def _depends_on_batch(difference: float, when: str) -> ModelRefused:
    message = (
        f"model.onnx: the score of the same features changes by {difference:.3g} {when}, "
        "expected no change"
    )
    return ModelRefused(ModelReason.BATCH, message)


def _probe(model: Model) -> Matrix:
    """Rows like the golden ones: each column is shuffled by itself, and moved a little. The same
    rows at each start.

    A model that looks categories up may fail on numbers that were moved. Then they are only
    shuffled.
    """
    random = np.random.default_rng(0)
    golden = np.array([row.features for row in model.manifest.golden], np.float32)
    rows = np.resize(golden, (_PROBE_ROWS, golden.shape[1]))
    rows = random.permuted(rows, axis=0)

    moved = rows * random.uniform(0.9, 1.1, rows.shape) + random.uniform(-0.01, 0.01, rows.shape)
    probe = np.clip(moved, -1e30, 1e30).astype(np.float32)
    try:
        model.score(probe)
    except RunFailed:
        return rows
    return probe


def _largest_difference(model: Model, probe: Matrix) -> float:
    """Between the scores of the whole probe, and those of the same rows in other batches."""
    whole = model.score(probe)
    batches = [slice(row, row + 1) for row in range(_ALONE)]
    for cut in _CUTS:
        batches.append(slice(0, cut))
        batches.append(slice(cut, None))

    largest = 0.0
    for rows in batches:
        largest = max(largest, _difference(whole[rows], model.score(probe[rows])))
    return largest


def _difference(whole: Matrix, part: Matrix) -> float:
    """The largest difference, relative to scores beyond 1. Above 0 if any bit differs."""
    if _bits(whole) == _bits(part):
        return 0.0

    expected = whole.astype(np.float64)
    differences: NDArray[np.float64] = np.abs(expected - part.astype(np.float64))
    differences = differences / np.maximum(1.0, np.abs(expected))
    largest = float(np.max(np.where(np.isnan(differences), np.inf, differences)))
    return max(largest, float(np.finfo(np.float64).tiny))


def _bits(scores: Matrix) -> bytes:
    """The bytes of the scores. All NaN count as the same."""
    return np.where(np.isnan(scores), np.float32("nan"), scores).tobytes()
