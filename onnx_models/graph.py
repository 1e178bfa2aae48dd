"""The ONNX graph of an objective: `features` held to their bounds, a learned part to `raw`, a
calibration to `score`.

Only operators of ai.onnx and ai.onnx.ml, no data outside the file. A row's score has the same bytes
whatever the batch: each operator here sums a row in an order that does not depend on the other
rows, and the calibration counts in whole numbers, which no order of summing can round.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

INPUT, BOUNDED, RAW, OUTPUT = "features", "bounded", "raw", "score"
FEATURES_KEY = "trimtab.features"
KNOTS = 64  # a power of two, so that dividing by it is exact
OPSETS = (helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1))
IR_VERSION = 8

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """Nodes of a graph and the constants that they read."""

    nodes: tuple[NodeProto, ...]
    constants: tuple[TensorProto, ...] = ()

    def __add__(self, other: "Part") -> "Part":
        return Part(self.nodes + other.nodes, self.constants + other.constants)


def bounds(low: Rows, high: Rows) -> Part:
    """Every feature held to its bounds `[F]`: no finite number, however large, leads outside what
    was trained for.
    """
    nodes = (
        helper.make_node("Max", [INPUT, "lowest"], ["at_least"]),
        helper.make_node("Min", ["at_least", "highest"], [BOUNDED]),
    )
    return Part(nodes, _constants(lowest=low, highest=high))


def mlp(hidden: tuple[Rows, Rows], last: tuple[Rows, Rows]) -> Part:
    """raw = relu(bounded @ W1 + b1) @ W2 + b2, for (W1 `[F, H]`, b1 `[H]`) and (W2 `[H, 1]`, b2
    `[1]`).
    """
    nodes = (
        helper.make_node("Gemm", [BOUNDED, "w1", "b1"], ["before"]),
        helper.make_node("Relu", ["before"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "w2", "b2"], [RAW]),
    )
    return Part(nodes, _constants(w1=hidden[0], b1=hidden[1], w2=last[0], b2=last[1]))


def trees(converted: onnx.ModelProto) -> Part:
    """The one TreeEnsembleRegressor of a converted scikit-learn model."""
    (node,) = converted.graph.node
    attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
    rewired = helper.make_node(node.op_type, [BOUNDED], [RAW], domain=node.domain)
    rewired.attribute.extend(attributes)
    return Part((rewired,))


def calibration(trained_on: NDArray[np.floating]) -> Part:
    """The share of the training posts whose raw number lies below, interpolated between KNOTS + 1
    quantiles.

    score = (i + (raw - k[i]) / (k[i+1] - k[i])) / KNOTS where k[i] < raw <= k[i+1]: continuous,
    monotone, within [0, 1]. The outermost knots lie a quarter of the range beyond the training's
    extremes, so that a post a little beyond them still has a place of its own. Raises ValueError
    where the raw numbers have too few values to rank.
    """
    knots = _knots(trained_on)
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
        inner=knots[None, 1:-1], lows=knots[:-1], widths=width, zero=_scalar(0), one=_scalar(1)
    )
    return Part(
        nodes, constants + _constants(knots=_scalar(KNOTS), columns=np.array([1], np.int64))
    )


def _knots(trained_on: NDArray[np.floating]) -> Rows:
    quantiles = np.quantile(trained_on.astype(np.float64), np.arange(KNOTS + 1) / KNOTS)
    margin = (quantiles[-1] - quantiles[0]) / 4
    quantiles[0] -= margin
    quantiles[-1] += margin
    knots: Rows = quantiles.astype(np.float32)
    if not (np.diff(knots) > 0).all():
        raise ValueError(
            f"{len(set(trained_on.tolist()))} raw numbers: expected {KNOTS} quantiles that differ"
        )
    return knots


def build(part: Part, output: str, features: Sequence[str]) -> bytes:
    """A checked model: float32 `features` `[N, len(features)]` to float32 `output` `[N, 1]`, as
    bytes.
    """
    graph = helper.make_graph(
        part.nodes,
        "objective",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, len(features)])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, 1])],
        part.constants,
    )
    model = helper.make_model(
        graph, opset_imports=OPSETS, ir_version=IR_VERSION, producer_name="trimtab"
    )
    helper.set_model_props(model, {FEATURES_KEY: json.dumps(list(features), separators=(",", ":"))})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def run(model: bytes, rows: Rows) -> Rows:
    """Run a model's bytes on `[N, features]`, one thread: float32 `[N]`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {INPUT: rows})
    flat: Rows = scores[:, 0]
    return flat


def _constants(**values: NDArray[np.generic]) -> tuple[TensorProto, ...]:
    return tuple(
        numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in values.items()
    )


def _scalar(value: float) -> Rows:
    return np.array(value, np.float32)
