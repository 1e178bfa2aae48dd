"""Reads the graph of model.onnx, and checks it before onnxruntime sees it.

- No tensor may have its values in another file. Such data is refused and never loaded.
- Only ONNX's own operators are allowed.
- Input, output and the order of features must be those of the manifest.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import onnx

from workers.scoring.files import kind_of
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

    `dtype` is that of a tensor. For anything else it is the whole type in ONNX's notation, such as
    `seq(map(int64,tensor(float32)))`. `shape` is None for anything but a tensor, and if the file
    does not give it.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def is_tensor(self) -> bool:
        """Whether it is a tensor, with or without a shape."""
        return "(" not in self.dtype

    @property
    def tensor(self) -> Tensor | None:
        """As a manifest describes it. None if a manifest cannot."""
        return None if self.shape is None else Tensor(self.name, self.dtype, self.shape)

    def __str__(self) -> str:
        if self.tensor is not None:
            return str(self.tensor)
        without = " without a shape" if self.is_tensor else ""
        return f"{self.name!r} {self.dtype}{without}"


class Signature(NamedTuple):
    """The inputs and outputs of a file. `features` is None if the file carries no names
    (FEATURES_KEY).
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    features: tuple[str, ...] | None


def signature_of(raw: bytes) -> Signature:
    """Read the signature of a model's bytes. Nothing else is checked. Raises ModelRefused."""
    model = read_model(raw)
    inputs = tuple(_inputs(model.graph))
    outputs = tuple(_value(value) for value in model.graph.output)

    carried = _carried_features(model)
    if carried is None:
        return Signature(inputs, outputs, features=None)
    try:
        features = msgspec.json.decode(carried, type=tuple[str, ...])
    except msgspec.DecodeError:
        message = (
            f"model.onnx: metadata {FEATURES_KEY!r}: got {carried!r:.2000}, "
            "expected a JSON list of names"
        )
        raise ModelRefused(ModelReason.FEATURES, message) from None
    return Signature(inputs, outputs, features)


def check_graph(raw: bytes, manifest: Manifest) -> None:
    """Check a model's bytes, and compare them with the manifest. Raises ModelRefused."""
    model = _parse(raw)
    check_contents(model)

    inputs = _inputs(model.graph)
    if [value.tensor for value in inputs] != [manifest.input]:
        raise _wrong_shape("input", inputs, manifest.input)

    outputs = [_value(value) for value in model.graph.output]
    if manifest.output not in [value.tensor for value in outputs]:
        raise _wrong_shape("output", outputs, manifest.output)

    _check_features(model, manifest)


def check_contents(model: onnx.ModelProto) -> None:
    """Refuse values in other files and operators of other domains. Raises ModelRefused."""
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto):
            is_external = message.data_location == onnx.TensorProto.EXTERNAL
            if message.external_data or is_external:
                raise ModelRefused(
                    ModelReason.EXTERNAL_DATA,
                    f"model.onnx: tensor {message.name!r} lies in another file, "
                    "expected every value inside model.onnx",
                )

        elif isinstance(message, onnx.NodeProto | onnx.OperatorSetIdProto):
            if message.domain in DOMAINS:
                continue
            where = "opset_import"
            if isinstance(message, onnx.NodeProto):
                where = f"operator {message.op_type!r}"
            raise ModelRefused(
                ModelReason.OPERATOR_DOMAIN,
                f"model.onnx: {where}: got domain {message.domain!r}, "
                "expected ai.onnx or ai.onnx.ml",
            )


def read_model(raw: bytes) -> onnx.ModelProto:
    """Read bytes that should be a model with a graph.

    Raises ModelRefused, which says what the bytes are instead.
    """
    model = _parse(raw)
    if not model.graph.ListFields():
        raise _not_a_model(raw, "it has no graph")
    return model


def constant_names(graph: onnx.GraphProto) -> set[str]:
    """The names of a graph's constants."""
    names = {tensor.name for tensor in graph.initializer}
    names.update(tensor.values.name for tensor in graph.sparse_initializer)
    return names


def _parse(raw: bytes) -> onnx.ModelProto:
    try:
        return onnx.ModelProto.FromString(raw)
    # Whatever a parser raises for untrusted bytes, they are refused.
    except Exception as error:
        raise _not_a_model(raw, str(error)) from error


def _not_a_model(raw: bytes, error: str) -> ModelRefused:
    kind = kind_of(raw)
    if kind is not None:
        problem = f"got {kind}"
    else:
        problem = f"{error}; it is cut short or of another format: copy or export it again"
    return ModelRefused(
        ModelReason.UNREADABLE, f"model.onnx: no ONNX model: {problem}", has_advice=True
    )


def _messages(model: onnx.ModelProto) -> Iterator[Any]:
    """Every message in the file, at any depth, so that no tensor and no operator is missed."""
    waiting: list[Any] = [model]
    while waiting:
        message = waiting.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                is_single = hasattr(value, "ListFields")
                waiting.extend([value] if is_single else value)


def _wrong_shape(key: str, values: list[Value], expected: Tensor) -> ModelRefused:
    got = ", ".join(str(value) for value in values) or "none"
    return ModelRefused(
        ModelReason.SHAPE, f"model.onnx: {key}: got {got}, expected {expected} as in the manifest"
    )


def _check_features(model: onnx.ModelProto, manifest: Manifest) -> None:
    carried = _carried_features(model)
    if carried is None:
        return

    try:
        is_same = msgspec.json.decode(carried, type=tuple[str, ...]) == manifest.features
    except msgspec.DecodeError:
        is_same = False
    if not is_same:
        expected = msgspec.json.encode(manifest.features).decode()
        message = (
            f"model.onnx: metadata {FEATURES_KEY!r}: got {carried[:2000]}, "
            f"expected {expected} as in the manifest"
        )
        raise ModelRefused(ModelReason.FEATURES, message)


def _carried_features(model: onnx.ModelProto) -> str | None:
    """The names of features that the file carries, as JSON."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return metadata.get(FEATURES_KEY)


def _inputs(graph: onnx.GraphProto) -> list[Value]:
    """The inputs of a graph. Old files list their constants as inputs, too."""
    constants = constant_names(graph)
    return [_value(value) for value in graph.input if value.name not in constants]


def _value(value: onnx.ValueInfoProto) -> Value:
    if value.type.WhichOneof("value") != "tensor_type":
        return Value(value.name, _type_name(value.type), None)

    tensor = value.type.tensor_type
    dtype = _dtype_name(tensor.elem_type)
    if not tensor.HasField("shape"):
        return Value(value.name, dtype, None)
    shape = list[int | None]()
    for dimension in tensor.shape.dim:
        shape.append(dimension.dim_value if dimension.HasField("dim_value") else None)
    return Value(value.name, dtype, tuple(shape))


def _type_name(kind: onnx.TypeProto) -> str:
    match kind.WhichOneof("value"):
        case "tensor_type":
            return f"tensor({_dtype_name(kind.tensor_type.elem_type)})"
        case "sequence_type":
            return f"seq({_type_name(kind.sequence_type.elem_type)})"
        case "map_type":
            key = _dtype_name(kind.map_type.key_type)
            return f"map({key},{_type_name(kind.map_type.value_type)})"
        case "optional_type":
            return f"optional({_type_name(kind.optional_type.elem_type)})"
        case "sparse_tensor_type":
            return f"sparse_tensor({_dtype_name(kind.sparse_tensor_type.elem_type)})"
    return "(no type)"


def _dtype_name(number: int) -> str:
    return _DTYPES.get(number, f"type {number}")
