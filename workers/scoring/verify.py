"""Verifies a version. Nothing in its folder is trusted. The first step that fails refuses it.

- Verification runs the model, and a model may run for ever. So verification happens in a separate
  process (verifier_process.py).
- The worker then opens again what was verified (`reopen`). That runs the model once more, so that
  it is warm for its first feed.
- A candidate's score must not depend on the candidates beside it. This is tried for each model. A
  model that only rounds differently at different positions is scored one row a call. A model whose
  scores differ by more is not a ranking model, and is refused: it normalises over the batch,
  quantises by it, or draws random numbers.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers.ranking.features import FeatureSet
from workers.ranking.version import MAX_VERSION, read_version
from workers.scoring.files import MODEL, known_kind, read_file
from workers.scoring.graph import check_graph, read_model
from workers.scoring.manifest import Manifest, read_manifest
from workers.scoring.model import Matrix, Model, RunFailed, check_features, open_model
from workers.scoring.refusal import ModelReason, ModelRefused

SIZE_LIMIT = 256 * 2**20

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

    raw = _read_model_file(folder / MODEL, root, size_limit)
    _check_hash(manifest, raw)
    read_model(raw)
    check_graph(raw, manifest)
    for feature_set in feature_sets:
        check_features(manifest, feature_set)

    model = open_model(raw, manifest)
    with _running():
        model = settle_batching(model)
        _check_golden_rows(model)
    return model


def reopen(
    folder: Path, manifest: Manifest, rows_per_call: int, size_limit: int = SIZE_LIMIT
) -> Model:
    """Open a model that was verified. Its hash shows that it is the same file.

    Raises ModelRefused if the file is another one by now, or if this process cannot open it.
    """
    raw = _read_model_file(folder / MODEL, folder.parent.parent, size_limit)
    _check_hash(manifest, raw)
    model = replace(open_model(raw, manifest), rows_per_call=rows_per_call)
    with _running():
        _check_golden_rows(model)
    return model


@contextmanager
def _running() -> Iterator[None]:
    """Refuse the model if anything goes wrong while it is run."""
    try:
        yield
    except ModelRefused:
        raise
    # onnxruntime's errors have no class in common.
    except Exception as error:
        raise ModelRefused(ModelReason.UNREADABLE, f"model.onnx: cannot be run: {error}") from error


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


def _read_model_file(path: Path, root: Path, size_limit: int) -> bytes:
    try:
        return read_file(path, root, size_limit)
    except FileNotFoundError:
        raise ModelRefused(ModelReason.UNREADABLE, f"{path}: no such file") from None


def _check_hash(manifest: Manifest, raw: bytes) -> None:
    sha256 = hashlib.sha256(raw).hexdigest()
    if sha256 == manifest.sha256:
        return

    message = f"model.onnx: sha256: got {sha256}, expected {manifest.sha256} as in the manifest"
    kind = known_kind(raw)
    if kind is not None:
        message += f"; it is {kind}"
    raise ModelRefused(ModelReason.HASH, message)


def _check_golden_rows(model: Model) -> None:
    golden = model.manifest.golden
    tolerance = model.manifest.golden_tolerance
    scores = model.score(np.array([row.features for row in golden], np.float32)).tolist()
    for index, (row, score) in enumerate(zip(golden, scores, strict=True)):
        # NaN must fail, too.
        if not abs(score - row.score) <= tolerance * max(1.0, abs(row.score)):
            message = (
                f"golden[{index}].score: the model gives {score!r}, "
                f"expected {row.score!r} within {tolerance!r}"
            )
            raise ModelRefused(ModelReason.GOLDEN, message)


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
