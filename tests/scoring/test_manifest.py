"""A manifest must be complete and consistent. If it is not, the message names the key."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.scoring.building import manifest_of
from workers.scoring.manifest import Manifest, read_manifest
from workers.scoring.refusal import ModelReason, ModelRefused


def read(root: Path, text: str | bytes) -> Manifest:
    folder = root / "quality" / "1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_manifest(folder, root)


def refusal(root: Path, text: str | bytes) -> str:
    with pytest.raises(ModelRefused) as caught:
        read(root, text)
    assert caught.value.reason is ModelReason.MANIFEST
    assert "quality/1/manifest.json: " in caught.value.message
    return caught.value.message.partition("manifest.json: ")[2]


def test_a_true_manifest_is_read_whole(tmp_path: Path) -> None:
    manifest = read(
        tmp_path, json.dumps(manifest_of(b"model", width=2, metrics={"spearman": 0.25}))
    )
    assert (manifest.objective, manifest.version, manifest.features) == ("quality", 1, ("f0", "f1"))
    assert manifest.input.shape == (None, 2)
    assert manifest.golden[0].features == (0.5, 0.5)
    assert manifest.golden_tolerance == 1e-5
    assert manifest.metrics == {"spearman": 0.25}


def test_keys_that_scoring_does_not_know_are_ignored(tmp_path: Path) -> None:
    text = json.dumps(manifest_of(b"model", training={"seed": 1}, calibration=[1, 2], licence=None))
    assert read(tmp_path, text).objective == "quality"


def test_a_flat_output_is_as_good_as_a_column(tmp_path: Path) -> None:
    output = {"name": "score", "dtype": "float32", "shape": [None]}
    assert read(tmp_path, json.dumps(manifest_of(b"model", output=output))).output.shape == (None,)


@pytest.mark.parametrize(
    "key", ["objective", "version", "sha256", "input", "output", "features", "golden"]
)
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    values = manifest_of(b"model")
    del values[key]
    assert refusal(tmp_path, json.dumps(values)) == f"{key}: got nothing, expected this key"


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "features", "dtype": "float32", "shape": [None, 2]} | changes


def golden(*features: float, score: Any = 0.5) -> list[dict[str, Any]]:
    return [{"features": [0.0, 0.0], "score": 0.0}, {"features": list(features), "score": score}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "1"}, "version: got '1', expected `int`"),
        ({"version": True}, "version: got True, expected `int`"),
        ({"version": 0}, "version: got 0, expected `int` >= 1"),
        (
            {"version": 2**63},
            "version: got 9223372036854775808, expected `int` <= 9223372036854775807",
        ),
        ({"version": int("5" * 4000)}, "version: got 5555"),
        ({"objective": ""}, "objective: got '', expected `str` of length >= 1"),
        ({"sha256": "ABC"}, "sha256: got 'ABC', expected `str` matching"),
        (
            {"input": tensor(dtype="float64")},
            "input: got 'features' float64 [null,2], expected 'features' float32",
        ),
        (
            {"input": tensor(shape=[None, 3])},
            "input: got 'features' float32 [null,3], expected 'features' float32 [nu",
        ),
        ({"input": tensor(shape=[1, 2])}, "input: got 'features' float32 [1,2], expected"),
        ({"input": {"name": "features"}}, "input.dtype: got nothing, expected this key"),
        (
            {"output": tensor(name="score")},
            "output: got 'score' float32 [null,2], expected 'score' float32 [null,1] or",
        ),
        ({"features": []}, "features: got [], expected `array` of length >= 1"),
        ({"features": ["a", "a"]}, "features: 'a' appears more than once"),
        ({"features": ["a", 1]}, "features[1]: got 1, expected `str`"),
        ({"golden": []}, "golden: got [], expected `array` of length >= 1"),
        ({"golden": golden(1.0)}, "golden[1].features: got 1 numbers, expected 2"),
        ({"golden": golden(1.0, 1e39)}, "golden[1]: got 1e+39, expected finite float32 numbers"),
        (
            {"golden": golden(1.0, 2.0, score="high")},
            "golden[1].score: got 'high', expected `float`",
        ),
        ({"golden": golden(1.0, 10**400)}, "golden[1].features[1]: Number out of range"),
        ({"golden_tolerance": -1e-6}, "golden_tolerance: got -1e-06, expected `float` >= 0"),
        ({"golden_tolerance": 0.5}, "golden_tolerance: got 0.5, expected `float` <= 0.01"),
    ],
)
def test_a_mistake_is_named_with_key_value_and_what_was_expected(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    assert refusal(tmp_path, json.dumps(manifest_of(b"model", width=2, **changes))).startswith(
        message
    )


def test_beside_a_number_out_of_range_another_mistake_is_still_named(tmp_path: Path) -> None:
    text = (
        json.dumps(manifest_of(b"model", width=2, version=0)).removesuffix("}")
        + ', "metrics": 1'
        + "0" * 5000
        + "}"
    )
    assert refusal(tmp_path, text) == "version: got another value, expected `int` >= 1"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"version": NaN}', b"\xff\xfe{}", '{"metrics":' + "[" * 100_000],
)
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str | bytes) -> None:
    assert refusal(tmp_path, text)


def test_a_folder_without_a_manifest_is_still_being_copied(tmp_path: Path) -> None:
    (tmp_path / "quality" / "1").mkdir(parents=True)
    with pytest.raises(ModelRefused, match="still being copied") as caught:
        read_manifest(tmp_path / "quality" / "1", tmp_path)
    assert caught.value.reason is ModelReason.MANIFEST
