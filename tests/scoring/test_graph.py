"""Values in other files and operators of other domains are refused, however deep in the graph. Input,
output and features must be those of the manifest.
"""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import onnx
import pytest
from onnx import TensorProto, helper

from tests.scoring.building import manifest_of, mlp, model, trees
from workers.scoring.graph import check_graph
from workers.scoring.manifest import Manifest
from workers.scoring.refusal import ModelReason, ModelRefused

Build = Callable[[], onnx.ModelProto]


def manifest(**changes: Any) -> Manifest:
    return msgspec.json.decode(json.dumps(manifest_of(b"", **changes)), type=Manifest)


def refused(built: onnx.ModelProto, **changes: Any) -> ModelRefused:
    with pytest.raises(ModelRefused) as caught:
        check_graph(built.SerializeToString(), manifest(**changes))
    return caught.value


def external(name: str = "elsewhere") -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def identity(*more: onnx.NodeProto) -> onnx.ModelProto:
    reduce = helper.make_node("ReduceMean", ["features"], ["score"], axes=[1])
    return model([*more, reduce])


def subgraph(
    *nodes: onnx.NodeProto, constants: tuple[onnx.TensorProto, ...] = ()
) -> onnx.GraphProto:
    return helper.make_graph(nodes, "branch", [], [], constants)


def branching(graph: onnx.GraphProto) -> onnx.NodeProto:
    return helper.make_node(
        "If", ["condition"], ["chosen"], then_branch=graph, else_branch=subgraph()
    )


def in_initializer() -> onnx.ModelProto:
    built = identity()
    built.graph.initializer.append(external())
    return built


def with_location_but_no_flag() -> onnx.ModelProto:
    built = in_initializer()
    built.graph.initializer[0].data_location = TensorProto.DEFAULT
    return built


def with_flag_but_no_location() -> onnx.ModelProto:
    built = in_initializer()
    built.graph.initializer[0].ClearField("external_data")
    return built


def in_attribute() -> onnx.ModelProto:
    return identity(helper.make_node("Constant", [], ["c"], value=external()))


def in_list_attribute() -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.add(name="values", type=onnx.AttributeProto.TENSORS).tensors.append(external())
    return identity(node)


def in_sparse_initializer() -> onnx.ModelProto:
    built = identity()
    built.graph.sparse_initializer.add(values=external(), dims=[1])
    return built


def in_sparse_attribute() -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["c"])
    sparse = onnx.SparseTensorProto(values=external(), dims=[1])
    node.attribute.add(
        name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR
    ).sparse_tensor.CopyFrom(sparse)
    return identity(node)


def in_subgraph() -> onnx.ModelProto:
    return identity(branching(subgraph(constants=(external(),))))


def in_subgraph_of_subgraph() -> onnx.ModelProto:
    return identity(branching(subgraph(branching(subgraph(constants=(external(),))))))


def in_function() -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["c"], value=external())
    return with_function(helper.make_function("", "Local", [], ["c"], [constant], []))


def in_training() -> onnx.ModelProto:
    built = identity()
    built.training_info.add().algorithm.CopyFrom(subgraph(constants=(external(),)))
    return built


def with_function(function: onnx.FunctionProto) -> onnx.ModelProto:
    built = identity()
    built.functions.append(function)
    return built


@pytest.mark.parametrize(
    "build",
    [
        in_initializer,
        with_location_but_no_flag,
        with_flag_but_no_location,
        in_attribute,
        in_list_attribute,
        in_sparse_initializer,
        in_sparse_attribute,
        in_subgraph,
        in_subgraph_of_subgraph,
        in_function,
        in_training,
    ],
)
def test_values_in_another_file_are_refused_at_any_depth(build: Build) -> None:
    assert refused(build()).reason is ModelReason.EXTERNAL_DATA


FOREIGN = helper.make_node("Exec", ["features"], ["x"], domain="com.example")


def foreign_in_graph() -> onnx.ModelProto:
    return identity(FOREIGN)


def foreign_in_subgraph_of_subgraph() -> onnx.ModelProto:
    return identity(branching(subgraph(branching(subgraph(FOREIGN)))))


def foreign_in_function() -> onnx.ModelProto:
    return with_function(helper.make_function("", "Local", [], ["x"], [FOREIGN], []))


def foreign_import() -> onnx.ModelProto:
    built = identity()
    built.opset_import.add(domain="com.microsoft", version=1)
    return built


def foreign_import_of_function() -> onnx.ModelProto:
    return with_function(
        helper.make_function("", "Local", [], [], [], [helper.make_opsetid("com.example", 1)])
    )


def call_of_local_function() -> onnx.ModelProto:
    built = identity(helper.make_node("Local", ["features"], ["x"], domain="mine"))
    built.functions.append(helper.make_function("mine", "Local", ["a"], ["a"], [], []))
    return built


@pytest.mark.parametrize(
    "build",
    [
        foreign_in_graph,
        foreign_in_subgraph_of_subgraph,
        foreign_in_function,
        foreign_import,
        foreign_import_of_function,
        call_of_local_function,
    ],
)
def test_an_operator_of_another_domain_is_refused_at_any_depth(build: Build) -> None:
    refusal = refused(build())
    assert refusal.reason is ModelReason.OPERATOR_DOMAIN
    assert "expected ai.onnx or ai.onnx.ml" in refusal.message


def renamed(kind: str) -> onnx.ModelProto:
    built = identity()
    getattr(built.graph, kind)[0].name = "other"
    return built


def retyped() -> onnx.ModelProto:
    built = identity()
    built.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    return built


def fixed_batch() -> onnx.ModelProto:
    built = identity()
    built.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 50
    return built


def second_input() -> onnx.ModelProto:
    built = identity()
    built.graph.input.append(helper.make_tensor_value_info("temperature", TensorProto.FLOAT, [1]))
    return built


def not_a_tensor() -> onnx.ModelProto:
    built = identity()
    kind = helper.make_sequence_type_proto(
        helper.make_tensor_type_proto(TensorProto.FLOAT, [None, 1])
    )
    built.graph.output[0].CopyFrom(helper.make_value_info("score", kind))
    return built


def without_a_shape() -> onnx.ModelProto:
    built = identity()
    built.graph.output[0].type.tensor_type.ClearField("shape")
    return built


def without_a_type() -> onnx.ModelProto:
    built = identity()
    built.graph.output[0].ClearField("type")
    return built


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: renamed("input"),
            "input: got 'other' float32 [null,32], expected 'features' float32 [null,32]",
        ),
        (
            lambda: renamed("output"),
            "output: got 'other' float32 [null,1], expected 'score' float32 [null,1]",
        ),
        (retyped, "input: got 'features' float64 [null,32], expected"),
        (fixed_batch, "input: got 'features' float32 [50,32], expected"),
        (
            second_input,
            "input: got 'features' float32 [null,32], 'temperature' float32 [1], expected",
        ),
        (not_a_tensor, "output: got 'score' seq(tensor(float32)), expected"),
        (without_a_shape, "output: got 'score' float32 without a shape, expected"),
        (without_a_type, "output: got 'score' (no type), expected"),
        (lambda: mlp(width=31), "input: got 'features' float32 [null,31], expected"),
        (
            lambda: model([], output=[None]),
            "output: got 'score' float32 [null], expected 'score' float32 [null,1]",
        ),
        (onnx.ModelProto, "input: got none, expected"),
    ],
)
def test_a_signature_that_is_not_the_manifests_is_refused(build: Build, message: str) -> None:
    refusal = refused(build())
    assert refusal.reason is ModelReason.SHAPE
    assert message in refusal.message


@pytest.mark.parametrize("build", [mlp, trees, lambda: mlp(gemm=False)])
def test_a_valid_graph_passes(build: Build) -> None:
    check_graph(build().SerializeToString(), manifest())


def test_constants_that_old_exporters_list_as_inputs_do_not_count_as_inputs() -> None:
    built = mlp()
    built.graph.input.append(helper.make_tensor_value_info("w0", TensorProto.FLOAT, [32, 32]))
    check_graph(built.SerializeToString(), manifest())


def test_a_named_batch_dimension_is_a_free_one() -> None:
    built = mlp()
    for value in (built.graph.input[0], built.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    check_graph(built.SerializeToString(), manifest())


def test_outputs_beside_the_score_are_allowed() -> None:
    built = mlp()
    built.graph.output.insert(0, helper.make_tensor_value_info("y0", TensorProto.FLOAT, [None, 32]))
    check_graph(built.SerializeToString(), manifest())


@pytest.mark.parametrize("raw", [b"not a model", b"\x08", mlp().SerializeToString()[:-10]])
def test_bytes_that_are_not_a_model_are_refused(raw: bytes) -> None:
    with pytest.raises(ModelRefused, match="no ONNX model") as caught:
        check_graph(raw, manifest())
    assert caught.value.reason is ModelReason.UNREADABLE


def carrying(names: str) -> onnx.ModelProto:
    built = mlp(width=2)
    built.metadata_props.add(key="trimtab.features", value=names)
    return built


def test_a_file_that_carries_the_manifests_features_in_order_passes() -> None:
    check_graph(carrying('["f0", "f1"]').SerializeToString(), manifest(width=2))


@pytest.mark.parametrize("names", ['["f1", "f0"]', '["f0"]', "f0,f1", ""])
def test_a_file_that_carries_other_features_than_the_manifest_is_refused(names: str) -> None:
    refusal = refused(carrying(names), width=2)
    assert refusal.reason is ModelReason.FEATURES
    assert 'expected ["f0","f1"] as in the manifest' in refusal.message
