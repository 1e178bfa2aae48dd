import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.scoring.building import add_model, golden_of, hungry, linear_then, mlp, trees
from workers.commands.models import models


def invoke(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(models, [str(argument) for argument in arguments], env=environment)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """quality 1 and 3 are sound, 2 and 4 spoilt; engagement 1 is sound."""
    root = tmp_path / "models"
    for version in (1, 2, 3, 4):
        add_model(
            root, mlp(seed=version), "quality", version, metrics={"unseen": {"spearman": 0.2468}}
        )
    add_model(root, trees(), "engagement")
    for spoilt in ("2", "4"):
        (root / "quality" / spoilt / "model.onnx").write_bytes(b"spoilt")
    return root


def surfaces_file(
    root: Path, features: int = 32, objectives: tuple[str, ...] = ("quality", "engagement")
) -> Path:
    names = ", ".join(f'"f{n}"' for n in range(features))
    weights = ", ".join(f"{objective} = 0.5" for objective in objectives)
    path = root / "surfaces.toml"
    path.write_text(
        f"[feature_sets.posts]\nnames = [{names}]\n[surfaces.home]\nfeature_set = 'posts'\n"
        f"objectives = {list(objectives)}\nweights = {{ {weights} }}\n"
    )
    return path


def test_list_shows_which_version_is_in_force(folder: Path) -> None:
    result = invoke("list", folder)
    assert result.exit_code == 0

    head, *rows = result.output.splitlines()
    assert head.split() == ["OBJECTIVE", "VERSION", "STATE", "FEATURES", "SHA256", "METRICS"]
    assert [row.split()[:2] for row in rows] == [
        ["engagement", "1"],
        *(["quality", n] for n in "4321"),
    ]
    assert [row.split()[2] for row in rows] == [
        "in-force",
        "refused:",
        "in-force",
        "older",
        "older",
    ]
    assert "refused: hash" in rows[1]
    assert rows[2].endswith("unseen.spearman=0.247")


def listed(*arguments: str | Path) -> list[dict[str, Any]]:
    result = invoke("list", *arguments, "--json")
    assert result.exit_code == 0
    entries: list[dict[str, Any]] = json.loads(result.output)["models"]
    return entries


def test_list_as_json_has_every_field(folder: Path) -> None:
    best, refused, *_ = listed(folder)
    assert best["state"] == "in-force"
    assert (best["features"], len(best["sha256"]), best["reason"], best["metrics"]) == (
        32,
        64,
        None,
        None,
    )
    assert (refused["state"], refused["reason"]) == ("refused", "hash")
    assert refused["message"].startswith("model.onnx: sha256: got ")


def test_list_shows_a_version_whose_manifest_cannot_be_read(folder: Path) -> None:
    (folder / "engagement" / "1" / "manifest.json").write_text("{")
    entry = listed(folder)[0]
    assert (entry["objective"], entry["version"], entry["reason"]) == ("engagement", 1, "manifest")
    assert (entry["features"], entry["sha256"]) == (None, None)
    assert "refused: manifest" in invoke("list", folder).output


def test_list_holds_models_against_the_surfaces_feature_sets(folder: Path, tmp_path: Path) -> None:
    narrow = surfaces_file(tmp_path, features=31)
    assert {entry["state"] for entry in listed(folder, "--surfaces", narrow)} == {"refused"}


def test_an_empty_folder_lists_nothing_and_verifies_nothing(tmp_path: Path) -> None:
    assert invoke("list", tmp_path).output == f"No model in {tmp_path}.\n"
    assert invoke("list", tmp_path).exit_code == 0
    assert invoke("verify", tmp_path).exit_code == 1


def test_verify_names_every_version_and_ends_with_1_if_one_is_refused(folder: Path) -> None:
    result = invoke("verify", folder)
    assert result.exit_code == 1
    assert [line.split()[:2] for line in result.output.splitlines()] == [
        ["ok", "engagement/1"],
        ["refused", "quality/4"],
        ["ok", "quality/3"],
        ["refused", "quality/2"],
        ["ok", "quality/1"],
    ]
    assert "hash: model.onnx: sha256: got" in result.output


def test_verify_refuses_a_model_that_takes_all_memory_and_goes_on(tmp_path: Path) -> None:
    add_model(tmp_path, hungry(), version=2, golden=golden_of(mlp()))
    add_model(tmp_path, mlp())
    result = invoke("verify", tmp_path)
    assert result.exit_code == 1

    refused, ok = result.output.splitlines()
    assert refused.startswith("refused  quality/2  unreadable: ")
    assert refused.endswith("of memory that verification may take")
    assert ok == "ok       quality/1"


def test_a_version_by_time_is_in_force_and_one_past_64_bits_is_refused(tmp_path: Path) -> None:
    for version in (20261127031249, 20261127031250, 20261127031249123456):
        add_model(tmp_path, mlp(), "quality", version)
    refused, in_force, older = listed(tmp_path)
    assert (refused["version"], refused["state"], refused["reason"]) == (
        20261127031249123456,
        "refused",
        "manifest",
    )
    assert (in_force["version"], in_force["state"]) == (20261127031250, "in-force")
    assert (older["version"], older["state"]) == (20261127031249, "older")

    lines = invoke("verify", tmp_path).output.splitlines()
    assert lines[0].startswith("refused  quality/20261127031249123456  manifest: ")
    assert lines[1:] == ["ok       quality/20261127031250", "ok       quality/20261127031249"]


def test_verify_ends_with_0_if_every_version_passes(tmp_path: Path) -> None:
    add_model(tmp_path, mlp())
    assert invoke("verify", tmp_path).exit_code == 0


def test_verify_shows_which_model_is_scored_row_by_row(tmp_path: Path) -> None:
    add_model(tmp_path, linear_then("Identity", 101))
    assert "row by row" in invoke("verify", tmp_path).output
    assert (
        json.loads(invoke("verify", tmp_path, "--json").output)["models"][0]["row_by_row"] is True
    )


def test_verify_as_json_gives_the_reason(folder: Path) -> None:
    result = invoke("verify", folder, "--json")
    verdicts = json.loads(result.output)["models"]
    assert result.exit_code == 1
    assert [verdict["ok"] for verdict in verdicts] == [True, False, True, False, True]
    assert verdicts[1]["reason"] == "hash"
    assert verdicts[0]["reason"] is None


def test_verify_with_surfaces_refuses_models_that_read_other_features(tmp_path: Path) -> None:
    add_model(tmp_path / "models", mlp())
    narrow = surfaces_file(tmp_path, features=31, objectives=("quality",))
    result = invoke("verify", tmp_path / "models", "--surfaces", narrow)
    assert result.exit_code == 1
    assert (
        "features: features: got 'f31', expected only names of feature set 'posts'" in result.output
    )


def test_verify_with_surfaces_names_an_objective_without_a_model(tmp_path: Path) -> None:
    add_model(tmp_path / "models", mlp())
    result = invoke("verify", tmp_path / "models", "--surfaces", surfaces_file(tmp_path))
    assert result.exit_code == 1
    assert "missing  engagement" in result.output


def test_without_an_argument_the_folder_comes_from_the_environment(tmp_path: Path) -> None:
    add_model(tmp_path, mlp())
    assert invoke("verify", TRIMTAB_MODELS=str(tmp_path)).output.startswith("ok       quality/1")


@pytest.mark.parametrize("command", ["list", "verify"])
def test_a_folder_that_is_not_there_is_wrong_use(tmp_path: Path, command: str) -> None:
    assert invoke(command, tmp_path / "nowhere").exit_code == 2


@pytest.mark.parametrize("command", ["list", "verify"])
def test_help_has_an_example(command: str) -> None:
    assert f"Example:\n    trimtab models {command}" in invoke(command, "--help").output
