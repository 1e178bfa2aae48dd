"""A server of the stack: its port on the loopback address, how it is started, whether it answers."""

import errno
import random
import re
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from workers.errors import Failure
from workers.local import processes
from workers.local.processes import ProcessIdentity

LOOPBACK = "127.0.0.1"

# Below the range from which the kernel takes ports for outgoing connections. Such a connection
# could hold the port of a server that is down for a moment, and a client that tries a dead server
# could connect to itself.
_PORTS = range(18_000, 32_000)
_PORTS_TRIED = 200

# A cold disk and busy cores take their time. A server that cannot start ends by itself, and that is
# noticed at once.
_START_SECONDS = 60.0
_ASK_AGAIN_SECONDS = 0.03

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_JAVA_FRAME = re.compile(r"\s+(at \S+\(.*\)|\.\.\. \d+ more)")


class StackError(Failure):
    """The stack cannot do what it should. The message says why, and what helps."""


@dataclass(frozen=True)
class Server:
    """A server that is ready to start.

    `command` runs in `folder`. `answers` sends the server a real request.
    """

    title: str
    folder: Path
    log: Path
    command: tuple[str, ...]
    answers: Callable[[], bool]

    def start(self) -> ProcessIdentity:
        """Start the server's process. It does not answer yet. Raises StackError."""
        try:
            return processes.spawn(self.command, folder=self.folder, log=self.log)
        except OSError as error:
            raise StackError(f"{self.title} cannot be started: {error}") from None

    def wait_until_answers(self, process: ProcessIdentity) -> None:
        """Return once the server answers. Raises StackError with the end of its log."""
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            self.check_alive(process, within=_ASK_AGAIN_SECONDS)
            if time.monotonic() > deadline:
                raise self._failure(f"did not answer within {_START_SECONDS:g} s")

    def check_alive(self, process: ProcessIdentity, within: float = 0.0) -> None:
        """Raise StackError with the end of the log if the process ends within `within` seconds."""
        if processes.has_ended(process, within):
            raise self._failure("ended while it was starting")

    def _failure(self, what: str) -> StackError:
        log = self.log.read_text(encoding="utf-8", errors="replace")
        return StackError(
            f"{self.title} {what}. The end of its log, {self.log}:\n{last_lines(log)}"
        )


def last_lines(output: str, count: int = 15) -> str:
    """The last lines of a program's output, indented.

    Colours, empty lines and the frames of Java's stack traces are left out.
    """
    lines = list[str]()
    for line in _COLOUR.sub("", output).splitlines():
        if line.strip() and not _JAVA_FRAME.match(line):
            lines.append(f"    {line}")
    return "\n".join(lines[-count:]) or "    (it is empty)"


# Ports


def free_port(besides: Collection[int | None] = ()) -> int:
    """A port that nobody listens to and that is not one of `besides`. Raises StackError if none is
    found.
    """
    for port in random.sample(_PORTS, _PORTS_TRIED):
        if port not in besides and is_free(port):
            return port
    raise StackError(f"no free port found between {_PORTS.start} and {_PORTS.stop} on {LOOPBACK}")


def is_free(port: int) -> bool:
    """Whether a server could listen on the port. Raises StackError if this user may not."""
    with socket.socket() as probe:
        # As servers do: connections of a server that has just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except PermissionError:
            raise StackError(
                f"port {port}: this user may not listen on it, expected one above 1023"
            ) from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def accepts(port: int) -> bool:
    """Whether a program accepts connections on the port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1.0).close()
    except OSError:
        return False
    return True
