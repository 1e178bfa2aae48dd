"""A classifier's file, cut down to the one score that a worker wants: the probability of one class.

How trainers export classifiers:
- skl2onnx, onnxmltools for LightGBM, and CatBoost end with a ZipMap: it turns a tensor `[N,
  classes]` into a list of mappings from label to probability, which no worker reads. The tensor
  before it is what is wanted.
- Others, and these without it, give the tensor `[N, classes]` beside the label. Its labels are
  found where the label is made: in the classifying operator, or in the table that the best column
  is looked up in.
- skl2onnx can also give an output `[N]` for each class.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from workers.scoring.graph import Signature, Value, check_contents, read_model, signature_of
from workers.scoring.refusal import ModelReason, ModelRefused

_OPSET = 8  # the oldest with all that is added here; files of CatBoost and XGBoost import no operators of ONNX itself
_CONSTANTS_ALONE = (
    4  # the version of the format from which a constant is not listed among the inputs too
)
_SHOWN = 20
_FLOATS = ("float32", "float64")
_LABELS = ("classlabels_int64s", "classlabels_ints", "classlabels_strings")
_LOOK_UPS = ("ArrayFeatureExtractor", "Gather")


class Choice(NamedTuple):
    """What `--class` can name: a column of a tensor of the graph, or (None) all of a tensor."""

    label: str
    tensor: str
    column: int | None


def choices_of(raw: bytes) -> list[Choice]:
    """The classes of a classifier, or several scores; empty where there is nothing to choose.
    Raises ModelRefused.
    """
    model = read_model(raw)
    check_contents(model)
    signature = signature_of(raw)
    try:
        return _choices(model.graph, signature)
    # Nothing has checked the graph yet: operators may lack inputs, and constants values.
    except Exception as error:
        message = f"model.onnx: its classes cannot be read: {type(error).__name__}: {error}"
        raise ModelRefused(ModelReason.UNREADABLE, message) from error


def keep_class(raw: bytes, label: str) -> bytes:
    """The model with one output, the score that `label` names. Raises ModelRefused."""
    choices = choices_of(raw)
    choice = next((one for one in choices if one.label == label), None)
    if choice is None:
        expected = (
            f"one of: {shown(choices)}" if choices else "none: the file has no classes to choose of"
        )
        message = f"--class: got {label[:80]!r}, expected {expected}"
        raise ModelRefused(ModelReason.SHAPE, message, says_what_to_do=True)
    model = read_model(raw)
    _keep(model, choice)
    kept: bytes = model.SerializeToString()
    return kept


def shown(choices: Sequence[Choice]) -> str:
    """The labels for people, the first of them where there are many."""
    labels = [one.label if one.label.isprintable() else repr(one.label) for one in choices[:_SHOWN]]
    return ", ".join(
        [*labels, f"and {len(choices) - _SHOWN} more"] if len(choices) > _SHOWN else labels
    )


def is_score(value: Value) -> bool:
    """Whether an output is one float32 number a candidate."""
    return value.dtype == "float32" and value.shape in ((None, 1), (None,))


# What there is to choose


def _choices(graph: onnx.GraphProto, signature: Signature) -> list[Choice]:
    columns: dict[str, list[Choice]] = {}
    for output in signature.outputs:
        zip_map = _zip_map(graph, output.name)
        if zip_map is not None:
            columns[output.name] = _columns(zip_map.input[0], _labels_in(zip_map))
        elif _is_table(output):
            columns[output.name] = _columns(output.name, _labels_beside(graph, signature, output))
    if len(columns) == 1:
        return next(iter(columns.values()))
    if columns:
        return [
            one._replace(label=f"{name}:{one.label}")
            for name, found in columns.items()
            for one in found
        ]
    scores = [one.name for one in signature.outputs if is_score(one)]
    return [Choice(name, name, None) for name in scores] if len(scores) > 1 else []


def _columns(tensor: str, labels: Iterable[str]) -> list[Choice]:
    return [Choice(label, tensor, column) for column, label in enumerate(labels)]


def _is_table(value: Value) -> bool:
    return (
        value.dtype in _FLOATS
        and value.shape is not None
        and len(value.shape) == 2
        and value.shape[1] != 1
    )


def _zip_map(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    """The ZipMap that gives an output."""
    makers, seen = _makers(graph), set[str]()
    while (
        (node := makers.get(name)) is not None and node.op_type == "Identity" and name not in seen
    ):
        seen.add(name)
        name = node.input[0]
    return node if node is not None and node.op_type == "ZipMap" else None


def _labels_beside(graph: onnx.GraphProto, signature: Signature, table: Value) -> list[str]:
    """The labels of a table's columns; their places where the graph does not tell."""
    width = table.shape[1] if table.shape else None
    if width is not None and width < 1:  # some exporters write 0 or -1 for what they do not know
        width = None
    for output in signature.outputs:
        if output.name != table.name:
            for labels in _labels_behind(graph, output.name):
                if width in (None, len(labels)):
                    return labels
    return [str(column) for column in range(width or 0)]


def _labels_behind(graph: onnx.GraphProto, name: str) -> Iterator[list[str]]:
    """What a label may have been chosen of, the nearest first."""
    makers, constants = _makers(graph), _constants(graph)
    waiting, seen = [name], {name}
    while waiting:
        made = waiting.pop(0)
        node = makers.get(made)
        if node is None:
            continue
        if made == node.output[0] and (labels := _labels_in(node)):
            yield labels
        if node.op_type in _LOOK_UPS and node.input[0] in constants:
            yield [str(label) for label in _values(constants[node.input[0]])]
        new = [one for one in node.input if one not in seen]
        seen.update(new)
        waiting += new


def _labels_in(node: onnx.NodeProto) -> list[str]:
    """The labels that an operator names; none where it is no classifier."""
    for attribute in node.attribute:
        if attribute.name in _LABELS and (attribute.ints or attribute.strings):
            texts = [text.decode("utf-8", errors="replace") for text in attribute.strings]
            return texts or [str(number) for number in attribute.ints]
    return []


def _values(tensor: onnx.TensorProto) -> list[object]:
    found = numpy_helper.to_array(tensor).reshape(-1).tolist()
    return [
        value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
        for value in found
    ]


def _makers(graph: onnx.GraphProto) -> Mapping[str, onnx.NodeProto]:
    return {output: node for node in graph.node for output in node.output if output}


def _constants(graph: onnx.GraphProto) -> Mapping[str, onnx.TensorProto]:
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                found[node.output[0]] = attribute.t
    return found


# The cut


def _keep(model: onnx.ModelProto, choice: Choice) -> None:
    """Give the model the chosen score as its only output, and drop what it does not need."""
    graph = model.graph
    if choice.column is None:
        outputs = [value for value in graph.output if value.name == choice.tensor]
    else:
        outputs = [_add_column(model, choice.tensor, choice.column)]
    _prune(graph, outputs[0].name)
    kept = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in outputs]
    del graph.output[:]
    graph.output.extend(kept)


def _add_column(model: onnx.ModelProto, tensor: str, column: int) -> onnx.ValueInfoProto:
    graph = model.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {value.name for value in (*graph.input, *graph.output)} | {
        tensor.name for tensor in graph.initializer
    }
    place, picked, score = (
        _free(name, taken) for name in ("score_column", "score_picked", "score")
    )
    graph.initializer.append(numpy_helper.from_array(np.array([column], np.int64), place))
    if model.ir_version < _CONSTANTS_ALONE:
        graph.input.append(helper.make_tensor_value_info(place, TensorProto.INT64, [1]))
    graph.node.append(helper.make_node("Gather", [tensor, place], [picked], axis=1))
    graph.node.append(helper.make_node("Cast", [picked], [score], to=TensorProto.FLOAT))
    if not any(opset.domain in ("", "ai.onnx") for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", _OPSET))
    return helper.make_tensor_value_info(score, TensorProto.FLOAT, [None, 1])


def _free(name: str, taken: set[str]) -> str:
    found = next(
        one
        for one in (name, *(f"{name}_{number}" for number in range(len(taken))))
        if one not in taken
    )
    taken.add(found)
    return found


def _prune(graph: onnx.GraphProto, output: str) -> None:
    """Keep only the nodes and constants that the output depends on."""
    makers = _makers(graph)
    waiting, needed = [output], {output}
    while waiting:
        node = makers.get(waiting.pop())
        new = [] if node is None else [name for name in _reads(node) if name not in needed]
        needed.update(new)
        waiting += new
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {tensor.values.name for tensor in graph.sparse_initializer}
    _retain(graph.node, [needed.intersection(node.output) for node in graph.node])
    _retain(
        graph.input, [value.name in needed or value.name not in constants for value in graph.input]
    )
    _retain(graph.initializer, [tensor.name in needed for tensor in graph.initializer])
    _retain(
        graph.sparse_initializer,
        [tensor.values.name in needed for tensor in graph.sparse_initializer],
    )
    _retain(graph.value_info, [value.name in needed for value in graph.value_info])


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """The values that a node reads, also from inside its own graphs."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from (value.name for value in inner.output)
            for below in inner.node:
                yield from _reads(below)


def _retain(field: Any, kept: Iterable[object]) -> None:
    for place, stays in reversed(list(enumerate(kept))):
        if not stays:
            del field[place]
