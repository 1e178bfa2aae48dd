"""What to change where a model is exported, if its input or output is not what a worker wants."""

from collections.abc import Sequence

from workers.scoring.classifier import Choice, shown
from workers.scoring.graph import Value

_NOT_FREE = "0 and -1 are numbers to ONNX and leave nothing free"
_NO_SHAPE = "the file does not say its shape"


def remedy_of_input(found: Sequence[Value], width: int) -> str:
    """`width` is the number of features that are named."""
    if not found:
        return "export the whole model, from the features on"
    if len(found) > 1:
        return "join the columns into one matrix before the exporter"
    (value,) = found
    if value.dtype != "float32":
        return "train or export in float32 (skl2onnx: FloatTensorType)"
    if value.shape is None:
        return f"{_NO_SHAPE}: {_described(value, width)}"
    if len(value.shape) != 2:
        return "export one matrix, and leave the first dimension free: the number of candidates"
    return _remedy_of_matrix(value, *value.shape, width)


def _remedy_of_matrix(value: Value, rows: int | None, columns: int | None, width: int) -> str:
    if not (_is_dimension(rows) and _is_dimension(columns)):
        return f"{_NOT_FREE}: {_described(value, columns if columns and columns > 0 else width)}"
    if rows is not None:
        return "leave the first dimension free: the number of candidates (PyTorch: dynamic_shapes)"
    if columns is None:
        return f"fix the second dimension: the number of features: {_described(value, width)}"
    return f"name {columns} features, in the order of the columns"


def remedy_of_output(found: Sequence[Value], choices: Sequence[Choice]) -> str:
    """`choices` are what `--class` can name."""
    if not found:
        return "export the model with its score as an output"
    if choices:
        return _to_choose(found, choices)
    numbers = [value for value in found if value.dtype == "float32"]
    if len(numbers) == 1:
        return _remedy_of_numbers(numbers[0])
    if any(not value.is_tensor for value in found):
        return "export a tensor of one float32 number a candidate, not a list"
    return "export one float32 number a candidate"


def _to_choose(found: Sequence[Value], choices: Sequence[Choice]) -> str:
    labels = f"one of: {shown(choices)}"
    if choices[0].column is None:
        return f"keep the score alone: --class NAME, {labels}"
    if len(found) > 1:
        return f"of a classifier keep one probability: --class LABEL, {labels}"
    return f"export one float32 number a candidate, or keep one column: --class LABEL, {labels}"


def _remedy_of_numbers(value: Value) -> str:
    if value.shape is None:
        return f"{_NO_SHAPE}: {_described(value, 1)}"
    is_narrow = all(size is None or size <= 1 for size in value.shape[1:])
    if len(value.shape) not in (1, 2) or not is_narrow:
        return "export one float32 number a candidate"
    if not all(map(_is_dimension, value.shape)):
        return f"{_NOT_FREE}: {_described(value, 1)}"
    if value.shape[0] is not None:
        return f"leave the first dimension free: the number of candidates: {_described(value, 1)}"
    return f"fix the second dimension: {_described(value, 1)}"


def _is_dimension(size: int | None) -> bool:
    """Whether a dimension is free, or has a size."""
    return size is None or size > 0


def _described(value: Value, width: int) -> str:
    """How to write into the file what it gives."""
    info = f"make_tensor_value_info({value.name!r}, onnx.TensorProto.FLOAT, ['N', {width}])"
    return f"describe it as onnx.helper.{info}"
