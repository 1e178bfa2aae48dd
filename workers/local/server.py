"""One server of the stack: how it is started, where it lives, and whether it answers."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workers.local import processes
from workers.local.errors import StackError, tail
from workers.local.processes import ProcessMark

# A cold disk and busy cores take their time; a server that is refused something ends by itself, and
# is seen to.
_START_SECONDS = 60.0


@dataclass(frozen=True)
class Server:
    """A server made ready to start: its command runs in `folder`; `answers` asks it a real
    question.
    """

    title: str
    folder: Path
    log: Path
    command: tuple[str, ...]
    answers: Callable[[], bool]

    def start(self) -> ProcessMark:
        """Start the server's process; it does not answer yet. Raises StackError."""
        try:
            return processes.spawn(self.command, self.folder, self.log)
        except OSError as error:
            raise StackError(f"{self.title} cannot be started: {error}") from None

    def wait_until_answers(self, process: ProcessMark) -> None:
        """Return once the server answers. Raises StackError with the end of its log."""
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            self.check_alive(process, within=0.03)
            if time.monotonic() > deadline:
                raise self._failed(f"did not answer within {_START_SECONDS:g} s")

    def check_alive(self, process: ProcessMark, within: float = 0.0) -> None:
        """Raise StackError with the end of the log if the process ends within so many seconds."""
        if processes.has_ended(process, within):
            raise self._failed("ended while it was starting")

    def _failed(self, what: str) -> StackError:
        said = tail(self.log.read_text(encoding="utf-8", errors="replace"))
        return StackError(f"{self.title} {what}. The end of its log, {self.log}:\n{said}")
