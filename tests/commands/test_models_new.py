"""A model trained elsewhere becomes a version that a worker takes, or is refused with what to do."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import RandomForestClassifier

from tests.commands.running import Ended, trimtab, write_surfaces
from tests.scoring.building import FEATURES, add_model, linear_then, mlp, model, random_rows
from workers.ranking.version import MAX_VERSION
from workers.scoring.verify import verify

NAMES = ",".join(FEATURES)


def save(folder: Path, built: onnx.ModelProto) -> Path:
    path = folder / "trained.onnx"
    path.write_bytes(built.SerializeToString())
    return path


def new(
    folder: Path, built: onnx.ModelProto, *words: object, features: str | None = NAMES
) -> Ended:
    named = [] if features is None else ["--features", features]
    source = save(folder, built)
    return trimtab(
        "models", "new", "quality", "--from", source, "--models", folder / "models", *named, *words
    )


def manifest(folder: Path, version: int = 1) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(
        (folder / "models" / "quality" / str(version) / "manifest.json").read_text()
    )
    return read


def write_csv(path: Path, columns: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def test_a_model_becomes_a_version_that_verifies(tmp_path: Path) -> None:
    built = mlp()
    ended = new(tmp_path, built)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("added    quality/1  32 features, 32 golden rows, scores from ")

    verified = verify(tmp_path / "models" / "quality" / "1")
    assert verified.manifest.features == FEATURES
    assert (
        tmp_path / "models" / "quality" / "1" / "model.onnx"
    ).read_bytes() == built.SerializeToString()


def test_nothing_but_the_two_files_is_left(tmp_path: Path) -> None:
    new(tmp_path, mlp())
    assert sorted(path.name for path in (tmp_path / "models").rglob("*") if path.is_file()) == [
        "manifest.json",
        "model.onnx",
    ]


def test_without_a_version_the_next_number_is_used(tmp_path: Path) -> None:
    add_model(tmp_path / "models", mlp(), version=7)
    assert new(tmp_path, mlp(seed=1)).code == 0
    assert manifest(tmp_path, 8)["version"] == 8


def test_a_version_by_time_can_be_asked_for_and_the_next_is_one_more(tmp_path: Path) -> None:
    assert new(tmp_path, mlp(), "--version", 20261127031249).code == 0
    assert new(tmp_path, mlp(seed=1)).code == 0
    assert manifest(tmp_path, 20261127031250)["version"] == 20261127031250


def test_a_folder_past_64_bits_does_not_count_for_the_next_number(tmp_path: Path) -> None:
    for name in ("3", "20261127031249123456", "9" * 200):
        (tmp_path / "models" / "quality" / name).mkdir(parents=True)
    assert new(tmp_path, mlp()).code == 0
    assert manifest(tmp_path, 4)["version"] == 4


def test_after_the_last_number_there_is_no_next(tmp_path: Path) -> None:
    assert new(tmp_path, mlp(), "--version", MAX_VERSION).code == 0

    ended = new(tmp_path, mlp(seed=1))
    assert ended.code == 2
    assert (
        f"--version: got nothing, expected a number: {MAX_VERSION} exists, and none is higher"
        in ended.err
    )


@pytest.mark.parametrize(
    "version", [0, -1, MAX_VERSION + 1, "20261127031249123456", "5" * 5000, "latest"]
)
def test_what_can_be_no_version_is_wrong_use(tmp_path: Path, version: int | str) -> None:
    assert new(tmp_path, mlp(), "--version", version).code == 2
    assert not (tmp_path / "models").exists()


def test_a_version_that_is_there_is_never_changed(tmp_path: Path) -> None:
    before = add_model(tmp_path / "models", mlp())
    text = (before / "manifest.json").read_text()
    ended = new(tmp_path, mlp(seed=1), "--version", 1)
    assert ended.code == 1
    assert ended.err == f"Error: {before}: already exists, expected a new version\n"
    assert (before / "manifest.json").read_text() == text


def test_names_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join(FEATURES) + "\n")
    assert new(tmp_path, mlp(), features=str(tmp_path / "names.txt")).code == 0
    assert manifest(tmp_path)["features"] == list(FEATURES)


def test_names_may_come_with_the_model(tmp_path: Path) -> None:
    built = mlp()
    helper.set_model_props(built, {"trimtab.features": json.dumps(FEATURES[::-1])})
    assert new(tmp_path, built, features=None).code == 0
    assert manifest(tmp_path)["features"] == list(FEATURES[::-1])


def test_golden_rows_come_from_a_csv_file_by_the_names_of_its_columns(tmp_path: Path) -> None:
    rows = random_rows(100).round(3)
    swapped = [[f"item-{place}", *row[::-1].tolist()] for place, row in enumerate(rows)]
    file = write_csv(tmp_path / "rows.csv", ["item_id", *FEATURES[::-1]], swapped)
    assert new(tmp_path, mlp(), "--golden-from", file).code == 0

    golden = manifest(tmp_path)["golden"]
    assert len(golden) == 32
    assert {tuple(row["features"]) for row in golden} <= {tuple(row) for row in rows.tolist()}

    scores = [row["score"] for row in golden]
    assert scores == sorted(scores)


def test_golden_rows_are_drawn_within_the_bounds_of_the_surfaces(tmp_path: Path) -> None:
    assert new(tmp_path, mlp(), "--surfaces", write_surfaces(tmp_path)).code == 0

    golden = np.array([row["features"] for row in manifest(tmp_path)["golden"]])
    assert np.abs(golden[:, 0]).max() <= 1 < np.abs(golden[:, 1]).max()


def test_the_same_seed_draws_the_same_golden_rows(tmp_path: Path) -> None:
    for seed in (3, 3, 4):
        assert new(tmp_path, mlp(), "--seed", seed).code == 0
    one, again, other = (manifest(tmp_path, version)["golden"] for version in (1, 2, 3))
    assert one == again != other


def test_a_model_that_rounds_by_place_is_accepted_and_marked_as_slower(tmp_path: Path) -> None:
    ended = new(tmp_path, linear_then("Identity", 101))
    assert ended.code == 0
    assert "scored row by row" in ended.out


def test_one_score_beside_another_output_is_found(tmp_path: Path) -> None:
    built = model(
        [
            helper.make_node("MatMul", ["features", "w"], ["score"]),
            helper.make_node("Greater", ["score", "half"], ["label"]),
        ],
        {"w": random_rows(32, 1), "half": np.array(0.5, np.float32)},
    )
    built.graph.output.append(helper.make_tensor_value_info("label", TensorProto.BOOL, [None, 1]))
    assert new(tmp_path, built).code == 0
    assert manifest(tmp_path)["output"] == {"name": "score", "dtype": "float32", "shape": [None, 1]}


# What cannot work


def shaped(dtype: int, shape: list[int | None]) -> onnx.ModelProto:
    built = mlp()
    built.graph.input[0].CopyFrom(helper.make_tensor_value_info("features", dtype, shape))
    return built


def with_outputs(*outputs: tuple[str, int, list[int | None]]) -> onnx.ModelProto:
    built = mlp()
    del built.graph.output[:]
    built.graph.output.extend(helper.make_tensor_value_info(*output) for output in outputs)
    return built


def with_two_inputs() -> onnx.ModelProto:
    built = mlp()
    built.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [None, 1]))
    return built


def with_external_data() -> onnx.ModelProto:
    built = mlp()
    tensor = built.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return built


def with_foreign_operator() -> onnx.ModelProto:
    built = mlp()
    built.graph.node[0].domain = "com.example"
    return built


def batch_normalised() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["product"]),
        helper.make_node("ReduceMean", ["product"], ["mean"], axes=[0]),
        helper.make_node("Sub", ["product", "mean"], ["score"]),
    ]
    return model(nodes, {"w": random_rows(32, 1)})


def not_finite() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["p"]),
        helper.make_node("Log", ["p"], ["score"]),
    ]
    return model(nodes, {"w": random_rows(32, 1)})


def constant() -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["features", "w"], ["score"])]
    return model(nodes, {"w": np.zeros((32, 1), np.float32)})


FLOAT = TensorProto.FLOAT
DOUBLE = TensorProto.DOUBLE
INT64 = TensorProto.INT64
REFUSED = {
    "float64": (shaped(DOUBLE, [None, 32]), "shape", "train or export in float32"),
    "fixed batch": (shaped(FLOAT, [1, 32]), "shape", "leave the first dimension free"),
    "free width": (shaped(FLOAT, [None, None]), "shape", "fix the second dimension"),
    "three dimensions": (shaped(FLOAT, [None, 4, 8]), "shape", "leave the first dimension free"),
    "two inputs": (with_two_inputs(), "shape", "join the columns"),
    "classifier": (
        with_outputs(("label", INT64, [None]), ("probabilities", FLOAT, [None, 2])),
        "shape",
        "of a classifier keep one probability",
    ),
    "two scores": (
        with_outputs(("score", FLOAT, [None, 1]), ("y0", FLOAT, [None])),
        "shape",
        "keep the score alone",
    ),
    "two columns": (
        with_outputs(("score", FLOAT, [None, 2])),
        "shape",
        "export one float32 number a candidate",
    ),
    "external data": (with_external_data(), "external-data", "save_as_external_data=False"),
    "foreign operator": (with_foreign_operator(), "operator-domain", "only ONNX's own operators"),
    "batch": (batch_normalised(), "batch", "model.eval()"),
    "not finite": (not_finite(), "golden", "expected a finite score"),
    "constant": (constant(), "golden", "expected rows with different scores"),
}


def with_value(
    key: str, shape: list[int | None] | None, dtype: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """Its input or output described with this shape; None: with none."""
    built = mlp()
    value = getattr(built.graph, key)[0]
    value.CopyFrom(helper.make_tensor_value_info(value.name, dtype, shape))
    return built


def without(key: str) -> onnx.ModelProto:
    built = mlp()
    del getattr(built.graph, key)[:]
    return built


def with_a_list(key: str) -> onnx.ModelProto:
    built = mlp()
    value = getattr(built.graph, key)[0]
    kind = helper.make_sequence_type_proto(
        helper.make_tensor_type_proto(TensorProto.FLOAT, [None, 1])
    )
    value.CopyFrom(helper.make_value_info(value.name, kind))
    return built


INPUT = "describe it as onnx.helper.make_tensor_value_info('features', onnx.TensorProto.FLOAT, ['N', 32])"
OUTPUT = (
    "describe it as onnx.helper.make_tensor_value_info('score', onnx.TensorProto.FLOAT, ['N', 1])"
)
NOT_FREE = "0 and -1 are numbers to ONNX and leave nothing free: "
REFUSED |= {
    "batch of 0": (with_value("input", [0, 32]), "shape", NOT_FREE + INPUT),
    "batch of -1": (with_value("input", [-1, 32]), "shape", NOT_FREE + INPUT),
    "width of 0": (with_value("input", [None, 0]), "shape", NOT_FREE + INPUT),
    "width of -1": (with_value("input", [None, -1]), "shape", NOT_FREE + INPUT),
    "nothing but -1": (with_value("input", [-1, -1]), "shape", NOT_FREE + INPUT),
    "nothing but 0": (with_value("input", [0, 0]), "shape", NOT_FREE + INPUT),
    "-1 and a free width": (with_value("input", [-1, None]), "shape", NOT_FREE + INPUT),
    "no width": (
        with_value("input", [None, None]),
        "shape",
        "fix the second dimension: the number of features: " + INPUT,
    ),
    "no shape": (with_value("input", None), "shape", "the file does not say its shape: " + INPUT),
    "one dimension": (with_value("input", [None]), "shape", "export one matrix"),
    "a list as input": (with_a_list("input"), "shape", "train or export in float32"),
    "no input": (without("input"), "shape", "export the whole model, from the features on"),
    "scores of 0": (with_value("output", [0, 1]), "shape", NOT_FREE + OUTPUT),
    "scores of -1": (with_value("output", [-1, 1]), "shape", NOT_FREE + OUTPUT),
    "flat scores of -1": (with_value("output", [-1]), "shape", NOT_FREE + OUTPUT),
    "score of width -1": (with_value("output", [None, -1]), "shape", NOT_FREE + OUTPUT),
    "score of width 0": (with_value("output", [None, 0]), "shape", NOT_FREE + OUTPUT),
    "score of any width": (
        with_value("output", [None, None]),
        "shape",
        "fix the second dimension: " + OUTPUT,
    ),
    "one score": (
        with_value("output", [1, 1]),
        "shape",
        "leave the first dimension free: the number of candidates: ",
    ),
    "score without a shape": (
        with_value("output", None),
        "shape",
        "the file does not say its shape: " + OUTPUT,
    ),
    "score of three dimensions": (
        with_value("output", [None, 1, 1]),
        "shape",
        "export one float32 number a candidate",
    ),
    "a list as output": (with_a_list("output"), "shape", "not a list"),
    "numbers that are no floats": (
        with_value("output", [None, 1], INT64),
        "shape",
        "export one float32 number",
    ),
    "no output": (without("output"), "shape", "export the model with its score as an output"),
}


@pytest.mark.parametrize(
    ("key", "shape"), [("input", [-1, 32]), ("input", [0, 32]), ("output", [-1, 1])]
)
def test_a_model_that_is_described_as_the_hint_says_is_accepted(
    tmp_path: Path, key: str, shape: list[int | None]
) -> None:
    built = with_value(key, shape)
    hint = new(tmp_path, built).err.strip().rpartition("describe it as ")[2]
    getattr(built.graph, key)[0].CopyFrom(eval(hint, {"onnx": onnx}))
    assert new(tmp_path, built).code == 0


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_work_is_refused_with_what_to_do_and_nothing_is_written(
    tmp_path: Path, kind: str
) -> None:
    built, reason, remedy = REFUSED[kind]
    ended = new(tmp_path, built)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"Error: {tmp_path / 'trained.onnx'}: refused, {reason}: ")
    assert remedy in ended.err
    assert not (tmp_path / "models").exists()


NO_MODELS = {
    "empty": (b"", "got an empty file; copy the file again"),
    "text": (b"no model", "got a text file that begins with 'no model'; name the model's own file"),
    "a pointer": (
        b"version https://git-lfs.github.com/spec/v1\n",
        "got a git-lfs pointer; `git lfs pull` fetches",
    ),
    "a page": (b"<!DOCTYPE html>", "got a web page; download the file, not the page that shows it"),
    "a pickle": (b"\x80\x04\x95", "got a Python pickle; convert the trained model to ONNX"),
    "a model that is cut": (
        mlp().SerializeToString()[:-9],
        "it is cut short or of another format: copy or export it",
    ),
}


@pytest.mark.parametrize(
    "words", [(), ("--features", "a,b"), ("--class", "1")], ids=["plain", "features", "class"]
)
@pytest.mark.parametrize(("raw", "what"), NO_MODELS.values(), ids=NO_MODELS)
def test_a_file_that_is_no_model_is_refused_with_what_it_is_and_no_other_advice(
    tmp_path: Path, raw: bytes, what: str, words: tuple[str, ...]
) -> None:
    source = tmp_path / "trained.onnx"
    source.write_bytes(raw)
    ended = trimtab("models", "new", "q", "--from", source, "--models", tmp_path / "models", *words)
    assert ended.code == 1
    assert ended.err.startswith(
        f"Error: {source}: refused, unreadable: model.onnx: no ONNX model: "
    )
    assert what in ended.err
    assert "Try:" not in ended.err
    assert not (tmp_path / "models").exists()


# Classifiers


def forest(labels: list[object]) -> onnx.ModelProto:
    rows = random_rows(100, 2)
    learner = RandomForestClassifier(3, max_depth=2, random_state=0)
    learner.fit(
        rows, np.array(labels)[np.digitize(rows[:, 0], np.linspace(-0.5, 0.5, len(labels) - 1))]
    )
    inputs = [("features", FloatTensorType([None, 2]))]
    exported: onnx.ModelProto = convert_sklearn(
        learner, initial_types=inputs, target_opset={"": 17, "ai.onnx.ml": 3}
    )
    return exported


@pytest.mark.parametrize(
    "labels", [[0, 1], ["low", "mid", "top"]], ids=["two numbers", "three words"]
)
def test_of_a_classifier_the_hint_names_its_classes_and_each_becomes_a_version_that_verifies(
    tmp_path: Path, labels: list[object]
) -> None:
    refused = new(tmp_path, forest(labels), features="a,b")
    named = ", ".join(map(str, labels))
    assert refused.code == 1
    assert refused.err.endswith(
        f"of a classifier keep one probability: --class LABEL, one of: {named}\n"
    )

    for version, label in enumerate(labels, 1):
        ended = new(tmp_path, forest(labels), "--class", label, features="a,b")
        assert (ended.code, ended.err) == (0, "")
        assert manifest(tmp_path, version)["output"] == {
            "name": "score",
            "dtype": "float32",
            "shape": [None, 1],
        }
    verified = trimtab("models", "verify", tmp_path / "models")
    assert [line.split()[0] for line in verified.out.splitlines()] == ["ok"] * len(labels)


def test_a_label_that_is_no_class_is_refused_with_those_that_are(tmp_path: Path) -> None:
    ended = new(tmp_path, forest([1, 2]), "--class", "0", features="a,b")
    assert ended.code == 1
    assert (
        ended.err
        == f"Error: {tmp_path / 'trained.onnx'}: refused, shape: --class: got '0', expected one of: 1, 2\n"
    )
    assert not (tmp_path / "models").exists()


def test_a_class_of_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    ended = new(tmp_path, mlp(), "--class", "1")
    assert ended.code == 1
    assert "--class: got '1', expected none: the file has no classes to choose from" in ended.err


def test_as_many_names_as_columns_are_wanted(tmp_path: Path) -> None:
    ended = new(tmp_path, mlp(), features="a,b")
    assert ended.code == 1
    assert (
        "expected one input, float32 [null,2]: candidates by features; name 32 features"
        in ended.err
    )


def test_a_name_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    ended = new(tmp_path, mlp(), features=NAMES.replace("f31", "f0"))
    assert ended.code == 1
    assert "refused, manifest: features: 'f0' appears more than once" in ended.err


def test_names_in_another_order_than_the_file_carries_are_refused(tmp_path: Path) -> None:
    built = mlp()
    helper.set_model_props(built, {"trimtab.features": json.dumps(FEATURES[::-1])})
    ended = new(tmp_path, built)
    assert ended.code == 1
    assert "refused, features: model.onnx: metadata 'trimtab.features'" in ended.err


@pytest.mark.parametrize("carried", [None, "{", "[1]"])
def test_a_model_whose_features_nobody_names_is_refused(
    tmp_path: Path, carried: str | None
) -> None:
    built = mlp()
    if carried is not None:
        helper.set_model_props(built, {"trimtab.features": carried})
    ended = new(tmp_path, built, features=None)
    assert ended.code == 1
    assert "refused, features: model.onnx: metadata 'trimtab.features'" in ended.err
    assert "Try: --features a,b,c" in ended.err


@pytest.mark.parametrize("objective", ["quality", "unheard-of"])
def test_features_that_no_surface_holds_are_refused(tmp_path: Path, objective: str) -> None:
    source = save(tmp_path, mlp())
    surfaces = write_surfaces(tmp_path)
    words = ("--from", source, "--features", NAMES.replace("f31", "else"), "--surfaces", surfaces)
    ended = trimtab("models", "new", objective, *words, "--models", tmp_path / "models")
    assert ended.code == 1
    assert "refused, features: features: got" in ended.err
    assert not (tmp_path / "models").exists()


def test_a_model_that_onnxruntime_cannot_run_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["features", "s"], ["r"]),
        helper.make_node("Gather", ["r", "far"], ["score"]),
    ]
    built = model(nodes, {"s": np.array([-1, 1]), "far": np.array([[10**6]])})
    ended = new(tmp_path, built)
    assert ended.code == 1
    assert "refused, unreadable: model.onnx: cannot be run" in ended.err


def test_an_input_that_the_file_has_a_value_for_is_a_constant(tmp_path: Path) -> None:
    built = mlp()
    weights = numpy_helper.to_array(built.graph.initializer[0])
    built.graph.input.append(helper.make_tensor_value_info("w0", TensorProto.FLOAT, weights.shape))
    assert new(tmp_path, built).code == 0


# Wrong use


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("f0\n1\n", "rows.csv: line 1: got no column 'f1', expected a column for each feature"),
        (
            "f0,f1\n1,2\n1,much\n",
            "rows.csv: line 3: f1: got 'much', expected a finite float32 number",
        ),
        ("f0,f1\n1\n", "rows.csv: line 2: f1: got '', expected a finite float32 number"),
        ("f0,f1\n1,1e39\n", "rows.csv: line 2: f1: got '1e39', expected a finite float32 number"),
        ("f0,f1\n", "rows.csv: got no row, expected at least 2"),
        ("", "rows.csv: line 1: got no column 'f0'"),
    ],
)
def test_a_csv_file_that_cannot_be_read_is_wrong_use(
    tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "rows.csv").write_text(text)
    ended = new(tmp_path, mlp(width=2), "--golden-from", tmp_path / "rows.csv", features="f0,f1")
    assert ended.code == 2
    assert complaint in ended.err


def test_a_seed_beside_a_csv_file_is_wrong_use(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "rows.csv", ["f0"], [[1]])
    assert new(tmp_path, mlp(), "--golden-from", file, "--seed", 1).code == 2


@pytest.mark.parametrize("objective", ["", "../up", "a/b", ".hidden", "a b", "a:b", "x" * 65])
def test_an_objective_that_can_name_no_folder_is_wrong_use(tmp_path: Path, objective: str) -> None:
    words = ("--from", save(tmp_path, mlp()), "--features", NAMES, "--models", tmp_path / "models")
    ended = trimtab("models", "new", objective, *words)
    assert ended.code == 2
    assert f"OBJECTIVE: got {objective!r}, expected 1 to 64 letters" in ended.err


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    ended = new(tmp_path, mlp())
    assert ended.code == 1
    assert "models: cannot be written: " in ended.err
