"""A manifest for a model that was trained elsewhere: what its file says of itself, and golden rows
from running it.

Each refusal about input or output ends with what to change where the model is exported.
"""

import hashlib
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from workers.scoring.classifier import choices_of, is_score
from workers.scoring.graph import FEATURES_KEY, Signature, Value, check_graph, signature_of
from workers.scoring.manifest import GoldenRow, Manifest, Tensor
from workers.scoring.model import Matrix, Model, open_model
from workers.scoring.refusal import ModelReason, ModelRefused
from workers.scoring.remedies import remedy_of_input, remedy_of_output

GOLDEN_ROWS = 32

Scores = NDArray[np.float32]


def features_of(raw: bytes, given: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the input's columns in order: those given, else those that the file carries.
    Raises ModelRefused.
    """
    names = signature_of(raw).features if given is None else tuple(given)
    if names is None:
        message = f"model.onnx: metadata {FEATURES_KEY!r}: got nothing, expected the names of the features"
        raise ModelRefused(ModelReason.FEATURES, message)
    return names


def draft(
    raw: bytes, objective: str, version: int, features: Sequence[str], rows: Matrix
) -> Manifest:
    """A manifest of the model's bytes, whose golden rows are taken from `rows`, float32 `[N,
    features]`.

    Nothing is said of the batch, which verification settles. Raises ModelRefused.
    """
    blank = _blank(raw, objective, version, tuple(features))
    check_graph(raw, blank)
    scores = _score(open_model(raw, blank), rows)
    return msgspec.structs.replace(blank, golden=_golden(rows, scores))


def _blank(raw: bytes, objective: str, version: int, features: tuple[str, ...]) -> Manifest:
    """The manifest but for its golden rows."""
    signature = signature_of(raw)
    try:
        return Manifest(
            objective=objective,
            version=version,
            sha256=hashlib.sha256(raw).hexdigest(),
            input=_input(signature, len(features)),
            output=_output(raw, signature),
            features=features,
            golden=(GoldenRow((0.0,) * len(features), 0.0),),
        )
    except ValueError as error:
        raise ModelRefused(ModelReason.MANIFEST, str(error)) from None


def _input(signature: Signature, width: int) -> Tensor:
    found = signature.inputs
    if len(found) == 1 and found[0].tensor == Tensor(found[0].name, "float32", (None, width)):
        return found[0].tensor
    expected = f"one input, float32 [null,{width}]: candidates by features"
    raise _misshapen("input", found, expected, remedy_of_input(found, width))


def _output(raw: bytes, signature: Signature) -> Tensor:
    """The one output that is a score: others beside it are not asked for."""
    fitting = [
        found.tensor for found in signature.outputs if found.tensor is not None and is_score(found)
    ]
    if len(fitting) == 1:
        return fitting[0]
    expected = "one float32 output of shape [null,1] or [null]: a score a candidate"
    raise _misshapen(
        "output", signature.outputs, expected, remedy_of_output(signature.outputs, choices_of(raw))
    )


def _misshapen(key: str, got: Sequence[Value], expected: str, remedy: str) -> ModelRefused:
    found = ", ".join(map(str, got)) or "none"
    message = f"model.onnx: {key}: got {found}, expected {expected}; {remedy}"
    return ModelRefused(ModelReason.SHAPE, message, says_what_to_do=True)


def _score(model: Model, rows: Matrix) -> Scores:
    try:
        return model.score(rows)
    # Whatever a model does when it is run, it is refused; onnxruntime's errors have no class in
    # common.
    except Exception as error:
        raise ModelRefused(ModelReason.UNREADABLE, f"model.onnx: cannot be run: {error}") from error


def _golden(rows: Matrix, scores: Scores) -> tuple[GoldenRow, ...]:
    """Rows at equal steps from the lowest score to the highest. A model that tells none apart is
    refused.
    """
    lost = np.flatnonzero(~np.isfinite(scores))
    if len(lost):
        message = f"golden: the model gives {scores[lost[0]]} for {rows[lost[0]].tolist()}, expected a finite score"
        raise ModelRefused(ModelReason.GOLDEN, message)
    if scores.min() == scores.max():
        message = f"golden: all {len(rows)} rows get the score {scores[0]}, expected rows that the model tells apart"
        raise ModelRefused(ModelReason.GOLDEN, message)
    order = np.argsort(scores, kind="stable")
    places = np.linspace(0, len(order) - 1, min(GOLDEN_ROWS, len(order))).astype(np.intp)
    return tuple(
        GoldenRow(tuple(rows[place].tolist()), float(scores[place])) for place in order[places]
    )
