"""What is inside model.onnx, judged before onnxruntime sees it: no data outside the file, only ONNX's own operators."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import onnx

from workers.scoring.manifest import Manifest, Tensor
from workers.scoring.refusal import ModelReason, ModelRefused

DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
FEATURES_KEY = "trimtab.features"
"""Key of the ONNX metadata under which a file may carry its feature names in order, as a JSON list."""

_DTYPES = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
_DTYPES |= {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.DOUBLE: "float64"}


class Signature(NamedTuple):
    """What a file says that it reads and gives; `features` is None where it carries no names (FEATURES_KEY)."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    features: tuple[str, ...] | None


def signature_of(raw: bytes) -> Signature:
    """Read the signature of a model's bytes; nothing else of them is judged. Raises ModelRefused."""
    model = _parse(raw)
    carried = _carried(model)
    try:
        features = None if carried is None else msgspec.json.decode(carried, type=tuple[str, ...])
    except msgspec.DecodeError:
        message = f"model.onnx: metadata {FEATURES_KEY!r}: got {carried!r:.2000}, expected a JSON list of names"
        raise ModelRefused(ModelReason.FEATURES, message) from None
    return Signature(tuple(_inputs(model.graph)), tuple(map(_tensor, model.graph.output)), features)


def check_graph(raw: bytes, manifest: Manifest) -> None:
    """Hold a model's bytes against its manifest; external data is refused, never loaded. Raises ModelRefused."""
    model = _parse(raw)
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto):
            _check_tensor(message)
        elif isinstance(message, onnx.NodeProto | onnx.OperatorSetIdProto):
            _check_domain(message)
    _check_signature(model.graph, manifest)
    _check_features(model, manifest)


def _parse(raw: bytes) -> onnx.ModelProto:
    try:
        return onnx.ModelProto.FromString(raw)
    # Whatever a parser finds to say of untrusted bytes, they are refused.
    except Exception as error:
        raise ModelRefused(ModelReason.UNREADABLE, f"model.onnx: no ONNX model: {error}") from error


def _messages(model: onnx.ModelProto) -> Iterator[Any]:
    """Every message in the file, at any depth: no place where a tensor or an operator may stand is forgotten."""
    waiting: list[Any] = [model]
    while waiting:
        message = waiting.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                waiting.extend([value] if hasattr(value, "ListFields") else value)


def _check_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
        message = f"model.onnx: tensor {tensor.name!r} lies in another file, expected every value inside model.onnx"
        raise ModelRefused(ModelReason.EXTERNAL_DATA, message)


def _check_domain(user: onnx.NodeProto | onnx.OperatorSetIdProto) -> None:
    if user.domain not in DOMAINS:
        where = f"operator {user.op_type!r}" if isinstance(user, onnx.NodeProto) else "opset_import"
        message = f"model.onnx: {where}: got domain {user.domain!r}, expected ai.onnx or ai.onnx.ml"
        raise ModelRefused(ModelReason.OPERATOR_DOMAIN, message)


def _check_signature(graph: onnx.GraphProto, manifest: Manifest) -> None:
    inputs = _inputs(graph)
    if inputs != [manifest.input]:
        raise _misshapen("input", inputs, manifest.input)
    outputs = [_tensor(value) for value in graph.output]
    if manifest.output not in outputs:
        raise _misshapen("output", outputs, manifest.output)


def _inputs(graph: onnx.GraphProto) -> list[Tensor]:
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {tensor.values.name for tensor in graph.sparse_initializer}
    return [_tensor(value) for value in graph.input if value.name not in constants]


def _misshapen(key: str, got: list[Tensor], expected: Tensor) -> ModelRefused:
    found = ", ".join(map(str, got)) or "none"
    return ModelRefused(ModelReason.SHAPE, f"model.onnx: {key}: got {found}, expected {expected} as in the manifest")


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
    return Tensor(value.name, _DTYPES.get(kind.elem_type, f"type {kind.elem_type}"), shape)


def _carried(model: onnx.ModelProto) -> str | None:
    return {entry.key: entry.value for entry in model.metadata_props}.get(FEATURES_KEY)


def _check_features(model: onnx.ModelProto, manifest: Manifest) -> None:
    carried = _carried(model)
    if carried is None:
        return
    expected = msgspec.json.encode(manifest.features).decode()
    try:
        same = msgspec.json.decode(carried, type=tuple[str, ...]) == manifest.features
    except msgspec.DecodeError:
        same = False
    if not same:
        message = f"model.onnx: metadata {FEATURES_KEY!r}: got {carried[:2000]}, expected {expected} as in the manifest"
        raise ModelRefused(ModelReason.FEATURES, message)
