"""Which folders are versions."""

import os
from pathlib import Path

import pytest

from tests.scoring.building import add_model, mlp
from workers.scoring.folder import Folder, find_versions


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two versions, among many files and folders that are not versions."""
    add_model(tmp_path, mlp(), "quality")
    add_model(tmp_path, mlp(), "engagement")
    for name in ("2.partial", "draft", "-3", ".4"):
        (tmp_path / "quality" / name).mkdir()
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "quality" / "5").write_text("a file")
    os.makedirs(os.fsencode(tmp_path) + b"/\xff/1")
    return tmp_path


def all_numbers(root: Path) -> dict[str, list[int]]:
    """Objective to version numbers, also of versions without a manifest."""
    numbers: dict[str, list[int]] = {}
    for objective, versions in find_versions(root).items():
        numbers[objective] = [version.number for version in versions]
    return numbers


def complete_numbers(root: Path) -> dict[str, list[int]]:
    """Objective to the numbers of complete versions."""
    return {objective: list(versions) for objective, versions in Folder(root).scan().items()}


def test_only_folders_with_whole_numbers_for_names_are_versions(root: Path) -> None:
    assert all_numbers(root) == {"engagement": [1], "quality": [1]}
    assert complete_numbers(root) == {"engagement": [1], "quality": [1]}


def test_a_version_without_a_manifest_is_found_but_not_complete(root: Path) -> None:
    (root / "quality" / "2").mkdir()
    assert all_numbers(root)["quality"] == [2, 1]
    assert complete_numbers(root)["quality"] == [1]


def test_of_two_names_of_one_number_the_one_that_a_manifest_can_name_is_the_version(
    root: Path,
) -> None:
    (root / "quality" / "01").mkdir()
    assert [version.folder.name for version in find_versions(root)["quality"]] == ["1"]
