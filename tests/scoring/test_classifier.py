"""Classifiers as trainers export them are reduced to the probability of one class, by its label."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier

from tests.scoring.building import Floats, add_model, golden_rows, model, random_rows
from workers.scoring.classifier import choices_of, keep_class
from workers.scoring.refusal import ModelReason, ModelRefused
from workers.scoring.verify import verify

WIDTH = 4
ROWS = random_rows(200, WIDTH)
KINDS = np.digitize(ROWS[:, 0] + ROWS[:, 1] / 2, [-0.5, 0.5])
LABELS: dict[str, Sequence[int | str]] = {
    "0 and 1": (0, 1),
    "1 and 2": (1, 2),
    "negative": (-1, 1),
    "three": (0, 1, 2),
    "words": ("ham", "spam"),
    "three words": ("low", "mid", "top"),
    "words that look like numbers": ("01", "1"),
    "words of another script": ("да", "нет"),
}


def labels_of(raw: bytes) -> list[str]:
    return [choice.label for choice in choices_of(raw)]


def session_of(raw: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"])


def scores_of(raw: bytes, label: object) -> Floats:
    """The scores of one class, float32 `[N]`. Checks that the reduced file is valid."""
    reduced = keep_class(raw, str(label))
    onnx.checker.check_model(onnx.ModelProto.FromString(reduced), full_check=True)

    session = session_of(reduced)
    (output,) = session.get_outputs()
    assert output.type == "tensor(float)"

    (column,) = session.run(None, {session.get_inputs()[0].name: ROWS})
    assert column.shape == (len(ROWS), 1)
    scores: Floats = column[:, 0]
    return scores


def check_every_class(raw: bytes, probabilities: Any, labels: Sequence[int | str]) -> None:
    assert labels_of(raw) == [str(label) for label in labels]
    for column, label in enumerate(labels):
        assert np.abs(scores_of(raw, label) - probabilities[:, column]).max() < 1e-5


# scikit-learn's, by skl2onnx


TRAINED: dict[str, Callable[[], Any]] = {
    "forest": lambda: RandomForestClassifier(5, max_depth=3, random_state=0),
    "logistic": LogisticRegression,
    "network": lambda: MLPClassifier((4,), max_iter=20, random_state=0),
    "bag of trees": lambda: BaggingClassifier(
        DecisionTreeClassifier(max_depth=2), 3, random_state=0
    ),
}


def trained(kind: str, labels: Sequence[int | str], **options: Any) -> tuple[bytes, Any]:
    """A classifier's file, and the trainer's own probabilities `[N, classes]`."""
    learner = TRAINED[kind]().fit(ROWS, np.array(labels)[KINDS % len(labels)])
    exported = convert_sklearn(
        learner,
        initial_types=[("features", FloatTensorType([None, WIDTH]))],
        target_opset={"": 17, "ai.onnx.ml": 3},
        options=options,
    )
    return exported.SerializeToString(), learner.predict_proba(ROWS)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("labels", [(0, 1), ("low", "mid", "top")], ids=["numbers", "words"])
@pytest.mark.parametrize("options", [{}, {"zipmap": False}], ids=["mappings", "a table"])
def test_each_class_of_a_scikit_learn_classifier_can_be_kept(
    kind: str, labels: Sequence[int | str], options: dict[str, Any]
) -> None:
    raw, probabilities = trained(kind, labels, **options)
    check_every_class(raw, probabilities, labels)


def test_if_each_class_has_an_output_it_is_chosen_by_the_name_of_the_output() -> None:
    raw, probabilities = trained("logistic", (0, 1, 2), zipmap="columns")
    assert labels_of(raw) == ["i0", "i1", "i2"]
    (scores,) = session_of(keep_class(raw, "i2")).run(None, {"features": ROWS})
    assert np.abs(scores - probabilities[:, 2]).max() < 1e-5


# As other trainers write them


def label_attribute(labels: Sequence[int | str]) -> dict[str, Any]:
    """The attribute of an operator that names its classes."""
    if isinstance(labels[0], str):
        return {"classlabels_strings": labels}
    return {"classlabels_int64s": labels}


def tree(labels: Sequence[int | str], outputs: Sequence[str]) -> onnx.NodeProto:
    """A stump over the first feature, with a leaf's weight for each class."""
    classes = len(labels)
    return helper.make_node(
        "TreeEnsembleClassifier",
        ["features"],
        outputs,
        domain="ai.onnx.ml",
        post_transform="SOFTMAX",
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_values=[0.25, 0.0, 0.0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        class_treeids=[0] * 2 * classes,
        class_nodeids=[1] * classes + [2] * classes,
        class_ids=[*range(classes)] * 2,
        class_weights=[float(weight) for weight in (*range(classes), *range(classes, 0, -1))],
        **label_attribute(labels),
    )


def zip_map(
    labels: Sequence[int | str], table: str, output: str = "probabilities"
) -> onnx.NodeProto:
    return helper.make_node(
        "ZipMap", [table], [output], domain="ai.onnx.ml", **label_attribute(labels)
    )


def mappings(labels: Sequence[int | str], name: str = "probabilities") -> onnx.ValueInfoProto:
    key = TensorProto.STRING if isinstance(labels[0], str) else TensorProto.INT64
    value = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    mapping = helper.make_map_type_proto(key, value)
    return helper.make_value_info(name, helper.make_sequence_type_proto(mapping))


def table(
    columns: int | None, name: str = "probabilities", dtype: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, [None, columns])


def label(
    labels: Sequence[int | str], shape: Sequence[int | str | None] = (None,)
) -> onnx.ValueInfoProto:
    dtype = TensorProto.STRING if isinstance(labels[0], str) else TensorProto.INT64
    return helper.make_tensor_value_info("label", dtype, shape)


def file_of(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[onnx.ValueInfoProto],
    opsets: dict[str, int],
    ir_version: int,
    rows: str | None = None,
) -> bytes:
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, [rows, WIDTH])
    graph = helper.make_graph(nodes, "classifier", [features], outputs)
    opset_imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    built = helper.make_model(graph, opset_imports=opset_imports, ir_version=ir_version)
    raw: bytes = built.SerializeToString()
    return raw


def as_catboost(labels: Sequence[int | str]) -> bytes:
    """Format 3, and no operators of ONNX itself."""
    nodes = [tree(labels, ["label", "probability_tensor"]), zip_map(labels, "probability_tensor")]
    return file_of(nodes, [label(labels, ["N"]), mappings(labels)], {"ai.onnx.ml": 2}, 3, rows="N")


def as_lightgbm(labels: Sequence[int | str]) -> bytes:
    """Format 4, operators of 2018, and a label of shape [1]."""
    if isinstance(labels[0], str):
        opset = 8
        last = helper.make_node("Identity", ["lgbmlabel"], ["label"])
    else:
        opset = 9
        last = helper.make_node("Cast", ["lgbmlabel"], ["label"], to=TensorProto.INT64)

    nodes = [
        tree(labels, ["label_tensor", "probability_tensor"]),
        helper.make_node("Identity", ["label_tensor"], ["lgbmlabel"]),
        helper.make_node("Identity", ["probability_tensor"], ["lgbmprobabilities"]),
        last,
        zip_map(labels, "lgbmprobabilities"),
    ]
    outputs = [label(labels, [1]), mappings(labels)]
    return file_of(nodes, outputs, {"": opset, "ai.onnx.ml": 1}, 4)


def as_xgboost(labels: Sequence[int | str]) -> bytes:
    """A table beside the label, and no operators of ONNX itself."""
    nodes = [tree(labels, ["label", "probabilities"])]
    return file_of(nodes, [label(labels), table(len(labels))], {"ai.onnx.ml": 1}, 8)


BUILT = {"catboost": as_catboost, "lightgbm": as_lightgbm, "xgboost": as_xgboost}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("build", BUILT.values(), ids=BUILT)
def test_each_class_of_other_trainers_files_can_be_kept(
    build: Callable[[Sequence[int | str]], bytes], labels: Sequence[int | str]
) -> None:
    raw = build(labels)
    (probabilities,) = session_of(raw).run(["probabilities"], {"features": ROWS})
    if not isinstance(probabilities, np.ndarray):
        probabilities = np.array([list(mapping.values()) for mapping in probabilities])
    check_every_class(raw, probabilities, labels)


@pytest.mark.parametrize("build", BUILT.values(), ids=BUILT)
def test_a_kept_class_verifies_as_a_version(
    build: Callable[[Sequence[int | str]], bytes], tmp_path: Path
) -> None:
    raw = build((0, 1))
    reduced = keep_class(raw, "1")
    assert keep_class(raw, "1") == reduced

    built = onnx.ModelProto.FromString(reduced)
    assert built.SerializeToString() == reduced
    verified = verify(add_model(tmp_path, built, golden=golden_rows(built, ROWS[:5])))
    assert verified.manifest.output.name == "score"


def test_only_what_the_score_needs_is_kept() -> None:
    reduced = onnx.ModelProto.FromString(keep_class(as_lightgbm(("ham", "spam")), "ham"))
    assert [node.op_type for node in reduced.graph.node] == [
        "TreeEnsembleClassifier",
        "Identity",
        "Gather",
        "Cast",
    ]
    assert [value.name for value in reduced.graph.output] == ["score"]


def test_the_names_of_the_features_in_the_file_are_kept() -> None:
    built = onnx.ModelProto.FromString(as_catboost((0, 1)))
    helper.set_model_props(built, {"trimtab.features": '["a", "b", "c", "d"]'})
    reduced = onnx.ModelProto.FromString(keep_class(built.SerializeToString(), "0"))
    (metadata,) = reduced.metadata_props
    assert (metadata.key, metadata.value) == ("trimtab.features", '["a", "b", "c", "d"]')


def test_what_a_graph_inside_an_operator_reads_is_kept() -> None:
    """The probabilities come from a branch that reads two values of the outer graph."""

    def branch(weights: str) -> onnx.GraphProto:
        product = helper.make_node("MatMul", ["features", weights], ["out"])
        output = helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, 2])
        return helper.make_graph([product], weights, [], [output])

    nodes = [
        helper.make_node(
            "If", ["always"], ["table"], then_branch=branch("w"), else_branch=branch("v")
        ),
        zip_map((0, 1), "table", "score"),
    ]
    constants = {
        "always": np.array(True),
        "w": random_rows(WIDTH, 2, 1),
        "v": random_rows(WIDTH, 2, 2),
    }
    built = model(nodes, constants | {"unused": random_rows(3, 3)}, width=WIDTH)
    built.graph.output[0].CopyFrom(mappings((0, 1), "score"))
    raw = built.SerializeToString()

    reduced = onnx.ModelProto.FromString(keep_class(raw, "1"))
    assert sorted(tensor.name for tensor in reduced.graph.initializer) == [
        "always",
        "score_column",
        "v",
        "w",
    ]
    expected = (ROWS @ constants["w"])[:, 1]
    assert np.abs(scores_of(raw, 1) - expected).max() < 1e-5


# A table alone, and files without anything to choose from


def bare(*outputs: onnx.ValueInfoProto, dtype: int = TensorProto.FLOAT) -> bytes:
    """A softmax over three columns, under the names of all these outputs."""
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["p"]),
        helper.make_node("Softmax", ["p"], ["s"]),
    ]
    nodes += [helper.make_node("Cast", ["s"], [output.name], to=dtype) for output in outputs]
    built = model(nodes, {"w": random_rows(WIDTH, 3)}, width=WIDTH)
    del built.graph.output[:]
    built.graph.output.extend(outputs)
    raw: bytes = built.SerializeToString()
    return raw


def test_columns_without_labels_are_chosen_by_their_number() -> None:
    raw = bare(table(3))
    assert labels_of(raw) == ["0", "1", "2"]
    assert np.abs(sum(scores_of(raw, column) for column in range(3)) - 1).max() < 1e-6


def test_if_there_are_several_tables_the_label_begins_with_the_table() -> None:
    assert labels_of(bare(table(3, "a"), table(3, "b"))) == [
        "a:0",
        "a:1",
        "a:2",
        "b:0",
        "b:1",
        "b:2",
    ]
    assert scores_of(bare(table(3, "a"), table(3, "b")), "b:1").shape == (len(ROWS),)


def test_a_table_of_float64_is_made_float32() -> None:
    raw = bare(table(3, dtype=TensorProto.DOUBLE), dtype=TensorProto.DOUBLE)
    assert scores_of(raw, 2).dtype == np.float32


def test_a_value_of_the_graph_that_is_called_score_keeps_its_name() -> None:
    nodes = [helper.make_node("MatMul", ["features", "w"], ["score"]), zip_map((0, 1), "score")]
    built = model(nodes, {"w": random_rows(WIDTH, 2)}, width=WIDTH)
    built.graph.output[0].CopyFrom(mappings((0, 1)))
    reduced = onnx.ModelProto.FromString(keep_class(built.SerializeToString(), "1"))
    assert [value.name for value in reduced.graph.output] == ["score_0"]


NOTHING = {
    "one score": bare(helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])),
    "a table of no known width": bare(table(None)),
    "a table of width -1": bare(table(-1)),
    "a list of tables": bare(
        helper.make_value_info(
            "t", helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [None, 2]))
        )
    ),
}


@pytest.mark.parametrize("raw", NOTHING.values(), ids=NOTHING)
def test_if_there_is_no_class_none_can_be_kept(raw: bytes) -> None:
    assert labels_of(raw) == []
    with pytest.raises(ModelRefused) as refused:
        keep_class(raw, "1")
    assert (refused.value.reason, refused.value.message) == (
        ModelReason.SHAPE,
        "--class: got '1', expected none: the file has no classes to choose from",
    )


@pytest.mark.parametrize("asked", ["", "3", "1.0", "True", " 1", "x" * 1000])
def test_a_label_that_is_not_a_class_is_refused_with_the_labels(asked: str) -> None:
    with pytest.raises(ModelRefused) as refused:
        keep_class(as_catboost((0, 1)), asked)
    assert refused.value.message == f"--class: got {asked[:80]!r}, expected one of: 0, 1"


def test_of_many_labels_the_first_are_named() -> None:
    with pytest.raises(ModelRefused, match=r"one of: 0, 1, .*, 19, and 980 more$"):
        keep_class(as_catboost(range(1000)), "x")


def test_values_in_another_file_are_not_read(tmp_path: Path) -> None:
    built = onnx.ModelProto.FromString(bare(table(3)))
    weights = built.graph.initializer[0]
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../secret")
    with pytest.raises(ModelRefused) as refused:
        keep_class(built.SerializeToString(), "1")
    assert refused.value.reason is ModelReason.EXTERNAL_DATA


def odd(*nodes: onnx.NodeProto) -> bytes:
    built = model(nodes, {"w": random_rows(WIDTH, 2)}, width=WIDTH)
    built.graph.output[0].CopyFrom(mappings((0, 1)))
    built.graph.output.append(table(2, "more"))
    built.graph.output.append(label((0, 1)))
    raw: bytes = built.SerializeToString()
    return raw


ODD = {
    "a circle": odd(helper.make_node("Identity", ["probabilities"], ["probabilities"])),
    "a larger circle": odd(
        helper.make_node("Identity", ["a"], ["probabilities"]),
        helper.make_node("Identity", ["probabilities"], ["a"]),
    ),
    "an operator without inputs": odd(helper.make_node("Identity", [], ["probabilities"])),
    "a ZipMap without inputs": odd(
        helper.make_node("ZipMap", [], ["probabilities"], domain="ai.onnx.ml")
    ),
    "a look-up without inputs": odd(helper.make_node("Gather", [], ["label"])),
}


@pytest.mark.parametrize("raw", ODD.values(), ids=ODD)
def test_a_graph_that_makes_no_sense_is_refused_or_has_no_such_class(raw: bytes) -> None:
    with pytest.raises(ModelRefused):
        keep_class(raw, "no such class")
