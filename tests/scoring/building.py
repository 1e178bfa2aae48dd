"""Small ONNX models, and folders of versions. Their manifests are right unless a test changes them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from workers.ranking.features import FeatureSet

Floats = NDArray[np.float32]
Node = onnx.NodeProto
FEATURES = tuple(f"f{i}" for i in range(32))
WIDE = FeatureSet("wide", FEATURES)


def random_rows(count: int, width: int = 32, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def model(
    nodes: Sequence[Node],
    constants: Mapping[str, NDArray[Any]] | None = None,
    *,
    width: int = 32,
    output: Sequence[int | None] = (None, 1),
    **changes: Any,
) -> onnx.ModelProto:
    """A graph from `features` to `score`."""
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **changes)


def mlp(
    width: int = 32, hidden: Sequence[int] = (32, 16), seed: int = 0, gemm: bool = True
) -> onnx.ModelProto:
    """Gemm (or MatMul and Add) with Relu between and a Sigmoid at the end."""
    random = np.random.default_rng(seed)
    constants: dict[str, NDArray[Any]] = {}
    nodes: list[Node] = []
    value = "features"
    sizes = (width, *hidden, 1)
    for layer, (rows, columns) in enumerate(pairwise(sizes)):
        weights = random.normal(size=(rows, columns)) / np.sqrt(rows)
        constants[f"w{layer}"] = weights.astype(np.float32)
        constants[f"b{layer}"] = random.normal(size=columns).astype(np.float32)
        if gemm:
            nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], [f"y{layer}"]))
        else:
            nodes.append(helper.make_node("MatMul", [value, f"w{layer}"], [f"m{layer}"]))
            nodes.append(helper.make_node("Add", [f"m{layer}", f"b{layer}"], [f"y{layer}"]))

        last = layer == len(sizes) - 2
        value = "score" if last else f"a{layer}"
        nodes.append(helper.make_node("Sigmoid" if last else "Relu", [f"y{layer}"], [value]))
    return model(nodes, constants, width=width)


def trees(
    count: int = 100, depth: int = 4, width: int = 32, seed: int = 0, leaves: int | None = None
) -> onnx.ModelProto:
    """An ensemble of trees with random splits: complete ones, or with this many `leaves` each."""
    random = np.random.default_rng(seed)
    inner = (leaves or 2**depth) - 1
    nodes = 2 * inner + 1
    split = np.tile(np.arange(nodes) < inner, count)
    ids = np.repeat(np.arange(count), nodes)
    places = np.tile(np.arange(nodes), count)
    all_leaves = int((~split).sum())
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["score"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=ids,
        nodes_nodeids=places,
        nodes_featureids=random.integers(0, width, len(ids)),
        nodes_values=random.normal(size=len(ids)).astype(np.float32),
        nodes_modes=np.where(split, "BRANCH_LEQ", "LEAF").tolist(),
        nodes_truenodeids=np.where(split, 2 * places + 1, 0),
        nodes_falsenodeids=np.where(split, 2 * places + 2, 0),
        target_treeids=ids[~split],
        target_nodeids=places[~split],
        target_ids=np.zeros(all_leaves, np.int64),
        target_weights=random.normal(size=all_leaves).astype(np.float32),
    )
    return model([node], width=width)


def linear_then(operator: str, columns: int = 1, **attributes: Any) -> onnx.ModelProto:
    """The absolute value of a matrix product, `operator`, and the sum of each row's columns."""
    weights = random_rows(32, columns, seed=1) / np.float32(4)
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["product"]),
        helper.make_node("Abs", ["product"], ["positive"]),
        helper.make_node(operator, ["positive"], ["changed"], **attributes),
        helper.make_node("ReduceSum", ["changed", "axis"], ["score"], keepdims=1),
    ]
    return model(nodes, {"w": weights, "axis": np.array([1], np.int64)})


def embedding(size: int = 10, width: int = 32, seed: int = 0) -> onnx.ModelProto:
    """A linear model that looks up `f1` in a table of `size` numbers. onnxruntime raises past the
    end of the table.
    """
    nodes = [
        helper.make_node("Gather", ["features", "one"], ["category"], axis=1),
        helper.make_node("Cast", ["category"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "place"], ["looked_up"]),
        helper.make_node("MatMul", ["features", "w"], ["linear"]),
        helper.make_node("Add", ["looked_up", "linear"], ["score"]),
    ]
    table = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    weights = random_rows(width, 1, seed) * np.float32(0.1)
    return model(nodes, {"one": np.array([1]), "table": table, "w": weights}, width=width)


def dividing(width: int = 32) -> onnx.ModelProto:
    """Divides 1000 by the whole part of `f1`, and fails if that is 0."""
    nodes = [
        helper.make_node("Gather", ["features", "one"], ["divisor"], axis=1),
        helper.make_node("Cast", ["divisor"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Div", ["thousand", "whole"], ["share"]),
        helper.make_node("Cast", ["share"], ["score"], to=TensorProto.FLOAT),
    ]
    return model(nodes, {"one": np.array([1]), "thousand": np.array([1000])}, width=width)


def dropping(width: int = 32, seed: int = 0) -> onnx.ModelProto:
    """A linear model that gives no score at all for a row whose `f1` is 9 or more."""
    nodes = [
        helper.make_node("Gather", ["features", "one"], ["category"], axis=1),
        helper.make_node("Less", ["category", "most"], ["is_small"]),
        helper.make_node("Reshape", ["is_small", "flat"], ["kept"]),
        helper.make_node("MatMul", ["features", "w"], ["linear"]),
        helper.make_node("Compress", ["linear", "kept"], ["score"], axis=0),
    ]
    constants = {"one": np.array([1]), "most": np.array(9, np.float32), "flat": np.array([-1])}
    return model(nodes, constants | {"w": random_rows(width, 1, seed)}, width=width)


def run(built: onnx.ModelProto, rows: Floats) -> list[float]:
    """The scores of plain onnxruntime on one thread. On several threads it sums the trees of an
    ensemble in another order.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        built.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    scores: list[float] = session.run(["score"], {"features": rows})[0].reshape(-1).tolist()
    return scores


def golden_rows(built: onnx.ModelProto, rows: Floats) -> list[dict[str, Any]]:
    """These rows with their scores, as a manifest has them."""
    golden = list[dict[str, Any]]()
    for row, score in zip(rows, run(built, rows), strict=True):
        golden.append({"features": row.tolist(), "score": score})
    return golden


def golden_of(built: onnx.ModelProto, width: int = 32, count: int = 5) -> list[dict[str, Any]]:
    """Golden rows of random features."""
    return golden_rows(built, random_rows(count, width, seed=7))


def manifest_of(raw: bytes, width: int = 32, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "objective": "quality",
        "version": 1,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "input": {"name": "features", "dtype": "float32", "shape": [None, width]},
        "output": {"name": "score", "dtype": "float32", "shape": [None, 1]},
        "features": [f"f{i}" for i in range(width)],
        "golden": [{"features": [0.5] * width, "score": 0.0}],
        "licence": "CC0-1.0",
    }
    return values | changes


def write_version(root: Path, raw: bytes, manifest: Mapping[str, Any]) -> Path:
    """Write `<root>/<objective>/<version>/` with any bytes and any manifest. Returns the folder."""
    folder = root / str(manifest["objective"]) / str(manifest["version"])
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(raw)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def add_model(
    root: Path, built: onnx.ModelProto, objective: str = "quality", version: int = 1, **changes: Any
) -> Path:
    """Write a version that verifies, unless `changes` of its manifest break it."""
    raw = built.SerializeToString()
    width = built.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    if "golden" not in changes:
        changes["golden"] = golden_of(built, width)
    manifest = manifest_of(raw, width, objective=objective, version=version, **changes)
    return write_version(root, raw, manifest)


def _loop_body(grows: bool) -> onnx.GraphProto:
    """The body of a loop that goes on as long as it did. If it `grows`, each turn doubles `value`."""
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    going = helper.make_tensor_value_info("going", TensorProto.BOOL, [])
    going_on = helper.make_tensor_value_info("going_on", TensorProto.BOOL, [])
    value = helper.make_tensor_value_info("value", TensorProto.FLOAT, None)
    changed = helper.make_tensor_value_info("changed", TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("Identity", ["going"], ["going_on"]),
        helper.make_node("Concat", ["value", "value"] if grows else ["value"], ["changed"], axis=0),
    ]
    return helper.make_graph(nodes, "loop", [turn, going, value], [going_on, changed])


def endless(grows: bool = False) -> onnx.ModelProto:
    """A loop whose condition is always true. If it `grows`, each turn takes twice the memory."""
    body = _loop_body(grows)
    nodes = [
        helper.make_node("Loop", ["", "always", "features"], ["looped"], body=body),
        helper.make_node("ReduceSum", ["looped", "axis"], ["score"], keepdims=1),
    ]
    return model(nodes, {"always": np.array(True), "axis": np.array([1], np.int64)})


def endless_past(limit: float, width: int = 32, seed: int = 0) -> onnx.ModelProto:
    """An MLP that scores every row, but never ends if the first feature of a row is past a limit."""
    nodes = [
        helper.make_node("ReduceMax", ["features"], ["most"], axes=[0], keepdims=0),
        helper.make_node("Gather", ["most", "first"], ["most_first"]),
        helper.make_node("Greater", ["most_first", "limit"], ["is_past"]),
        helper.make_node(
            "Loop", ["", "is_past", "features"], ["looped"], body=_loop_body(grows=False)
        ),
    ]
    built = mlp(width, seed=seed)
    for node in built.graph.node:
        node.input[:] = ["looped" if name == "features" else name for name in node.input]
        nodes.append(node)
    graph = helper.make_graph(
        nodes,
        "model",
        built.graph.input,
        built.graph.output,
        [
            *built.graph.initializer,
            numpy_helper.from_array(np.array(0, np.int64), "first"),
            numpy_helper.from_array(np.array(limit, np.float32), "limit"),
        ],
    )
    built.graph.CopyFrom(graph)
    return built


def hungry(count: int = 2**33) -> onnx.ModelProto:
    """A sum over `count` float32 numbers that are in memory at the same time."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("ReduceSum", ["features", "axis"], ["sum"], keepdims=1),
        helper.make_node("Add", ["sum", "zero"], ["score"]),
    ]
    return model(nodes, {"shape": np.array([count], np.int64), "axis": np.array([1], np.int64)})


def add_endless(root: Path, objective: str = "quality", version: int = 1) -> Path:
    """A version whose only fault is that it never ends."""
    return add_model(root, endless(), objective, version, golden=golden_of(mlp()))
