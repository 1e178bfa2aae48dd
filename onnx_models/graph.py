"""The ONNX graph of an objective.

    features -> bounds -> bounded -> learned part -> raw -> calibration -> score

Rules:

- Only operators of ai.onnx and ai.onnx.ml, and no data outside the file.
- A row's score has the same bytes in any batch. Each operator here sums a row in an order that does
  not depend on the other rows. The calibration counts in whole numbers, so the order of its sums
  cannot change the result.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

# The names of the values in the graph.
INPUT = "features"
BOUNDED = "bounded"
RAW = "raw"
OUTPUT = "score"

FEATURES_KEY = "trimtab.features"
KNOTS = 64  # a power of two, so that dividing by it is exact
OPSETS = (helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1))
IR_VERSION = 8

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """Nodes of a graph, and the constants that they read."""

    nodes: tuple[NodeProto, ...]
    constants: tuple[TensorProto, ...] = ()

    def __add__(self, other: "Part") -> "Part":
        return Part(self.nodes + other.nodes, self.constants + other.constants)


def bounds(low: Rows, high: Rows) -> Part:
    """Clip every feature to its bounds, `low` and `high` float32 `[F]`.

    So no finite number, however large, leads out of the range that the model was trained for.
    """
    nodes = (
        helper.make_node("Max", [INPUT, "lowest"], ["at_least"]),
        helper.make_node("Min", ["at_least", "highest"], [BOUNDED]),
    )
    return Part(nodes, _constants(lowest=low, highest=high))


def mlp(hidden: tuple[Rows, Rows], last: tuple[Rows, Rows]) -> Part:
    """raw = relu(bounded @ W1 + b1) @ W2 + b2.

    `hidden` is W1 `[F, H]` and b1 `[H]`, `last` is W2 `[H, 1]` and b2 `[1]`, all float32.
    """
    w1, b1 = hidden
    w2, b2 = last
    nodes = (
        helper.make_node("Gemm", [BOUNDED, "w1", "b1"], ["before"]),
        helper.make_node("Relu", ["before"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "w2", "b2"], [RAW]),
    )
    return Part(nodes, _constants(w1=w1, b1=b1, w2=w2, b2=b2))


def trees(converted: onnx.ModelProto) -> Part:
    """The one TreeEnsembleRegressor of a converted scikit-learn model, from BOUNDED to RAW."""
    (node,) = converted.graph.node
    attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
    rewired = helper.make_node(node.op_type, [BOUNDED], [RAW], domain=node.domain)
    rewired.attribute.extend(attributes)
    return Part((rewired,))


def calibration(trained_on: NDArray[np.floating]) -> Part:
    """The share of the training posts with a lower raw number, interpolated between KNOTS + 1
    quantiles.

    For k[i] < raw <= k[i+1]:

        score = (i + (raw - k[i]) / (k[i+1] - k[i])) / KNOTS

    This is continuous, monotone, and within [0, 1]. The outermost knots lie a quarter of the range
    beyond the lowest and the highest raw number of the training, so that posts slightly beyond
    these still get different scores.

    `trained_on` has the raw numbers of the training posts, `[posts]`. Raises ValueError if they
    have too few different values.
    """
    quantiles = np.quantile(trained_on.astype(np.float64), np.arange(KNOTS + 1) / KNOTS)
    margin = (quantiles[-1] - quantiles[0]) / 4
    quantiles[0] -= margin
    quantiles[-1] += margin
    knots: Rows = quantiles.astype(np.float32)
    if not (np.diff(knots) > 0).all():
        raise ValueError(
            f"{len(set(trained_on.tolist()))} raw numbers: expected {KNOTS} quantiles that differ"
        )

    width = np.diff(knots)
    nodes = (
        helper.make_node("Less", ["inner", RAW], ["passed"]),
        helper.make_node("Cast", ["passed"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["ones", "columns"], ["count"], keepdims=1),
        helper.make_node("Cast", ["count"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["lows", "place"], ["low"]),
        helper.make_node("Gather", ["widths", "place"], ["width"]),
        helper.make_node("Sub", [RAW, "low"], ["above"]),
        helper.make_node("Div", ["above", "width"], ["ratio"]),
        helper.make_node("Clip", ["ratio", "zero", "one"], ["share"]),
        helper.make_node("Add", ["count", "share"], ["total"]),
        helper.make_node("Div", ["total", "knots"], [OUTPUT]),
    )
    constants = _constants(
        inner=knots[None, 1:-1],
        lows=knots[:-1],
        widths=width,
        zero=_scalar(0),
        one=_scalar(1),
        knots=_scalar(KNOTS),
        columns=np.array([1], np.int64),
    )
    return Part(nodes, constants)


def build(part: Part, output: str, features: Sequence[str]) -> bytes:
    """The bytes of a model from float32 `features` `[N, len(features)]` to float32 `output`
    `[N, 1]`. `features` are the names. The model is checked.
    """
    graph_input = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, len(features)])
    graph_output = helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph(
        part.nodes, "objective", [graph_input], [graph_output], part.constants
    )

    model = helper.make_model(
        graph, opset_imports=OPSETS, ir_version=IR_VERSION, producer_name="trimtab"
    )
    helper.set_model_props(model, {FEATURES_KEY: json.dumps(list(features), separators=(",", ":"))})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def run(model: bytes, rows: Rows) -> Rows:
    """Run a model's bytes on rows float32 `[N, features]`, on one thread. Returns float32 `[N]`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {INPUT: rows})
    flat: Rows = scores[:, 0]
    return flat


def _constants(**values: NDArray[np.generic]) -> tuple[TensorProto, ...]:
    tensors = list[TensorProto]()
    for name, value in values.items():
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return tuple(tensors)


def _scalar(value: float) -> Rows:
    return np.array(value, np.float32)
