"""A version is written completely or not at all."""

from pathlib import Path

import pytest

from tests.scoring.building import FEATURES, mlp, random_rows
from workers.scoring.manifest import Manifest, read_manifest
from workers.scoring.new_version import VersionTaken, add_version, draft
from workers.scoring.refusal import ModelRefused

RAW = mlp().SerializeToString()


def drafted(objective: str = "quality", version: int = 1) -> Manifest:
    return draft(RAW, objective, version, FEATURES, random_rows(100))


def test_a_manifest_reads_as_it_was_drafted(tmp_path: Path) -> None:
    verified = add_version(tmp_path, drafted(), RAW)
    assert read_manifest(tmp_path / "quality" / "1", tmp_path) == drafted()
    assert verified.manifest.sha256 == drafted().sha256


def test_a_manifest_has_a_line_a_key_and_a_line_a_golden_row(tmp_path: Path) -> None:
    add_version(tmp_path, drafted(), RAW)
    lines = (tmp_path / "quality" / "1" / "manifest.json").read_text().splitlines()
    assert lines[1] == ' "objective": "quality",'
    assert len([line for line in lines if line.startswith('  {"features": [')]) == 32


def test_a_model_of_other_bytes_than_its_manifest_is_refused_and_not_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(ModelRefused, match="sha256"):
        add_version(tmp_path, drafted(), mlp(seed=1).SerializeToString())
    assert list(tmp_path.iterdir()) == []


def test_of_two_who_add_the_same_number_the_second_gets_an_error(tmp_path: Path) -> None:
    add_version(tmp_path, drafted(), RAW)
    with pytest.raises(VersionTaken, match="already exists"):
        add_version(tmp_path, drafted(), RAW)
    assert read_manifest(tmp_path / "quality" / "1", tmp_path) == drafted()


def test_a_manifest_that_cannot_be_written_leaves_no_half_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.write_text

    def full(path: Path, text: str, encoding: str) -> int:
        if path.is_relative_to(tmp_path):
            raise OSError(28, "No space left on device")
        return real(path, text, encoding)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        add_version(tmp_path, drafted(), RAW)
    assert list((tmp_path / "quality").iterdir()) == []
