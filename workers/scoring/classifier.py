"""Reduces a classifier's file to the one score that a worker needs: the probability of one class.

How trainers export classifiers:
- skl2onnx, onnxmltools for LightGBM, and CatBoost end with a ZipMap. It turns a tensor `[N,
  classes]` into a list of mappings from label to probability, which a worker cannot read. The
  tensor before the ZipMap is kept.
- Others, and these without the ZipMap, have the tensor `[N, classes]` as an output beside the
  label. The labels of its columns are found where the label is made: in the classifying operator,
  or in the table in which the best column is looked up.
- skl2onnx can also give an output `[N]` for each class.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from workers.scoring.graph import (
    Signature,
    Value,
    check_contents,
    constant_names,
    read_model,
    signature_of,
)
from workers.scoring.refusal import ModelReason, ModelRefused

# The oldest opset with every operator that is added here. Files of CatBoost and XGBoost import no
# operators of ONNX itself.
_OPSET = 8
# The first version of the format in which a constant is not listed among the inputs, too.
_IR_VERSION_WITHOUT_CONSTANT_INPUTS = 4
_SHOWN = 20
_FLOATS = ("float32", "float64")
_LABELS = ("classlabels_int64s", "classlabels_ints", "classlabels_strings")
_LOOK_UPS = ("ArrayFeatureExtractor", "Gather")


class ClassChoice(NamedTuple):
    """What `--class` can name: a column of a tensor of the graph, or the whole tensor (None)."""

    label: str
    tensor: str
    column: int | None


def choices_of(raw: bytes) -> list[ClassChoice]:
    """The classes of a classifier, or several scores. Empty if there is nothing to choose.

    Raises ModelRefused.
    """
    model = read_model(raw)
    check_contents(model)
    signature = signature_of(raw)
    try:
        return _choices(model.graph, signature)
    # Nothing has checked the graph yet: operators may lack inputs, and constants may lack values.
    except Exception as error:
        message = f"model.onnx: its classes cannot be read: {type(error).__name__}: {error}"
        raise ModelRefused(ModelReason.UNREADABLE, message) from error


def keep_class(raw: bytes, label: str) -> bytes:
    """Remove every output but the score that `label` names. Raises ModelRefused."""
    choices = choices_of(raw)
    for choice in choices:
        if choice.label == label:
            model = read_model(raw)
            _keep_choice(model, choice)
            kept: bytes = model.SerializeToString()
            return kept

    expected = "none: the file has no classes to choose from"
    if choices:
        expected = f"one of: {labels_of(choices)}"
    message = f"--class: got {label[:80]!r}, expected {expected}"
    raise ModelRefused(ModelReason.SHAPE, message, has_advice=True)


def labels_of(choices: Sequence[ClassChoice]) -> str:
    """The labels as text for people. Only the first ones if there are many."""
    labels = list[str]()
    for choice in choices[:_SHOWN]:
        labels.append(choice.label if choice.label.isprintable() else repr(choice.label))
    if len(choices) > _SHOWN:
        labels.append(f"and {len(choices) - _SHOWN} more")
    return ", ".join(labels)


def is_score(value: Value) -> bool:
    """Whether an output is one float32 number a candidate."""
    return value.dtype == "float32" and value.shape in ((None, 1), (None,))


# What there is to choose


def _choices(graph: onnx.GraphProto, signature: Signature) -> list[ClassChoice]:
    """The columns of every table of probabilities. If there is no table, every score."""
    tables: dict[str, list[ClassChoice]] = {}
    for output in signature.outputs:
        zip_map = _zip_map(graph, output.name)
        if zip_map is not None:
            tables[output.name] = _columns(zip_map.input[0], _labels_in(zip_map))
        elif _is_table(output):
            tables[output.name] = _columns(output.name, _labels_beside(graph, signature, output))

    if len(tables) == 1:
        (columns,) = tables.values()
        return columns
    if tables:
        choices = list[ClassChoice]()
        for name, columns in tables.items():
            for choice in columns:
                choices.append(choice._replace(label=f"{name}:{choice.label}"))
        return choices

    scores = [output.name for output in signature.outputs if is_score(output)]
    if len(scores) < 2:
        return []
    return [ClassChoice(name, name, None) for name in scores]


def _columns(tensor: str, labels: Sequence[str]) -> list[ClassChoice]:
    return [ClassChoice(label, tensor, column) for column, label in enumerate(labels)]


def _is_table(value: Value) -> bool:
    """Whether an output is a tensor `[N, classes]`."""
    if value.dtype not in _FLOATS or value.shape is None:
        return False
    return len(value.shape) == 2 and value.shape[1] != 1


def _zip_map(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    """The ZipMap that makes an output, if one does."""
    makers = _makers(graph)
    seen = set[str]()
    node = makers.get(name)
    while node is not None and node.op_type == "Identity" and name not in seen:
        seen.add(name)
        name = node.input[0]
        node = makers.get(name)
    if node is not None and node.op_type == "ZipMap":
        return node
    return None


def _labels_beside(graph: onnx.GraphProto, signature: Signature, table: Value) -> list[str]:
    """The labels of a table's columns. Their numbers if the graph does not name the labels."""
    width = table.shape[1] if table.shape else None
    if width is not None and width < 1:  # some exporters write 0 or -1 for an unknown width
        width = None

    for output in signature.outputs:
        if output.name == table.name:
            continue
        for labels in _labels_behind(graph, output.name):
            if width in (None, len(labels)):
                return labels
    return [str(column) for column in range(width or 0)]


def _labels_behind(graph: onnx.GraphProto, name: str) -> Iterator[list[str]]:
    """The labels from which an output may have been chosen, the nearest first."""
    makers = _makers(graph)
    constants = _constants(graph)
    waiting = [name]
    seen = {name}
    while waiting:
        value = waiting.pop(0)
        node = makers.get(value)
        if node is None:
            continue

        if value == node.output[0]:
            labels = _labels_in(node)
            if labels:
                yield labels
        if node.op_type in _LOOK_UPS and node.input[0] in constants:
            yield _labels_in_constant(constants[node.input[0]])

        new = [each for each in node.input if each not in seen]
        seen.update(new)
        waiting += new


def _labels_in(node: onnx.NodeProto) -> list[str]:
    """The labels that an operator names. Empty if it is not a classifier."""
    for attribute in node.attribute:
        if attribute.name not in _LABELS:
            continue
        if attribute.strings:
            return [text.decode("utf-8", errors="replace") for text in attribute.strings]
        if attribute.ints:
            return [str(number) for number in attribute.ints]
    return []


def _labels_in_constant(tensor: onnx.TensorProto) -> list[str]:
    labels = list[str]()
    for value in numpy_helper.to_array(tensor).reshape(-1).tolist():
        if isinstance(value, bytes):
            labels.append(value.decode("utf-8", errors="replace"))
        else:
            labels.append(str(value))
    return labels


def _makers(graph: onnx.GraphProto) -> Mapping[str, onnx.NodeProto]:
    """The node that makes each value."""
    makers: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        for output in node.output:
            if output:  # an empty name stands for an output that is left out
                makers[output] = node
    return makers


def _constants(graph: onnx.GraphProto) -> Mapping[str, onnx.TensorProto]:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Constant":
            continue
        for attribute in node.attribute:
            if attribute.name == "value":
                constants[node.output[0]] = attribute.t
    return constants


# The cut


def _keep_choice(model: onnx.ModelProto, choice: ClassChoice) -> None:
    """Make the chosen score the only output, and drop everything that it does not need."""
    graph = model.graph
    if choice.column is None:
        outputs = [value for value in graph.output if value.name == choice.tensor]
    else:
        outputs = [_add_column(model, choice.tensor, choice.column)]
    _prune(graph, outputs[0].name)

    # Copies: the values belong to the list that is cleared.
    kept = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in outputs]
    del graph.output[:]
    graph.output.extend(kept)


def _add_column(model: onnx.ModelProto, tensor: str, column: int) -> onnx.ValueInfoProto:
    """Add operators that pick one column of a tensor as float32. Returns the new value."""
    graph = model.graph
    taken = {tensor.name for tensor in graph.initializer}
    taken.update(value.name for value in (*graph.input, *graph.output))
    for node in graph.node:
        taken.update(node.input)
        taken.update(node.output)

    index = _free_name("score_column", taken)
    picked = _free_name("score_picked", taken)
    score = _free_name("score", taken)

    graph.initializer.append(numpy_helper.from_array(np.array([column], np.int64), index))
    if model.ir_version < _IR_VERSION_WITHOUT_CONSTANT_INPUTS:
        graph.input.append(helper.make_tensor_value_info(index, TensorProto.INT64, [1]))
    graph.node.append(helper.make_node("Gather", [tensor, index], [picked], axis=1))
    graph.node.append(helper.make_node("Cast", [picked], [score], to=TensorProto.FLOAT))

    if not any(opset.domain in ("", "ai.onnx") for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", _OPSET))
    return helper.make_tensor_value_info(score, TensorProto.FLOAT, [None, 1])


def _free_name(name: str, taken: set[str]) -> str:
    """The name, with a number if it is taken. It is taken from then on."""
    free = name
    number = 0
    while free in taken:
        free = f"{name}_{number}"
        number += 1
    taken.add(free)
    return free


def _prune(graph: onnx.GraphProto, output: str) -> None:
    """Keep only the nodes and constants that the output depends on."""
    makers = _makers(graph)
    waiting = [output]
    needed = {output}
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None:
            new = [name for name in _values_read_by(node) if name not in needed]
            needed.update(new)
            waiting += new

    constants = constant_names(graph)
    _filter(graph.node, lambda node: bool(needed.intersection(node.output)))
    _filter(graph.input, lambda value: value.name in needed or value.name not in constants)
    _filter(graph.initializer, lambda tensor: tensor.name in needed)
    _filter(graph.sparse_initializer, lambda tensor: tensor.values.name in needed)
    _filter(graph.value_info, lambda value: value.name in needed)


def _values_read_by(node: onnx.NodeProto) -> Iterator[str]:
    """The values that a node reads. A node with graphs inside reads what these read, too."""
    yield from node.input
    for attribute in node.attribute:
        graphs = list(attribute.graphs)
        if attribute.HasField("g"):
            graphs.insert(0, attribute.g)
        for graph in graphs:
            for value in graph.output:
                yield value.name
            for inner_node in graph.node:
                yield from _values_read_by(inner_node)


def _filter(field: Any, keep: Callable[[Any], bool]) -> None:
    """Delete from a repeated field what is not to be kept."""
    for index in reversed(range(len(field))):
        if not keep(field[index]):
            del field[index]
