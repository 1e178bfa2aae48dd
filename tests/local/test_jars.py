"""Kafka's libraries are fetched once, completely or not at all. A script stands in for Maven."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from workers.local.jars import kafka_jars, settings_file
from workers.local.processes import run
from workers.local.server import StackError

FETCHES = """#!/bin/sh
for argument in "$@"; do case "$argument" in -DoutputDirectory=*) folder="${argument#*=}";; esac; done
echo fetched >> "${0%/*}/calls"
: > "$folder/kafka.jar"
"""
FAILS = """#!/bin/sh
for argument in "$@"; do case "$argument" in -DoutputDirectory=*) folder="${argument#*=}";; esac; done
: > "$folder/half.jar"
printf '\\033[31m[ERROR]\\033[0m Could not transfer artifact kafka_2.13\\n\\tat org.apache.Frame(Frame.java:1)\\n'
exit 1
"""
FETCH = """
import sys
from pathlib import Path
from workers.local.jars import kafka_jars
print(kafka_jars(Path(sys.argv[1]), print))
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole of PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install_maven(programs: Path, script: str) -> None:
    (programs / "mvn").write_text(script)
    (programs / "mvn").chmod(0o755)


def test_the_libraries_are_fetched_at_the_first_use_only(programs: Path, tmp_path: Path) -> None:
    install_maven(programs, FETCHES)
    reports: list[str] = []
    first = kafka_jars(tmp_path / "cache", reports.append)
    second = kafka_jars(tmp_path / "cache", reports.append)
    assert first == second
    assert [jar.name for jar in first.iterdir()] == ["kafka.jar"]
    assert reports == ["fetching Kafka with Maven, this once (about 45 MB)"]


def test_commands_that_fetch_at_once_fetch_once(programs: Path, tmp_path: Path) -> None:
    install_maven(programs, FETCHES)
    fetch = (sys.executable, "-c", FETCH, str(tmp_path / "cache"))
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: run(fetch, Path.cwd()), range(4)))
    assert [exit_code for exit_code, _ in done] == [0] * 4
    folders = {output.splitlines()[-1] for _, output in done}
    assert len(folders) == 1
    assert (programs / "calls").read_text() == "fetched\n"


def test_a_failed_fetch_shows_the_end_of_mavens_output_and_leaves_nothing(
    programs: Path, tmp_path: Path
) -> None:
    install_maven(programs, FAILS)
    with pytest.raises(StackError) as refused:
        kafka_jars(tmp_path / "cache", lambda _: None)
    assert str(refused.value).endswith(
        "The end of its output:\n    [ERROR] Could not transfer artifact kafka_2.13"
    )
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["fetch.lock"]


@pytest.mark.usefixtures("programs")
def test_a_missing_maven_is_named_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"mvn: not found on PATH.*apt install maven"):
        kafka_jars(tmp_path / "cache", lambda _: None)


def test_another_pom_is_another_folder(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_maven(programs, FETCHES)
    before = kafka_jars(tmp_path / "cache", lambda _: None)
    (tmp_path / "pom.xml").write_text(settings_file("pom.xml").read_text() + "\n")
    monkeypatch.setattr("workers.local.jars.settings_file", lambda name: tmp_path / name)
    assert kafka_jars(tmp_path / "cache", lambda _: None) != before
