"""What is inside model.onnx, judged before onnxruntime sees it: no data outside the file, only
ONNX's own operators.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import onnx

from workers.scoring.kinds import kind_of
from workers.scoring.manifest import Manifest, Tensor
from workers.scoring.refusal import ModelReason, ModelRefused

DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
FEATURES_KEY = "trimtab.features"
"""Key of the ONNX metadata under which a file may carry its feature names in order, as a JSON list.
"""

_DTYPES = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
_DTYPES |= {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.DOUBLE: "float64"}


class Value(NamedTuple):
    """An input or output as the file describes it.

    `dtype` is that of a tensor, else the whole type in ONNX's notation, such as
    `seq(map(int64,tensor(float32)))`. `shape` is None for what is no tensor, and where the file
    does not say.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def is_tensor(self) -> bool:
        """Whether it is a tensor, with a shape or without."""
        return "(" not in self.dtype

    @property
    def tensor(self) -> Tensor | None:
        """As a manifest describes it; None where it cannot."""
        return None if self.shape is None else Tensor(self.name, self.dtype, self.shape)

    def __str__(self) -> str:
        without = " without a shape" if self.is_tensor else ""
        return str(self.tensor or f"{self.name!r} {self.dtype}{without}")


class Signature(NamedTuple):
    """What a file says that it reads and gives; `features` is None where it carries no names
    (FEATURES_KEY).
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    features: tuple[str, ...] | None


def signature_of(raw: bytes) -> Signature:
    """Read the signature of a model's bytes; nothing else of them is judged. Raises ModelRefused."""
    model = read_model(raw)
    carried = _carried(model)
    try:
        features = None if carried is None else msgspec.json.decode(carried, type=tuple[str, ...])
    except msgspec.DecodeError:
        message = f"model.onnx: metadata {FEATURES_KEY!r}: got {carried!r:.2000}, expected a JSON list of names"
        raise ModelRefused(ModelReason.FEATURES, message) from None
    return Signature(tuple(_inputs(model.graph)), tuple(map(_value, model.graph.output)), features)


def check_graph(raw: bytes, manifest: Manifest) -> None:
    """Hold a model's bytes against its manifest; external data is refused, never loaded. Raises
    ModelRefused.
    """
    model = _parse(raw)
    check_contents(model)
    _check_signature(model.graph, manifest)
    _check_features(model, manifest)


def check_contents(model: onnx.ModelProto) -> None:
    """Refuse values in other files and operators of other domains. Raises ModelRefused."""
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto):
            _check_tensor(message)
        elif isinstance(message, onnx.NodeProto | onnx.OperatorSetIdProto):
            _check_domain(message)


def read_model(raw: bytes) -> onnx.ModelProto:
    """Read bytes that should be a model, and have a graph. Raises ModelRefused, which says what
    they are.
    """
    model = _parse(raw)
    if not model.graph.ListFields():
        raise _no_model(raw, "it has no graph")
    return model


def _parse(raw: bytes) -> onnx.ModelProto:
    try:
        return onnx.ModelProto.FromString(raw)
    # Whatever a parser finds to say of untrusted bytes, they are refused.
    except Exception as error:
        raise _no_model(raw, str(error)) from error


def _no_model(raw: bytes, error: str) -> ModelRefused:
    kind = kind_of(raw)
    what = (
        f"got {kind}"
        if kind
        else f"{error}; it is cut short or of another format: copy or export it again"
    )
    return ModelRefused(
        ModelReason.UNREADABLE, f"model.onnx: no ONNX model: {what}", says_what_to_do=True
    )


def _messages(model: onnx.ModelProto) -> Iterator[Any]:
    """Every message in the file, at any depth: no place where a tensor or an operator may stand is
    forgotten.
    """
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
    if [value.tensor for value in inputs] != [manifest.input]:
        raise _misshapen("input", inputs, manifest.input)
    outputs = [_value(value) for value in graph.output]
    if manifest.output not in [value.tensor for value in outputs]:
        raise _misshapen("output", outputs, manifest.output)


def _inputs(graph: onnx.GraphProto) -> list[Value]:
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {tensor.values.name for tensor in graph.sparse_initializer}
    return [_value(value) for value in graph.input if value.name not in constants]


def _misshapen(key: str, got: list[Value], expected: Tensor) -> ModelRefused:
    found = ", ".join(map(str, got)) or "none"
    return ModelRefused(
        ModelReason.SHAPE, f"model.onnx: {key}: got {found}, expected {expected} as in the manifest"
    )


def _value(value: onnx.ValueInfoProto) -> Value:
    kind = value.type.tensor_type
    if value.type.WhichOneof("value") != "tensor_type":
        return Value(value.name, _type(value.type), None)
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
    return Value(value.name, _dtype(kind.elem_type), shape if kind.HasField("shape") else None)


def _type(kind: onnx.TypeProto) -> str:
    match kind.WhichOneof("value"):
        case "tensor_type":
            return f"tensor({_dtype(kind.tensor_type.elem_type)})"
        case "sequence_type":
            return f"seq({_type(kind.sequence_type.elem_type)})"
        case "map_type":
            return f"map({_dtype(kind.map_type.key_type)},{_type(kind.map_type.value_type)})"
        case "optional_type":
            return f"optional({_type(kind.optional_type.elem_type)})"
        case "sparse_tensor_type":
            return f"sparse_tensor({_dtype(kind.sparse_tensor_type.elem_type)})"
    return "(no type)"


def _dtype(number: int) -> str:
    return _DTYPES.get(number, f"type {number}")


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
