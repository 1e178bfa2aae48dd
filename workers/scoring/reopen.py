"""Opens the model of a version again, once that is verified. Verification itself begins with the
same steps (verify.py).

The onnx library is not needed for it. A worker does not import it: that would cost it 5 MiB or more.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from workers.scoring.files import MODEL, known_kind, read_file
from workers.scoring.manifest import Manifest
from workers.scoring.model import Model, open_model
from workers.scoring.refusal import ModelReason, ModelRefused

SIZE_LIMIT = 256 * 2**20


def reopen(
    folder: Path, manifest: Manifest, rows_per_call: int, size_limit: int = SIZE_LIMIT
) -> Model:
    """Open a model that was verified. Its hash shows that it is the same file.

    Raises ModelRefused if the file is another one by now, or if this process cannot open it.
    """
    raw = read_model_file(folder / MODEL, folder.parent.parent, size_limit)
    check_hash(manifest, raw)
    model = replace(open_model(raw, manifest), rows_per_call=rows_per_call)
    with running():
        check_golden_rows(model)
    return model


def read_model_file(path: Path, root: Path, size_limit: int) -> bytes:
    """The bytes of model.onnx, which may be `size_limit` long. Raises ModelRefused."""
    try:
        return read_file(path, root, size_limit)
    except FileNotFoundError:
        raise ModelRefused(ModelReason.UNREADABLE, f"{path}: no such file") from None


def check_hash(manifest: Manifest, raw: bytes) -> None:
    """Raises ModelRefused if the file is not the one that the manifest is about."""
    sha256 = hashlib.sha256(raw).hexdigest()
    if sha256 == manifest.sha256:
        return

    message = f"model.onnx: sha256: got {sha256}, expected {manifest.sha256} as in the manifest"
    kind = known_kind(raw)
    if kind is not None:
        message += f"; it is {kind}"
    raise ModelRefused(ModelReason.HASH, message)


@contextmanager
def running() -> Iterator[None]:
    """Refuse the model if anything goes wrong while it is run."""
    try:
        yield
    except ModelRefused:
        raise
    # onnxruntime's errors have no class in common.
    except Exception as error:
        raise ModelRefused(ModelReason.UNREADABLE, f"model.onnx: cannot be run: {error}") from error


def check_golden_rows(model: Model) -> None:
    """Raises ModelRefused if the model does not give its golden rows the scores of the manifest."""
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
