"""A version that passes verification scores. Any other is refused, for the right reason."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.builders import request, surface
from tests.scoring.building import (
    WIDE,
    add_model,
    embedding,
    golden_of,
    golden_rows,
    linear_then,
    manifest_of,
    mlp,
    model,
    random_rows,
    run,
    trees,
    write_version,
)
from workers.codec.feeds import decode_feed, encode_feed
from workers.codec.formats import Format
from workers.ranking.features import FeatureSet
from workers.ranking.pins import ANY_VERSION, Pins
from workers.ranking.rank import rank
from workers.ranking.version import MAX_VERSION
from workers.scoring.refusal import ModelReason, ModelRefused
from workers.scoring.verify import verify


def refusal(folder: Path, *feature_sets: FeatureSet, size_limit: int = 10**6) -> ModelRefused:
    with pytest.raises(ModelRefused) as caught:
        verify(folder, feature_sets, size_limit)
    return caught.value


@pytest.mark.parametrize("build", [mlp, lambda: mlp(gemm=False), trees])
def test_a_verified_version_scores_as_onnxruntime_does(
    tmp_path: Path, build: Callable[[], onnx.ModelProto]
) -> None:
    built = build()
    rows = random_rows(100)
    verified = verify(add_model(tmp_path, built), [WIDE])
    assert verified.score(rows).tolist() == run(built, rows)
    assert verified.score(rows).dtype == np.float32


def test_a_flat_output_scores_as_a_column_does(tmp_path: Path) -> None:
    weights = {"w": random_rows(32, 1)}
    axis = {"axis": np.array([1], np.int64)}
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["p"]),
        helper.make_node("Squeeze", ["p", "axis"], ["score"]),
    ]
    flat = model(nodes, weights | axis, output=[None])
    column = model([helper.make_node("MatMul", ["features", "w"], ["score"])], weights)
    output = {"name": "score", "dtype": "float32", "shape": [None]}

    flat_model = verify(add_model(tmp_path, flat, output=output))
    column_model = verify(add_model(tmp_path, column, version=2))
    rows = random_rows(37)
    assert flat_model.score(rows).tolist() == column_model.score(rows).tolist()


def test_no_candidates_get_no_scores(tmp_path: Path) -> None:
    assert verify(add_model(tmp_path, mlp())).score(random_rows(0)).shape == (0,)


@pytest.mark.parametrize(("key", "value"), [("objective", "engagement"), ("version", 2)])
def test_a_manifest_in_another_folder_is_refused(
    tmp_path: Path, key: str, value: str | int
) -> None:
    folder = add_model(tmp_path, mlp())
    manifest = json.loads((folder / "manifest.json").read_text()) | {key: value}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    refused = refusal(folder)
    assert refused.reason is ModelReason.FOLDER
    assert f"{key}: got '{value}'" in refused.message


@pytest.mark.parametrize(
    "name", ["01", "0", str(MAX_VERSION + 1), "20261127031249123456", "7" * 250]
)
def test_a_folder_whose_name_is_not_a_version_is_refused_with_what_a_version_is(
    tmp_path: Path, name: str
) -> None:
    folder = add_model(tmp_path, mlp()).rename(tmp_path / "quality" / name)
    refused = refusal(folder)
    assert refused.reason is ModelReason.FOLDER
    expected = f"expected a whole number from 1 to {MAX_VERSION}, without leading zeros"
    assert refused.message == f"folder: got {name[:80]!r}, {expected}"


@pytest.mark.parametrize("version", [0, MAX_VERSION + 1, 20261127031249123456])
def test_a_manifest_whose_version_is_out_of_range_is_refused(tmp_path: Path, version: int) -> None:
    refused = refusal(add_model(tmp_path, mlp(), version=version))
    assert refused.reason is ModelReason.MANIFEST
    assert f"version: got {version}, expected `int`" in refused.message


@pytest.mark.parametrize("version", [20261127031249, MAX_VERSION])
@pytest.mark.parametrize("form", Format)
def test_a_version_that_verifies_can_be_pinned_and_published(
    tmp_path: Path, version: int, form: Format
) -> None:
    number = verify(add_model(tmp_path, mlp(), version=version)).manifest.version
    pins = Pins.read({"quality": str(number)}, surface(), ANY_VERSION)
    assert pins.pinned == {"quality": version}

    weights = surface().weight_rules.default()
    feed = rank(request(["a"]), random_rows(1, 2), weights, {"quality": number}, 0)
    assert decode_feed(encode_feed(feed, form, 10**6)).models == {"quality": version}


def test_a_model_with_a_table_of_categories_verifies_if_a_golden_row_has_the_last_category(
    tmp_path: Path,
) -> None:
    built = embedding(1000)
    rows = random_rows(4)
    rows[:, 1] = [0, 3, 950, 999]
    verified = verify(add_model(tmp_path, built, golden=golden_rows(built, rows)))
    assert verified.score(rows).tolist() == run(built, rows)


def test_a_file_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    folder = add_model(tmp_path, mlp())
    # A file of holes: to read it would take 1 TB.
    with (folder / "model.onnx").open("wb") as file:
        file.truncate(2**40)
    refused = refusal(folder)
    assert refused.reason is ModelReason.SIZE
    assert f"got {2**40} bytes, expected at most 1000000" in refused.message


def test_a_manifest_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    folder = add_model(tmp_path, mlp())
    with (folder / "manifest.json").open("wb") as file:
        file.truncate(2**40)
    assert refusal(folder).reason is ModelReason.SIZE


def test_a_file_of_just_the_limit_is_read(tmp_path: Path) -> None:
    folder = add_model(tmp_path, mlp())
    assert verify(folder, size_limit=(folder / "model.onnx").stat().st_size).manifest.version == 1


def test_one_changed_byte_is_refused(tmp_path: Path) -> None:
    folder = add_model(tmp_path, mlp())
    raw = bytearray((folder / "model.onnx").read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / "model.onnx").write_bytes(raw)
    assert refusal(folder).reason is ModelReason.HASH


def test_a_file_cut_in_half_is_refused(tmp_path: Path) -> None:
    folder = add_model(tmp_path, mlp())
    raw = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(raw[: len(raw) // 2])
    assert refusal(folder).reason is ModelReason.HASH


def test_a_file_cut_in_half_is_refused_even_if_the_manifest_describes_the_half(
    tmp_path: Path,
) -> None:
    raw = mlp().SerializeToString()
    half = raw[: len(raw) // 2]
    folder = write_version(tmp_path, half, manifest_of(half))
    assert refusal(folder).reason is ModelReason.UNREADABLE


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    folder = add_model(tmp_path, mlp())
    (folder / "model.onnx").unlink()
    refused = refusal(folder)
    assert refused.reason is ModelReason.UNREADABLE
    assert "model.onnx: no such file" in refused.message


def test_a_graph_that_onnxruntime_cannot_load_is_refused(tmp_path: Path) -> None:
    raw = model([helper.make_node("Relu", ["nowhere"], ["score"])]).SerializeToString()
    refused = refusal(write_version(tmp_path, raw, manifest_of(raw)))
    assert refused.reason is ModelReason.UNREADABLE
    assert "onnxruntime cannot load it" in refused.message


def test_a_graph_that_fails_when_it_is_run_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["features", "three"], ["r"]),
        helper.make_node("Gather", ["r", "far"], ["score"]),
    ]
    constants = {"three": np.array([-1, 1]), "far": np.array([[10**6]])}
    raw = model(nodes, constants).SerializeToString()
    refused = refusal(write_version(tmp_path, raw, manifest_of(raw)))
    assert refused.reason is ModelReason.UNREADABLE
    assert "cannot be run" in refused.message


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_a_link_out_of_the_models_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = add_model(tmp_path / "models", mlp())
    outside = (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(outside)
    refused = refusal(folder)
    assert refused.reason is ModelReason.PATH
    assert f"leads to {outside}" in refused.message


def test_a_folder_that_is_a_link_out_of_the_models_folder_is_refused(tmp_path: Path) -> None:
    outside = add_model(tmp_path / "elsewhere", mlp())
    folder = tmp_path / "models" / "quality" / "1"
    folder.parent.mkdir(parents=True)
    folder.symlink_to(outside)
    assert refusal(folder).reason is ModelReason.PATH


def test_links_inside_the_models_folder_are_followed_as_kubernetes_makes_them(
    tmp_path: Path,
) -> None:
    folder = add_model(tmp_path, mlp())
    hidden = tmp_path / "..2024"
    hidden.mkdir()
    for name in ("model.onnx", "manifest.json"):
        (folder / name).rename(hidden / name)
        (folder / name).symlink_to(Path("..", "..", "..2024", name))
    assert verify(folder).manifest.version == 1


def test_the_models_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    add_model(tmp_path / "real", mlp())
    (tmp_path / "models").symlink_to(tmp_path / "real")
    assert verify(tmp_path / "models" / "quality" / "1").manifest.version == 1


def test_a_circle_of_links_is_refused(tmp_path: Path) -> None:
    folder = add_model(tmp_path, mlp())
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to("model.onnx")
    assert refusal(folder).reason is ModelReason.UNREADABLE


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    folder = add_model(tmp_path, mlp())
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    assert refusal(folder).reason is ModelReason.PATH


def test_a_model_that_reads_a_feature_which_the_feature_set_lacks_is_refused(
    tmp_path: Path,
) -> None:
    narrow = FeatureSet("narrow", WIDE.names[1:])
    refused = refusal(add_model(tmp_path, mlp()), WIDE, narrow)
    assert refused.reason is ModelReason.FEATURES
    assert refused.message == "features: got 'f0', expected only names of feature set 'narrow'"


def test_features_in_any_order_of_a_larger_set_pass(tmp_path: Path) -> None:
    larger = FeatureSet("larger", ("more", *reversed(WIDE.names)))
    assert verify(add_model(tmp_path, mlp()), [larger]).manifest.features == WIDE.names


def test_golden_rows_that_are_off_are_refused(tmp_path: Path) -> None:
    golden = golden_of(mlp())
    golden[3]["score"] += 2e-5
    refused = refusal(add_model(tmp_path, mlp(), golden=golden))
    assert refused.reason is ModelReason.GOLDEN
    assert refused.message.startswith("golden[3].score: the model gives ")


def test_golden_rows_within_the_manifests_own_tolerance_pass(tmp_path: Path) -> None:
    golden = golden_of(mlp())
    golden[3]["score"] += 2e-5
    verified = verify(add_model(tmp_path, mlp(), golden=golden, golden_tolerance=1e-4))
    assert verified.manifest.golden_tolerance == 1e-4


def test_the_tolerance_grows_with_scores_beyond_one(tmp_path: Path) -> None:
    built = linear_then("Exp")
    row = np.full((1, 32), 20, np.float32)
    score = run(built, row)[0]
    assert score > 100

    golden = [{"features": row[0].tolist(), "score": score * (1 + 9e-6)}]
    assert verify(add_model(tmp_path, built, golden=golden)).manifest.golden_tolerance == 1e-5

    golden[0]["score"] = score * (1 + 2e-5)
    refused = refusal(add_model(tmp_path, built, version=2, golden=golden))
    assert refused.reason is ModelReason.GOLDEN


def test_columns_in_another_order_than_the_golden_rows_are_refused(tmp_path: Path) -> None:
    golden = golden_of(mlp())
    for row in golden:
        row["features"].reverse()
    assert refusal(add_model(tmp_path, mlp(), golden=golden)).reason is ModelReason.GOLDEN


def test_another_model_under_a_true_hash_is_refused_by_its_golden_rows(tmp_path: Path) -> None:
    refused = refusal(add_model(tmp_path, mlp(seed=1), golden=golden_of(mlp(seed=2))))
    assert refused.reason is ModelReason.GOLDEN


def test_a_score_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["p"]),
        helper.make_node("Log", ["p"], ["score"]),
    ]
    built = model(nodes, {"w": np.full((32, 1), -1, np.float32)})
    refused = refusal(add_model(tmp_path, built, golden=[{"features": [1.0] * 32, "score": 0.0}]))
    assert refused.reason is ModelReason.GOLDEN
    assert "the model gives nan" in refused.message
