"""Processes under test: started, signalled, waited for, and always ended."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE_S = 90.0


class Process:
    """One process and its log. At the end of a `with` block it is asked to end, and must do so."""

    def __init__(
        self,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        log: Path,
        python: str = sys.executable,
    ) -> None:
        """Start `python` with these arguments."""
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [python, *arguments],
                env=dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.terminate()
        finally:
            self.kill()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def logged(self) -> str:
        """Everything that it has logged by now."""
        return self.log.read_text()

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until its log has `text` so often. Fails with the log if it ends before."""
        self.wait_until(lambda: self.logged().count(text) >= times)

    def wait_until(self, condition: Callable[[], bool], patience: float = PATIENCE_S) -> None:
        """Wait for a condition. Fails with the log if the process ends before or time runs out."""
        until(lambda: condition() or not self.is_running(), self.logged, patience)
        assert condition(), self.logged()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def terminate(self) -> int:
        """SIGTERM, and wait for its end. Returns the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """SIGKILL, if it still runs, and wait for its end."""
        if self.is_running():
            self.signal(signal.SIGKILL)
        self.process.wait()


def until(
    condition: Callable[[], bool],
    explain: Callable[[], object] = lambda: "",
    patience: float = PATIENCE_S,
) -> None:
    """Wait for a condition, looking twenty times a second. Fails with what `explain` returns."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, explain()
        pause(0.05)


def pause(seconds: float) -> None:
    """Let time pass."""
    if seconds > 0:
        threading.Event().wait(seconds)
