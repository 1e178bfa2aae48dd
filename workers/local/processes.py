"""Processes that outlive their parent: started, watched, signalled and ended.

Each is known by its pid and its start time, so that a recycled pid is never taken for ours. It runs
in a session of its own: Ctrl-C of the caller does not reach it. Waiting and signalling go through a
pidfd: the kernel says when the process has ended, and a signal cannot meet another process. Linux
only.
"""

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

# Field 22 of /proc/<pid>/stat, counted after the name in parentheses (field 2), which may hold
# anything.
_STARTTIME = 22 - 3
# The kernel ends a process at once on SIGKILL, unless it hangs in a system call.
_KILL_SECONDS = 5.0


class ProcessMark(msgspec.Struct, frozen=True):
    """One process, unmistakably: its pid, and its start in clock ticks since the machine's."""

    pid: int
    started: int


def spawn(command: Sequence[str], folder: Path, log: Path) -> ProcessMark:
    """Start a command in `folder`, its output in `log` (the log before it is kept beside it as
    `.previous`).

    Raises OSError where the command cannot be run.
    """
    if log.exists():
        log.replace(log.with_name(log.name + ".previous"))
    with log.open("wb") as out:
        child = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # It is followed by its mark from here on: this object must not complain that it goes before the
    # process.
    child.returncode = 0
    return ProcessMark(child.pid, _start_ticks(child.pid))


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM take effect at the end of this, not in its middle. Only the main
    thread is interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    before = {
        n: signal.signal(n, lambda number, _: caught.append(number))
        for n in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for deferred, action in before.items():
            signal.signal(deferred, action)
        for number in caught:
            signal.raise_signal(number)


def run(command: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run a command in `folder` to its end: its exit code and all it said. Raises OSError."""
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout


def is_alive(mark: ProcessMark) -> bool:
    """Whether the process runs (or is stopped by a signal)."""
    return not has_ended(mark)


def has_ended(mark: ProcessMark, within: float = 0.0) -> bool:
    """Wait up to `within` seconds for the process to end, and say whether it has."""
    with _pidfd(mark) as fd:
        return fd is None or _ended(fd, within)


def send(mark: ProcessMark, number: signal.Signals) -> None:
    """Send a signal to the process, where it is still there."""
    with _pidfd(mark) as fd:
        if fd is not None:
            _signal(fd, number)


def end(mark: ProcessMark, grace: float) -> None:
    """Ask the process to end (also where it is stopped), and kill it after `grace` seconds."""
    with _pidfd(mark) as fd:
        if fd is None:
            return
        _signal(fd, signal.SIGTERM)
        _signal(fd, signal.SIGCONT)
        if not _ended(fd, grace):
            _signal(fd, signal.SIGKILL)
            _ended(fd, _KILL_SECONDS)


def kill(mark: ProcessMark) -> None:
    """End the process without asking, and wait until it is gone."""
    with _pidfd(mark) as fd:
        if fd is not None:
            _signal(fd, signal.SIGKILL)
            _ended(fd, _KILL_SECONDS)


def uptime(mark: ProcessMark) -> float:
    """Seconds since the process was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - mark.started / os.sysconf("SC_CLK_TCK")


@contextmanager
def _pidfd(mark: ProcessMark) -> Iterator[int | None]:
    """A descriptor of the process, or None where it is gone and perhaps its pid another's."""
    try:
        fd = os.pidfd_open(mark.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        # The descriptor holds the process fast: if the start time fits now, it is ours for good.
        yield fd if _is_same(mark) else None
    finally:
        os.close(fd)


def _is_same(mark: ProcessMark) -> bool:
    try:
        return _start_ticks(mark.pid) == mark.started
    except (FileNotFoundError, ProcessLookupError):
        return False


def _start_ticks(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return int(stat.rpartition(")")[2].split()[_STARTTIME])


def _signal(fd: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(fd, number)


def _ended(fd: int, within: float) -> bool:
    watch = select.poll()
    watch.register(fd, select.POLLIN)
    if not watch.poll(within * 1000):
        return False
    with suppress(ChildProcessError):  # not our child: started by a command that has ended since
        os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG)
    return True
