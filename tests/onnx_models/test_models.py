"""The models that are shipped: their manifests are right, and the score of a row depends on this row
alone.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest

from onnx_models import graph, readme
from onnx_models.features import FEATURES, NAMES, matrix
from onnx_models.graph import Rows
from onnx_models.manifest import VERSION, code_revision
from onnx_models.posts import read_posts
from tests.onnx_models.builders import DATA

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "onnx_models"
OBJECTIVES = ("quality", "engagement")
KEYS = [
    "objective",
    "version",
    "sha256",
    "input",
    "output",
    "features",
    "golden",
    "golden_tolerance",
    "calibration",
    "training",
    "metrics",
    "licence",
]

objectives = pytest.mark.parametrize("objective", OBJECTIVES)


def manifest(objective: str) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(
        (MODELS / objective / str(VERSION) / "manifest.json").read_bytes()
    )
    return manifest


def model(objective: str) -> bytes:
    return (MODELS / objective / str(VERSION) / "model.onnx").read_bytes()


@pytest.fixture(scope="module")
def rows() -> Rows:
    return matrix(read_posts(DATA))


@objectives
def test_a_manifest_has_its_keys_in_order_and_conforms_to_the_schema(objective: str) -> None:
    schema = json.loads((ROOT / "schemas" / "manifest.schema.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(manifest(objective), schema, jsonschema.Draft202012Validator)
    assert list(manifest(objective)) == KEYS


@objectives
def test_a_manifest_names_its_model_its_data_and_its_code(objective: str) -> None:
    described = manifest(objective)
    assert (described["objective"], described["version"]) == (objective, VERSION)
    assert described["sha256"] == hashlib.sha256(model(objective)).hexdigest()
    assert described["training"]["data_sha256"] == hashlib.sha256(DATA.read_bytes()).hexdigest()
    assert described["training"]["code_revision"] == code_revision(), "run onnx_models/train.py"
    assert described["features"] == list(NAMES)


@objectives
def test_a_model_passes_onnx_s_own_check_and_uses_onnx_s_own_operators(objective: str) -> None:
    loaded = onnx.load_from_string(model(objective))
    onnx.checker.check_model(loaded, full_check=True)
    assert {node.domain for node in loaded.graph.node} <= {"", "ai.onnx.ml"}
    assert {each.domain for each in loaded.opset_import} == {"", "ai.onnx.ml"}
    assert not any(tensor.external_data for tensor in loaded.graph.initializer)


def test_the_objectives_are_of_different_families() -> None:
    def operators(objective: str) -> set[str]:
        return {node.op_type for node in onnx.load_from_string(model(objective)).graph.node}

    assert "TreeEnsembleRegressor" in operators("quality")
    assert "TreeEnsembleRegressor" not in operators("engagement")


@objectives
def test_there_are_many_golden_rows_and_they_get_their_scores(objective: str) -> None:
    described = manifest(objective)
    golden = described["golden"]
    scores = graph.run(model(objective), np.array([row["features"] for row in golden], np.float32))
    assert len(golden) >= 16
    assert scores == pytest.approx(
        [row["score"] for row in golden], abs=described["golden_tolerance"]
    )
    assert min(scores) < 0.05
    assert max(scores) > 0.95


@objectives
def test_real_posts_spread_over_all_scores(objective: str, rows: Rows) -> None:
    scores = graph.run(model(objective), rows)
    assert ((scores >= 0) & (scores <= 1)).all()
    deciles = np.quantile(scores, np.arange(1, 10) / 10)
    assert deciles == pytest.approx(np.arange(1, 10) / 10, abs=0.06)


@objectives
def test_no_finite_row_leads_out_of_zero_and_one(objective: str) -> None:
    largest = float(np.finfo(np.float32).max)
    random = np.random.default_rng(1)
    wild = random.standard_cauchy((2000, len(NAMES))) * 10.0 ** random.integers(-3, 30, (2000, 1))
    rows = np.vstack(
        [
            wild.astype(np.float32),
            np.full((1, len(NAMES)), largest, np.float32),
            np.full((1, len(NAMES)), -largest, np.float32),
        ]
    )
    scores = graph.run(model(objective), rows)
    assert ((scores >= 0) & (scores <= 1)).all()


@objectives
def test_defaults_alone_give_a_score_in_the_middle(objective: str) -> None:
    defaults = np.array([[each.default for each in FEATURES]], np.float32)
    assert 0.2 < graph.run(model(objective), defaults)[0] < 0.8


@objectives
@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 17, 50, 1000, 4000])
def test_a_score_has_the_same_bytes_whatever_the_batch(
    objective: str, size: int, rows: Rows
) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model(objective), options, providers=["CPUExecutionProvider"]
    )

    def score(batch: Rows) -> bytes:
        (scores,) = session.run(None, {graph.INPUT: np.ascontiguousarray(batch)})
        return bytes(scores.tobytes())

    some = rows[: max(2000, 2 * size)]
    batches = [score(some[start : start + size]) for start in range(0, len(some), size)]
    assert b"".join(batches) == score(some)


@objectives
def test_a_score_has_the_same_bytes_at_any_place_in_the_batch(objective: str, rows: Rows) -> None:
    order = np.random.default_rng(2).permutation(len(rows))
    shuffled = graph.run(model(objective), rows[order])
    assert shuffled.tobytes() == graph.run(model(objective), rows)[order].tobytes()


@pytest.mark.parametrize(("objective", "wanted"), [("quality", 0.22), ("engagement", 0.28)])
def test_unseen_communities_are_ordered_better_than_the_figures_to_beat(
    objective: str, wanted: float
) -> None:
    figures = manifest(objective)["metrics"]["unseen_communities"]
    assert figures["spearman"] > wanted
    for baseline in figures["baselines"].values():
        assert figures["spearman"] > baseline["spearman"] + 0.2
        assert figures["ndcg@10"] > baseline["ndcg@10"] + 0.1


def test_the_readme_s_tables_are_those_of_the_manifests() -> None:
    text = (MODELS / "README.md").read_text(encoding="utf-8")
    assert readme.with_tables(text, MODELS) == text
    assert all(f"`{name}`" in text for name in NAMES)
