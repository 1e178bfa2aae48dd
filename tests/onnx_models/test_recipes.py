"""`trimtab models new` takes what a recipe exports. The recipes of trainers that are not installed
here were run by hand.
"""

import ast
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import RandomForestClassifier

from onnx_models.features import NAMES
from onnx_models.recipes import from_scikit_learn
from onnx_models.recipes.one_score import probability_of
from tests.commands.running import trimtab
from tests.scoring.building import model, random_rows
from tests.scoring.test_classifier import as_catboost

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "onnx_models" / "recipes").glob("from_*.py"))
SURFACES = ROOT / "deploy" / "surfaces.toml"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("recipe")
    from_scikit_learn.main([str(out)])
    return out


def test_scikit_learn_s_export_becomes_a_version_that_verifies(
    exported: Path, tmp_path: Path
) -> None:
    words = (
        "--from",
        exported / "model.onnx",
        "--golden-from",
        exported / "golden.csv",
        "--surfaces",
        SURFACES,
    )
    ended = trimtab("models", "new", "comments", *words, "--models", tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert trimtab("models", "verify", tmp_path).out == "ok       comments/1\n"
    manifest = json.loads((tmp_path / "comments" / "1" / "manifest.json").read_text())
    assert manifest["features"] == list(NAMES)
    schema = json.loads((ROOT / "schemas" / "manifest.schema.json").read_bytes())
    jsonschema.validate(manifest, schema, jsonschema.Draft202012Validator)


def test_a_recipe_says_how_good_it_is_and_how_near_its_trainer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from_scikit_learn.main([str(tmp_path)])
    report = re.search(
        r"Spearman (\S+) on unseen communities; (\d+) of 7989 scores differ",
        capsys.readouterr().out,
    )
    assert report is not None
    assert float(report[1]) > 0.3
    assert int(report[2]) < 10


def run(
    built: onnx.ModelProto, rows: NDArray[np.float32], outputs: list[str] | None = None
) -> list[Any]:
    session = onnxruntime.InferenceSession(
        built.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    values: list[Any] = session.run(outputs, {"features": rows})
    return values


def test_a_classifier_is_cut_to_the_probability_of_one_class() -> None:
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["p"]),
        helper.make_node("Softmax", ["p"], ["probabilities"]),
    ]
    classifier = model(nodes, {"w": random_rows(32, 2)}, output=(None, 2))
    classifier.graph.output[0].name = "probabilities"
    classifier.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 2]))
    rows = random_rows(5)
    (probabilities,) = run(classifier, rows, ["probabilities"])
    (scores,) = run(probability_of(classifier, 1), rows)
    assert scores.shape == (5, 1)
    assert np.array_equal(scores[:, 0], probabilities[:, 1])


@pytest.mark.parametrize("zipmap", [True, False], ids=["a list of mappings", "a table"])
def test_a_classifier_is_cut_whether_it_ends_with_a_list_of_mappings_or_a_table(
    zipmap: bool,
) -> None:
    rows = random_rows(50, 2)
    learner = RandomForestClassifier(3, max_depth=2, random_state=0).fit(rows, rows[:, 0] > 0)
    inputs = [("features", FloatTensorType([None, 2]))]
    exported = convert_sklearn(
        learner, initial_types=inputs, target_opset=17, options={"zipmap": zipmap}
    )
    cut = probability_of(exported, 1, exported.graph.output[1].name)
    onnx.checker.check_model(cut, full_check=True)
    (scores,) = run(cut, rows)
    assert np.allclose(scores[:, 0], learner.predict_proba(rows)[:, 1], atol=1e-6)


def test_a_classifier_that_imports_no_operators_of_onnx_itself_is_cut() -> None:
    """As CatBoost writes it."""
    classifier = onnx.ModelProto.FromString(as_catboost(("ham", "spam")))
    cut = probability_of(classifier, 1)
    onnx.checker.check_model(cut, full_check=True)
    rows = random_rows(5, 4)
    _, mappings = run(classifier, rows)
    (scores,) = run(cut, rows)
    assert scores[:, 0].tolist() == [mapping["spam"] for mapping in mappings]


def test_an_output_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="output: got 'probabilities', expected one of: score"):
        probability_of(model([helper.make_node("Identity", ["features"], ["score"])]), 1)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_the_readme_shows_each_recipe_with_the_packages_that_the_recipe_names(recipe: Path) -> None:
    readme = (ROOT / "onnx_models" / "README.md").read_text()
    described = ast.get_docstring(ast.parse(recipe.read_text())) or ""
    (install,) = re.findall(r"^pip install .*$", described, re.MULTILINE)
    assert install in readme
    assert f"python onnx_models/recipes/{recipe.name} " in readme


def test_cutting_changes_nothing_of_the_model_it_is_given() -> None:
    given = model([helper.make_node("Identity", ["features"], ["score"])])
    before = onnx.ModelProto.FromString(given.SerializeToString())
    probability_of(given, 1, "score")
    assert given == before
