"""A process that runs a loop, or several of them, from signal handlers to the exit code.

* Before there is something to drain, SIGTERM and Ctrl-C just end the process. Afterwards they drain.
* A drain that does not end within DRAIN_SECONDS is given up: the process exits with 1.
* A loop that hangs for STUCK_SECONDS restarts the process, because nothing else ends such a call.
  What the process held is in the log and is replayed.
* With `--processes N`, the parent starts N children and restarts those that fail. A child drains
  when its parent has ended, in whatever way.
"""

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn

import click

from workers.commands.heaps import limit_heaps
from workers.commands.metrics_endpoint import MetricsEndpoint
from workers.commands.options import CommandFunction, Decorator
from workers.log import LINE_START, configure_logs, log
from workers.settings import ConfigurationError, how_to_set
from workers.streaming.hanging_calls import Watchdog
from workers.streaming.lifecycle import Slot, SlotTaken, take_slot
from workers.streaming.publisher import Fenced, ProducerLost
from workers.streaming.restore import R
from workers.streaming.stage import P
from workers.streaming.worker import Worker

STUCK_SECONDS = 15.0
"""How long the loop may hang in one call of a client library. By its own limit none takes 8 s."""

DRAIN_SECONDS = 8.0
"""How long the process may live after SIGTERM, whatever the loop does then."""

_END_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})

_RATE_SECONDS = 1.0

_CHILD_END_SECONDS = 15.0
_QUICK_END_SECONDS = 5.0
_MAX_QUICK_ENDS = 3


def process_options(help_text: str) -> Decorator:
    """--processes, and the hidden options by which a parent starts its children: `processes`,
    `with_parent`, and `metrics_socket`, the number of a socket that the child inherits.
    """

    def decorate(command: CommandFunction) -> CommandFunction:
        with_parent = click.option(
            "--with-parent", is_flag=True, hidden=True, help="Drain when standard input ends."
        )
        processes = click.option(
            "--processes",
            type=click.IntRange(1, 256),
            metavar="N",
            default=1,
            show_default=True,
            help=help_text,
        )
        metrics_socket = click.option(
            "--metrics-socket", type=int, hidden=True, help="Answer the parent on this socket."
        )
        return processes(with_parent(metrics_socket(command)))

    return decorate


def run_until_signal(
    run: Callable[[], int],
    *,
    processes: int,
    slot: int | None,
    with_parent: bool,
    metrics: MetricsEndpoint,
) -> NoReturn:
    """Run one process, or several children with the same arguments, and exit with the exit code.
    With several, the parent serves the metrics of all.

    Raises ConfigurationError if several processes are to have one slot, or if the metrics cannot be
    served.
    """
    configure_logs()
    with end_at_signals():
        if processes > 1:
            if slot is not None:
                raise ConfigurationError(
                    f"slot: got {slot} with {processes} processes, expected none"
                )
            own = _without_processes(sys.argv[1:])
            with metrics.of_parent(processes) as sockets:
                sys.exit(run_processes([own] * processes, sockets))

        limit_heaps()
        if with_parent:
            drain_when_parent_ends()
        sys.exit(run())


def run_commands_until_signal(commands: Sequence[Sequence[str]]) -> NoReturn:
    """Run several commands of `trimtab` as children, and exit with the worst exit code."""
    configure_logs()
    with end_at_signals():
        sys.exit(run_processes(commands))


@contextmanager
def end_at_signals() -> Iterator[None]:
    """End the process at a signal, until there is something to drain. Then restore the handlers."""
    before = {number: signal.signal(number, lambda *_: sys.exit(0)) for number in _END_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def take_process_slot(home: Path, group: str, slot: int | None) -> Slot:
    """A slot of this host. Raises ConfigurationError if it is taken or cannot be written."""
    try:
        return take_slot(home, group, slot)
    except SlotTaken as taken:
        raise ConfigurationError(f"slot: {taken}") from None
    except OSError as error:
        expected = f"expected a folder to write to: {error.strerror}. {how_to_set('home')}"
        raise ConfigurationError(f"home: got {str(home)!r}, {expected}") from None


def run_loop(running: Worker[P, R], rate_line: "RateLine") -> int:
    """Run the loop until it is drained or fails. Returns the exit code."""

    def drain(number: int, _frame: FrameType | None) -> None:
        log.info("draining", signal=signal.Signals(number).name)
        running.stop()

    deadline = _DrainDeadline(DRAIN_SECONDS)
    for number in _END_SIGNALS:
        signal.signal(number, drain)

    # The loop makes no cycles: collecting would only walk the open requests, again and again.
    gc.collect()
    gc.freeze()
    gc.disable()

    try:
        with rate_line, Watchdog(running.pulse, deadline.restart, STUCK_SECONDS):
            running.run()
    except Fenced as fenced:
        log.error(
            "fenced",
            error=str(fenced),
            hint="two workers share a slot: give each host its own name",
        )
        return 1
    except ProducerLost as lost:
        log.error(
            "not_drained",
            error=str(lost),
            hint="nothing is lost: a restart replays what is not out",
        )
        return 1
    return 0


class _DrainDeadline:
    """Ends the process if a drain does not end, for instance because the broker is gone.

    A loop that hangs in a call into C runs no signal handler. So a thread is woken by each signal.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_draining = False
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        threading.Thread(
            target=self._watch, args=(read_end,), name="drain-deadline", daemon=True
        ).start()

    def restart(self, doing: str, seconds: float) -> None:
        """Start this process again, under its own id and with its own arguments.

        Whoever watches the process does not see it end. If it is draining it just ends.
        """
        if self._is_draining:
            self._give_up(f"the loop hangs: {doing}")
        log.error(
            "loop_stuck", doing=doing, seconds=round(seconds), then="the process starts again"
        )
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def _watch(self, signals: int) -> None:
        while not _END_SIGNALS & set(os.read(signals, 64)):
            pass
        self._is_draining = True
        time.sleep(self._seconds)
        self._give_up(f"the broker did not answer within {self._seconds:g} s")

    def _give_up(self, why: str) -> NoReturn:
        log.error("not_drained", error=why)
        os._exit(1)


class RateLine:
    """While its block runs: a line with the current rates on standard error, rewritten each second.

    Shows nothing unless standard error is a terminal. `rates` and `totals` read counters by name.
    """

    def __init__(
        self, rates: Mapping[str, Callable[[], int]], totals: Mapping[str, Callable[[], int]]
    ) -> None:
        self._rates = rates
        self._totals = totals
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rate-line", daemon=True)

    def __enter__(self) -> "RateLine":
        if sys.stderr.isatty():
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
            sys.stderr.write("\n")

    def _run(self) -> None:
        before = {name: read() for name, read in self._rates.items()}
        while not self._done.wait(_RATE_SECONDS):
            parts = []
            for name, read in self._rates.items():
                now = read()
                parts.append(f"{now - before[name]:,} {name}/s")
                before[name] = now
            for name, read in self._totals.items():
                parts.append(f"{read():,} {name}")
            sys.stderr.write(f"{LINE_START}{'  '.join(parts)}")
            sys.stderr.flush()


# Several processes


def run_processes(commands: Sequence[Sequence[str]], sockets: Sequence[socket.socket] = ()) -> int:
    """Run a child for each command until a signal, each with one of the sockets to answer us on, if
    there are some. Returns the worst exit code.

    A child that fails is started again. All are stopped if one is wrongly configured, or ends
    within 5 s of its start three times in a row.
    """
    children = list[_Child]()
    for number, command in enumerate(commands):
        children.append(_Child(command, sockets[number] if sockets else None))
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in _END_SIGNALS:
        signal.signal(number, stop)
    while not stopping.wait(0.1):
        if not all(child.keep_running() for child in children):
            log.error("worker_fails", hint="its own last lines say why")
            break

    for child in children:
        child.stop()
    return max(child.wait() for child in children)


class _Child:
    """One worker process.

    The parent holds the other end of its standard input. When the parent ends, that is closed, and
    the child drains.
    """

    def __init__(self, command: Sequence[str], metrics_socket: socket.socket | None) -> None:
        self._command = command
        self._metrics_socket = metrics_socket
        self._quick_ends = 0
        self._failed_code = 0
        self._start()

    def _start(self) -> None:
        options = ["--with-parent"]
        inherited: list[int] = []
        if self._metrics_socket is not None:
            inherited.append(self._metrics_socket.fileno())
            options += ["--metrics-socket", str(inherited[0])]
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", *self._command, *options],
            stdin=subprocess.PIPE,
            pass_fds=inherited,
            start_new_session=True,
        )

    def keep_running(self) -> bool:
        """Start the worker again if it has ended. False if that does not help."""
        code = self._process.poll()
        if code is None:
            return True

        log.warning("worker_ended", pid=self._process.pid, code=code)
        self._failed_code = code or 1
        if time.monotonic() - self._started < _QUICK_END_SECONDS:
            self._quick_ends += 1
        else:
            self._quick_ends = 0
        if code == 2 or self._quick_ends >= _MAX_QUICK_ENDS:
            return False

        self._start()
        self._failed_code = 0
        return True

    def stop(self) -> None:
        """Let the worker drain, if it runs."""
        if self._process.poll() is None:
            self._process.terminate()

    def wait(self) -> int:
        """Wait for the end of the worker, at most 15 s. Returns its exit code, positive."""
        try:
            code = self._process.wait(_CHILD_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if code == -signal.SIGTERM:
            code = 0  # it was stopped before it began
        return self._failed_code or abs(code)


def _without_processes(arguments: list[str]) -> list[str]:
    """The arguments without `--processes N` and `--processes=N`."""
    kept = []
    is_value = False
    for argument in arguments:
        if is_value:
            is_value = False
        elif argument == "--processes":
            is_value = True
        elif not argument.startswith("--processes="):
            kept.append(argument)
    return kept


def drain_when_parent_ends() -> None:
    """Send this process SIGTERM when its standard input ends, because the parent has ended then."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="with-parent", daemon=True).start()
