"""The demo's folder is its own, and it says how to end what it leaves running."""

from pathlib import Path

import pytest

from demo.environment import REPOSITORY, Environment, stop_command
from workers.local import StackError


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine").touch()
    environment = Environment(tmp_path, tmp_path, lambda _: None)

    with pytest.raises(StackError, match="no demo made this folder"):
        environment.clear()
    with pytest.raises(StackError, match="no demo made this folder"):
        environment.end()

    assert (tmp_path / "demo" / "mine").exists()


def test_the_command_that_stops_a_kept_demo_names_a_home_only_if_it_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert stop_command(tmp_path / ".trimtab") == "make demo ARGS=--stop"
    assert stop_command(tmp_path) == f"make demo 'ARGS=--stop --home {tmp_path}'"


def test_the_command_that_stops_a_kept_demo_works_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert stop_command(tmp_path / ".trimtab") == f"make -C {REPOSITORY} demo ARGS=--stop"
