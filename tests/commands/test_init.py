"""`trimtab init` writes a project that ranks at once, and never writes over a file."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.commands.running import Ended, json_lines, trimtab
from tests.docs.documents import ROOT
from workers.commands.init import STARTER_FILES
from workers.settings import SETTINGS
from workers.surfaces import load_surfaces


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "feeds"
    assert trimtab("init", folder).code == 0
    return folder


def in_project(project: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Ended:
    monkeypatch.chdir(project)
    return trimtab(*words)


def test_surfaces_and_models_are_where_the_settings_look_for_them(project: Path) -> None:
    assert (project / str(SETTINGS["surfaces"].default)).is_file()
    assert (project / str(SETTINGS["models"].default)).is_dir()


def test_its_models_verify(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("models", "verify", "--surfaces", "deploy/surfaces.toml")
    ended = in_project(project, monkeypatch, *words)
    assert ended.out.splitlines() == ["ok       engagement/1", "ok       quality/1"]
    assert ended.code == 0


def test_none_of_its_events_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = in_project(project, monkeypatch, "validate", "events.jsonl")
    assert ended == (0, "40 events of 20 requests: 0 refused\n", "")


def test_it_ranks_without_a_server(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feeds = json_lines(in_project(project, monkeypatch, "rank", "events.jsonl").out)
    assert [len(feed["items"]) for feed in feeds] == [12] * 20
    assert {feed["completion"] for feed in feeds} == {"full"}


def test_what_init_prints_is_in_the_readme_in_the_same_order(tmp_path: Path) -> None:
    folder = tmp_path / "feeds"
    _, *printed = trimtab("init", folder).out.splitlines()
    in_readme = (folder / "README.md").read_text().splitlines()
    places = [in_readme.index(line.strip()) for line in printed if not line.startswith("  cd ")]
    assert places == sorted(places)
    assert len(places) == 6


def test_every_objective_of_its_surfaces_has_a_model(project: Path) -> None:
    for surface in load_surfaces(project / "deploy" / "surfaces.toml").values():
        for objective in surface.objectives:
            assert f"onnx_models/{objective}/1/model.onnx" in STARTER_FILES


def test_what_its_surfaces_have_in_comments_is_valid(project: Path) -> None:
    path = project / "deploy" / "surfaces.toml"
    lines = path.read_text().splitlines()
    begin = lines.index("# [surfaces.home.diversity]")
    for number in range(begin, len(lines)):
        line = lines[number].removeprefix("# ")
        is_toml = line.startswith("[") or " = " in line
        lines[number] = line if is_toml else ""
    path.write_text("\n".join(lines))

    home = load_surfaces(path)["home"]
    assert home.diversity is not None
    assert home.outcomes is not None


def test_its_events_are_those_that_the_repository_makes_today(project: Path) -> None:
    posts = "onnx_models/data/reddit_top_posts.csv.gz"
    words = ["--requests", "20", "--candidates", "12", "--batch", "6", "--seed", "1", "--by-name"]
    made = subprocess.run(
        [sys.executable, "onnx_models/make_events.py", posts, *words],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert (project / "events.jsonl").read_bytes() == made.stdout


def test_a_wheel_carries_every_file() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for name in STARTER_FILES:
        is_in_package = (ROOT / "workers" / "commands" / "starter" / name).is_file()
        is_included = any(
            name.startswith(source) and target == f"workers/commands/starter/{source}"
            for source, target in included.items()
        )
        assert is_in_package != is_included


@pytest.mark.parametrize("name", STARTER_FILES)
def test_nothing_is_written_if_a_file_exists(tmp_path: Path, name: str) -> None:
    own = tmp_path / name
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("mine")

    ended = trimtab("init", tmp_path)

    assert ended.code == 1
    assert f"{tmp_path}: has {name} already" in ended.err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [own]
    assert own.read_text() == "mine"


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert trimtab("init", tmp_path).code == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = trimtab("init", tmp_path / "file" / "feeds")
    assert ended.code == 1
    assert f"{tmp_path / 'file' / 'feeds'}" in ended.err
    assert "cannot be written" in ended.err
