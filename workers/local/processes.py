"""Processes that outlive the command that started them: start, watch, signal and end them.

Rules:

- A process is known by its pid and its start time, so a recycled pid is never taken for ours.
- It runs in its own session: Ctrl-C in the terminal does not reach it.
- Waiting and signalling use a pidfd. The kernel reports through it that the process has ended, and
  a signal cannot reach another process of the same pid.

Linux only.
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

# Field 22 of /proc/<pid>/stat. The fields are counted after the closing parenthesis of field 2, the
# program's name, because a name may contain anything.
_START_TIME_FIELD = 22 - 3
# The kernel ends a process at once on SIGKILL, unless it hangs in a system call.
_KILL_SECONDS = 5.0


class ProcessIdentity(msgspec.Struct, frozen=True):
    """What identifies one process: its pid, and when it started, in clock ticks since boot."""

    pid: int
    started: int


def spawn(command: Sequence[str], folder: Path, log: Path) -> ProcessIdentity:
    """Start a command in `folder` with its output in `log`. An earlier log is kept as `.previous`.

    Raises OSError if the command cannot be run.
    """
    if log.exists():
        log.replace(log.with_name(log.name + ".previous"))
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    # From here on the process is followed by its identity. Without a return code, Popen would warn
    # when it is deleted before the process has ended.
    child.returncode = 0
    return ProcessIdentity(child.pid, _start_time(child.pid))


def run(command: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run a command in `folder` to its end. Returns its exit code and all its output.

    Raises OSError if the command cannot be run.
    """
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


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM take effect at the end of the block, not in the middle of it.

    In other threads than the main one this does nothing: signals do not interrupt them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    received: list[int] = []
    previous_handlers = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        previous_handlers[number] = signal.signal(number, lambda each, _: received.append(each))
    try:
        yield
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
        for each in received:
            signal.raise_signal(each)


def is_alive(process: ProcessIdentity) -> bool:
    """Whether the process runs. One that is stopped by a signal counts, too."""
    return not has_ended(process)


def has_ended(process: ProcessIdentity, within: float = 0.0) -> bool:
    """Wait up to `within` seconds for the process to end. Returns whether it has ended."""
    with _pidfd(process) as fd:
        return fd is None or _wait_for_end(fd, within)


def send(process: ProcessIdentity, number: signal.Signals) -> None:
    """Send a signal to the process. Does nothing if it has ended."""
    with _pidfd(process) as fd:
        if fd is not None:
            _signal(fd, number)


def end(process: ProcessIdentity, grace: float) -> None:
    """Ask the process to end, and kill it if it has not ended after `grace` seconds.

    A process that is stopped is woken up, so that it can end.
    """
    with _pidfd(process) as fd:
        if fd is None:
            return
        _signal(fd, signal.SIGTERM)
        _signal(fd, signal.SIGCONT)
        if not _wait_for_end(fd, grace):
            _signal(fd, signal.SIGKILL)
            _wait_for_end(fd, _KILL_SECONDS)


def kill(process: ProcessIdentity) -> None:
    """Kill the process, and wait until it is gone."""
    with _pidfd(process) as fd:
        if fd is not None:
            _signal(fd, signal.SIGKILL)
            _wait_for_end(fd, _KILL_SECONDS)


def uptime(process: ProcessIdentity) -> float:
    """Seconds since the process started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.started / os.sysconf("SC_CLK_TCK")


@contextmanager
def _pidfd(process: ProcessIdentity) -> Iterator[int | None]:
    """A descriptor of the process. None if it has ended, even if its pid is in use again."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return

    try:
        # As long as the descriptor is open, the pid is not recycled. So it is enough to compare the
        # start time once.
        try:
            is_same = _start_time(process.pid) == process.started
        except (FileNotFoundError, ProcessLookupError):
            is_same = False
        yield fd if is_same else None
    finally:
        os.close(fd)


def _start_time(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    _, _, after_name = stat.rpartition(")")
    return int(after_name.split()[_START_TIME_FIELD])


def _signal(fd: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(fd, number)


def _wait_for_end(fd: int, seconds: float) -> bool:
    """Wait for the process to end. Returns whether it has ended. Leaves no zombie."""
    watch = select.poll()
    watch.register(fd, select.POLLIN)
    if not watch.poll(seconds * 1000):
        return False

    with suppress(ChildProcessError):  # it was started by a command that has ended since
        os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG)
    return True
