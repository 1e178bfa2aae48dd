"""`trimtab stack` as a user sees it: its output, its exit codes, and what it says if a program is
missing.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.local.pipes import make_pipe, read_line
from tests.rig.process import until
from workers.local.jars import kafka_jars

Run = Callable[..., "subprocess.CompletedProcess[str]"]

STACK = (sys.executable, "-m", "workers.cli", "stack")
# Formats at once. As a server it writes its pid to a pipe and never answers.
SILENT_JAVA = """#!/bin/sh
case "$*" in *StorageTool*) exit 0;; esac
echo $$ > {pipe}
exec /usr/bin/env sleep 600
"""


@pytest.fixture
def places(tmp_path: Path, cache: Path) -> tuple[str, ...]:
    return f"--home={tmp_path / 'home'}", f"--cache={cache}"


@pytest.fixture
def run(places: tuple[str, ...]) -> Iterator[Run]:
    """Run one command on a stack of the test's own, which is down at the end."""

    def run_command(
        name: str, *arguments: str, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            (*STACK, name, *places, *arguments),
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | variables,
        )

    yield run_command
    assert run_command("down").returncode == 0


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder that can be the whole of PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    return folder


def test_a_stack_goes_up_twice_is_shown_and_exported_and_goes_down_twice(run: Run) -> None:
    first = run("up")
    second = run("up")
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout == second.stdout
    assert "up already" in second.stderr

    status = json.loads(run("status", "--json").stdout)
    assert status["up"] is True
    kafka = status["kafka"]["address"]
    redis = status["redis"]["address"]
    assert f"Kafka      {kafka}\nRedis      {redis}\n" in first.stdout
    assert (
        run("up", "--export").stdout
        == f"export TRIMTAB_KAFKA={kafka}\nexport TRIMTAB_REDIS={redis}\n"
    )

    text = run("status")
    assert text.returncode == 0
    for part in (kafka, redis, str(status["kafka"]["pid"]), status["redis"]["log"]):
        assert part in text.stdout

    assert (run("down").returncode, run("down").returncode) == (0, 0)
    assert run("status").returncode == 1


def test_two_ups_at_once_start_one_stack(run: Run) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: run("up", "--export"), range(2))
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout == second.stdout
    assert (first.stderr + second.stderr).count("Kafka is up (pid") == 1


def test_an_up_that_is_interrupted_ends_what_it_started(
    programs: Path, places: tuple[str, ...], tmp_path: Path, cache: Path
) -> None:
    kafka_jars(cache, lambda _: None)
    pipe = make_pipe(programs / "pipe")
    (programs / "java").write_text(SILENT_JAVA.format(pipe=programs / "pipe"))
    (programs / "java").chmod(0o755)

    up = subprocess.Popen(
        (*STACK, "up", *places), env=os.environ | {"PATH": str(programs)}, stderr=subprocess.DEVNULL
    )
    server = int(read_line(pipe))
    up.send_signal(signal.SIGINT)
    assert up.wait(60) == 1
    assert not psutil.pid_exists(server)

    # Redis may need a moment to end.
    stack_folder = str(tmp_path / "home" / "stack")
    until(lambda: not processes_in(stack_folder), lambda: processes_in(stack_folder))


def processes_in(folder: str) -> list[int]:
    """The ids of the processes that work in a folder or below it."""
    return [
        process.pid
        for process in psutil.process_iter(["cwd"])
        if (process.info["cwd"] or "").startswith(folder)
    ]


def test_a_missing_java_is_named_with_what_to_install(run: Run, programs: Path) -> None:
    refused = run("up", PATH=str(programs))
    assert refused.returncode == 1
    assert "java: not found on PATH" in refused.stderr
    assert "apt install openjdk-17-jre-headless" in refused.stderr


def test_a_missing_maven_is_named_with_what_to_install(
    run: Run, programs: Path, tmp_path: Path
) -> None:
    (programs / "java").symlink_to(str(shutil.which("java")))
    refused = run("up", f"--cache={tmp_path / 'empty'}", PATH=str(programs))
    assert refused.returncode == 1
    assert "mvn: not found on PATH" in refused.stderr
    assert "apt install maven" in refused.stderr


def test_an_unreadable_state_is_a_negative_result_that_names_the_file(
    run: Run, tmp_path: Path
) -> None:
    state = tmp_path / "home" / "stack" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text("{")
    refused = run("status")
    state.unlink()
    assert refused.returncode == 1
    assert str(state) in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "--export", "--json"),
        ("up", "--kafka-port=9092", "--redis-port=9092"),
        ("up", "--kafka-port=0"),
        ("up", "--partitions=0"),
        ("start",),
    ],
)
def test_wrong_use_exits_with_two(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).returncode == 2


@pytest.mark.parametrize("command", [(), ("up",), ("down",), ("status",)])
def test_help_has_an_example(command: tuple[str, ...]) -> None:
    shown = subprocess.run((*STACK, *command, "--help"), capture_output=True, text=True, check=True)
    assert "Example:\n    trimtab stack" in shown.stdout
