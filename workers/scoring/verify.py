"""Verification: nothing in a version's folder is trusted. The steps stand in order; the first that
fails refuses it.

It runs the model, which may take for ever: so it happens in a process of its own (examine.py), and
what passed is opened again where it is to score. That runs it once more, so that its first feed
finds it warm.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from workers.ranking.features import FeatureSet
from workers.ranking.version import LAST_VERSION, read_version
from workers.scoring.batching import settle_batching
from workers.scoring.files import read_file
from workers.scoring.graph import check_graph, read_model
from workers.scoring.kinds import known_kind
from workers.scoring.manifest import MODEL, GoldenRow, Manifest, read_manifest
from workers.scoring.model import Model, check_features, open_model
from workers.scoring.refusal import ModelReason, ModelRefused

SIZE_LIMIT = 256 * 2**20


def verify(
    folder: Path, feature_sets: Iterable[FeatureSet] = (), size_limit: int = SIZE_LIMIT
) -> Model:
    """Verify `<root>/<objective>/<version>` and open its model; every feature set must hold its
    features.

    `size_limit` is in bytes. Raises ModelRefused.
    """
    root = folder.parent.parent
    manifest = read_manifest(folder, root)
    _check_folder(manifest, folder)
    raw = _read_model(folder / MODEL, root, size_limit)
    _check_hash(manifest, raw)
    read_model(raw)
    check_graph(raw, manifest)
    for feature_set in feature_sets:
        check_features(manifest, feature_set)
    model = open_model(raw, manifest)
    with _running():
        model = settle_batching(model)
        _check_golden(model)
    return model


def reopen(
    folder: Path, manifest: Manifest, rows_per_call: int, size_limit: int = SIZE_LIMIT
) -> Model:
    """Open a model that was verified: the same file, by its hash, so that only a first run is left.

    Raises ModelRefused where the file is another one by now, or this process cannot open it.
    """
    raw = _read_model(folder / MODEL, folder.parent.parent, size_limit)
    _check_hash(manifest, raw)
    model = replace(open_model(raw, manifest), rows_per_call=rows_per_call)
    with _running():
        _check_golden(model)
    return model


@contextmanager
def _running() -> Iterator[None]:
    try:
        yield
    except ModelRefused:
        raise
    # Whatever a model does when it is run, it is refused; onnxruntime's errors have no class in
    # common.
    except Exception as error:
        raise ModelRefused(ModelReason.UNREADABLE, f"model.onnx: cannot be run: {error}") from error


def _check_folder(manifest: Manifest, folder: Path) -> None:
    if read_version(folder.name) is None:
        expected = f"expected a whole number from 1 to {LAST_VERSION}, without leading zeros"
        raise ModelRefused(ModelReason.FOLDER, f"folder: got {folder.name[:80]!r}, {expected}")
    for key, got, name in (
        ("objective", manifest.objective, folder.parent.name),
        ("version", str(manifest.version), folder.name),
    ):
        if got != name:
            message = (
                f"manifest.json: {key}: got {got!r}, expected {name!r}, the name of its folder"
            )
            raise ModelRefused(ModelReason.FOLDER, message)


def _read_model(path: Path, root: Path, size_limit: int) -> bytes:
    try:
        return read_file(path, root, size_limit)
    except FileNotFoundError:
        raise ModelRefused(ModelReason.UNREADABLE, f"{path}: no such file") from None


def _check_hash(manifest: Manifest, raw: bytes) -> None:
    got = hashlib.sha256(raw).hexdigest()
    if got != manifest.sha256:
        kind = known_kind(raw)
        what = f"; it is {kind}" if kind else ""
        message = (
            f"model.onnx: sha256: got {got}, expected {manifest.sha256} as in the manifest{what}"
        )
        raise ModelRefused(ModelReason.HASH, message)


def _check_golden(model: Model) -> None:
    golden = model.manifest.golden
    scores = model.score(np.array([row.features for row in golden], np.float32)).tolist()
    for place, (row, got) in enumerate(zip(golden, scores, strict=True)):
        if not abs(got - row.score) <= model.manifest.golden_tolerance * max(1.0, abs(row.score)):
            raise _off(place, got, row, model.manifest.golden_tolerance)


def _off(place: int, got: float, row: GoldenRow, tolerance: float) -> ModelRefused:
    message = f"golden[{place}].score: the model gives {got!r}, expected {row.score!r} within {tolerance!r}"
    return ModelRefused(ModelReason.GOLDEN, message)
