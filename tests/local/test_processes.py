"""Processes are identified by pid and start time, outlive their parent, and end when asked to."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.local.pipes import make_pipe, read_line
from workers.local import processes
from workers.local.processes import ProcessIdentity

Start = Callable[[str], ProcessIdentity]

STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open({pipe!r}, "w") as pipe:
    pipe.write("ready")
signal.pause()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a Python script as a process of ours, and kill what is left at the end."""
    started: list[ProcessIdentity] = []

    def spawn(script: str) -> ProcessIdentity:
        started.append(processes.spawn((sys.executable, "-c", script), tmp_path, tmp_path / "log"))
        return started[-1]

    yield spawn
    for process in started:
        processes.kill(process)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also if a shell runs the tests in the background: it has such
    a job ignore SIGINT.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_process_runs_in_a_session_of_its_own(start: Start) -> None:
    process = start("import signal; signal.pause()")
    assert os.getsid(process.pid) == process.pid != os.getsid(0)


def test_a_process_that_has_ended_is_known_to_have_ended_and_leaves_no_zombie(start: Start) -> None:
    process = start("pass")
    assert processes.has_ended(process, within=30)
    assert not processes.is_alive(process)
    assert not psutil.pid_exists(process.pid)


def test_ending_waits_until_the_process_is_gone(start: Start) -> None:
    process = start("import signal; signal.pause()")
    assert processes.is_alive(process)
    processes.end(process, grace=30)
    assert not psutil.pid_exists(process.pid)


def test_a_process_that_ignores_the_request_to_end_is_killed(start: Start, tmp_path: Path) -> None:
    pipe = make_pipe(tmp_path / "pipe")
    process = start(STUBBORN.format(pipe=str(tmp_path / "pipe")))
    assert read_line(pipe) == "ready"
    processes.end(process, grace=0.05)
    assert not psutil.pid_exists(process.pid)


def test_a_process_that_is_stopped_can_be_asked_to_end(start: Start) -> None:
    process = start("import signal; signal.pause()")
    processes.send(process, signal.SIGSTOP)
    processes.end(process, grace=30)
    assert not processes.is_alive(process)


def test_a_recycled_pid_counts_as_ended_and_is_never_signalled(start: Start) -> None:
    process = start("import signal; signal.pause()")
    earlier = ProcessIdentity(process.pid, process.started - 1)
    assert processes.has_ended(earlier)
    processes.end(earlier, grace=0)
    processes.kill(earlier)
    processes.send(earlier, signal.SIGKILL)
    assert processes.is_alive(process)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_in_the_middle_of_what_must_not_be_interrupted_takes_effect_at_its_end() -> (
    None
):
    reached: list[str] = []

    def interrupted() -> None:
        with processes.signals_deferred():
            signal.raise_signal(signal.SIGINT)
            reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert reached == ["the end"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_the_log_of_the_run_before_is_kept(start: Start, tmp_path: Path) -> None:
    for line in ("first", "second"):
        assert processes.has_ended(start(f"print({line!r})"), within=30)
    assert (tmp_path / "log").read_text() == "second\n"
    assert (tmp_path / "log.previous").read_text() == "first\n"


def test_a_command_that_is_run_to_its_end_gives_its_exit_code_and_its_output(
    tmp_path: Path,
) -> None:
    script = "import os, sys; print(os.getcwd(), flush=True); sys.exit('no')"
    assert processes.run((sys.executable, "-c", script), tmp_path) == (1, f"{tmp_path}\nno\n")
