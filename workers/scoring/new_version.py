"""Makes a new version of a model that was trained elsewhere.

- `draft` makes its manifest: what the file itself contains, and golden rows from running it.
- `add_version` verifies it in a temporary folder, as a worker would, and then writes it into the
  models folder. The manifest is written last.
- If an input or output is wrong, the message ends with what to change in the export of the model.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from numpy.typing import NDArray

from workers.errors import Failure
from workers.ranking.features import FeatureSet
from workers.scoring.catalogue import Rejected, Verified
from workers.scoring.classifier import ClassChoice, choices_of, is_score, labels_of
from workers.scoring.files import MANIFEST, MODEL
from workers.scoring.graph import FEATURES_KEY, Signature, Value, check_graph, signature_of
from workers.scoring.manifest import GoldenRow, Manifest, Tensor
from workers.scoring.model import Matrix, open_model
from workers.scoring.refusal import ModelReason, ModelRefused
from workers.scoring.verifier import Verifier

GOLDEN_ROWS = 32

Scores = NDArray[np.float32]

# The draft


def features_of(raw: bytes, given: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the input's columns in order: those given, or else those in the file.

    Raises ModelRefused.
    """
    if given is not None:
        return tuple(given)

    names = signature_of(raw).features
    if names is None:
        message = (
            f"model.onnx: metadata {FEATURES_KEY!r}: got nothing, "
            "expected the names of the features"
        )
        raise ModelRefused(ModelReason.FEATURES, message)
    return names


def draft(
    raw: bytes, objective: str, version: int, features: Sequence[str], rows: Matrix
) -> Manifest:
    """A manifest for the model's bytes. Its golden rows are taken from `rows`, float32 `[N,
    features]`.

    Whether scores depend on the batch is left to verification. Raises ModelRefused.
    """
    signature = signature_of(raw)
    try:
        manifest = Manifest(
            objective=objective,
            version=version,
            sha256=hashlib.sha256(raw).hexdigest(),
            input=_input_of(signature, len(features)),
            output=_output_of(raw, signature),
            features=tuple(features),
            golden=(GoldenRow((0.0,) * len(features), 0.0),),  # replaced below
        )
    except ValueError as error:
        raise ModelRefused(ModelReason.MANIFEST, str(error)) from None

    check_graph(raw, manifest)
    model = open_model(raw, manifest)
    try:
        scores = model.score(rows)
    # Whatever goes wrong while a model is run, it is refused. onnxruntime's errors have no class in
    # common.
    except Exception as error:
        raise ModelRefused(ModelReason.UNREADABLE, f"model.onnx: cannot be run: {error}") from error
    return msgspec.structs.replace(manifest, golden=_golden_rows(rows, scores))


def _input_of(signature: Signature, width: int) -> Tensor:
    inputs = signature.inputs
    if len(inputs) == 1 and inputs[0].tensor == Tensor(inputs[0].name, "float32", (None, width)):
        return inputs[0].tensor
    expected = f"one input, float32 [null,{width}]: candidates by features"
    raise _wrong_shape("input", inputs, expected, _remedy_of_input(inputs, width))


def _output_of(raw: bytes, signature: Signature) -> Tensor:
    """The one output that is a score. Other outputs are never computed."""
    scores = [value for value in signature.outputs if is_score(value)]
    if len(scores) == 1 and scores[0].tensor is not None:
        return scores[0].tensor

    expected = "one float32 output of shape [null,1] or [null]: a score a candidate"
    remedy = _remedy_of_output(signature.outputs, choices_of(raw))
    raise _wrong_shape("output", signature.outputs, expected, remedy)


def _wrong_shape(key: str, values: Sequence[Value], expected: str, remedy: str) -> ModelRefused:
    got = ", ".join(str(value) for value in values) or "none"
    message = f"model.onnx: {key}: got {got}, expected {expected}; {remedy}"
    return ModelRefused(ModelReason.SHAPE, message, has_advice=True)


def _golden_rows(rows: Matrix, scores: Scores) -> tuple[GoldenRow, ...]:
    """Rows at equal steps from the lowest score to the highest.

    A model that gives all rows the same score is refused.
    """
    not_finite = np.flatnonzero(~np.isfinite(scores))
    if len(not_finite):
        index = not_finite[0]
        message = (
            f"golden: the model gives {scores[index]} for {rows[index].tolist()}, "
            "expected a finite score"
        )
        raise ModelRefused(ModelReason.GOLDEN, message)
    if scores.min() == scores.max():
        message = (
            f"golden: all {len(rows)} rows get the score {scores[0]}, "
            "expected rows with different scores"
        )
        raise ModelRefused(ModelReason.GOLDEN, message)

    order = np.argsort(scores, kind="stable")
    steps = np.linspace(0, len(order) - 1, min(GOLDEN_ROWS, len(order))).astype(np.intp)
    golden = list[GoldenRow]()
    for index in order[steps]:
        golden.append(GoldenRow(tuple(rows[index].tolist()), float(scores[index])))
    return tuple(golden)


# The version's folder


class VersionTaken(Failure):
    """The version's folder already exists. A version is never changed: a new one takes another
    number.
    """


def add_version(
    root: Path, manifest: Manifest, raw: bytes, feature_sets: Iterable[FeatureSet] = ()
) -> Verified:
    """Verify a version, and write it to `<root>/<objective>/<version>/`.

    Raises ModelRefused, VersionTaken, OSError.
    """
    with TemporaryDirectory() as temporary, Verifier() as verifier:
        folder = _write_version(Path(temporary), manifest, raw)
        verdict = verifier.verify(folder, feature_sets)
    if isinstance(verdict, Rejected):
        raise ModelRefused(verdict.reason, verdict.message)

    _write_version(root, manifest, raw)
    return verdict


def _write_version(root: Path, manifest: Manifest, raw: bytes) -> Path:
    folder = root / manifest.objective / str(manifest.version)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        raise VersionTaken(f"{folder}: already exists, expected a new version") from None

    try:
        (folder / MODEL).write_bytes(raw)
        # A folder without a manifest is not a version yet, and nobody sees half a manifest.
        part = folder / f"{MANIFEST}.part"
        part.write_text(_manifest_text(manifest), encoding="utf-8")
        os.replace(part, folder / MANIFEST)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _manifest_text(manifest: Manifest) -> str:
    """JSON with a line for each key, and a line for each golden row."""
    lines = list[str]()
    for key, value in msgspec.to_builtins(manifest).items():
        if key != "golden" and value is not None:
            lines.append(f"{_json(key)}: {_json(value)}")

    golden = ",\n  ".join(_json(row) for row in msgspec.to_builtins(manifest.golden))
    lines.append(f'"golden": [\n  {golden}\n ]')
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


# Remedies: what to change in the export of the model

_NOT_FREE = "0 and -1 are numbers to ONNX and leave nothing free"
_NO_SHAPE = "the file does not say its shape"


def _remedy_of_input(inputs: Sequence[Value], width: int) -> str:
    """`width` is the number of features that are named."""
    if not inputs:
        return "export the whole model, from the features on"
    if len(inputs) > 1:
        return "join the columns into one matrix before the exporter"

    (value,) = inputs
    if value.dtype != "float32":
        return "train or export in float32 (skl2onnx: FloatTensorType)"
    if value.shape is None:
        return f"{_NO_SHAPE}: {_description(value, width)}"
    if len(value.shape) != 2:
        return "export one matrix, and leave the first dimension free: the number of candidates"

    return _remedy_of_matrix(value, *value.shape, width)


def _remedy_of_matrix(value: Value, rows: int | None, columns: int | None, width: int) -> str:
    if not (_is_dimension(rows) and _is_dimension(columns)):
        described_width = columns if columns and columns > 0 else width
        return f"{_NOT_FREE}: {_description(value, described_width)}"
    if rows is not None:
        return "leave the first dimension free: the number of candidates (PyTorch: dynamic_shapes)"
    if columns is None:
        return f"fix the second dimension: the number of features: {_description(value, width)}"
    return f"name {columns} features, in the order of the columns"


def _remedy_of_output(outputs: Sequence[Value], choices: Sequence[ClassChoice]) -> str:
    """`choices` are what `--class` can name."""
    if not outputs:
        return "export the model with its score as an output"
    if choices:
        return _remedy_by_choice(outputs, choices)

    numbers = [value for value in outputs if value.dtype == "float32"]
    if len(numbers) == 1:
        return _remedy_of_numbers(numbers[0])
    if any(not value.is_tensor for value in outputs):
        return "export a tensor of one float32 number a candidate, not a list"
    return "export one float32 number a candidate"


def _remedy_by_choice(outputs: Sequence[Value], choices: Sequence[ClassChoice]) -> str:
    labels = f"one of: {labels_of(choices)}"
    if choices[0].column is None:
        return f"keep the score alone: --class NAME, {labels}"
    if len(outputs) > 1:
        return f"of a classifier keep one probability: --class LABEL, {labels}"
    return f"export one float32 number a candidate, or keep one column: --class LABEL, {labels}"


def _remedy_of_numbers(value: Value) -> str:
    if value.shape is None:
        return f"{_NO_SHAPE}: {_description(value, 1)}"

    is_narrow = all(size is None or size <= 1 for size in value.shape[1:])
    if len(value.shape) not in (1, 2) or not is_narrow:
        return "export one float32 number a candidate"
    if not all(_is_dimension(size) for size in value.shape):
        return f"{_NOT_FREE}: {_description(value, 1)}"
    if value.shape[0] is not None:
        description = _description(value, 1)
        return f"leave the first dimension free: the number of candidates: {description}"
    return f"fix the second dimension: {_description(value, 1)}"


def _is_dimension(size: int | None) -> bool:
    """Whether a dimension is free, or has a size."""
    return size is None or size > 0


def _description(value: Value, width: int) -> str:
    """How to describe the value in the file."""
    info = f"make_tensor_value_info({value.name!r}, onnx.TensorProto.FLOAT, ['N', {width}])"
    return f"describe it as onnx.helper.{info}"
