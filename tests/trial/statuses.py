"""What the workers say of themselves in Redis: looked up now, or every word of it overheard.

MONITOR shows each status that is written, also one that the next replaces at once, and leaves the
workers alone.
"""

import ast
import re
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from tests.integration.harness import until
from tests.trial.apart import Signals
from workers.local.server import LOOPBACK

_WORD = re.compile(rb'"(?:[^"\\]|\\.)*"')
_LISTEN_SECONDS = 0.1
_PATIENCE_SECONDS = 30.0


class AppliedSeen(NamedTuple):
    """A worker has told of a set: its version, `applied_at` (ms) and `push_ms`."""

    worker: str
    version: str
    applied_at: int
    push_ms: float | None


class _Surface(msgspec.Struct):
    version: str
    applied_at: int
    push_ms: float | None


class _Version(msgspec.Struct):
    state: str


class _Status(msgspec.Struct):
    worker: str
    surfaces: dict[str, _Surface]
    partitions: list[int] = []
    models: dict[str, dict[str, int]] = {}
    library: dict[str, dict[int, _Version]] = {}


_decode = msgspec.json.Decoder(_Status).decode


class Statuses:
    """The statuses as they stand in Redis."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def now(self) -> dict[str, AppliedSeen]:
        """For each worker that has a status, what `home` stands on."""
        return {status.worker: _home(status) for status in self._all()}

    def owners(self) -> list[tuple[int, str]]:
        """Each partition that a worker says it owns, in order; twice where two say so."""
        return sorted(
            (partition, status.worker) for status in self._all() for partition in status.partitions
        )

    def models(self) -> list[dict[str, int]]:
        """By which version of each objective each worker scores the feeds of `home`."""
        return [status.models.get("home", {}) for status in self._all()]

    def states(self, objective: str, version: int) -> list[str | None]:
        """What each worker makes of a version in the folder; None where it has not noticed it."""
        found = (status.library.get(objective, {}).get(version) for status in self._all())
        return [None if one is None else one.state for one in found]

    def wait_for(self, version: str, workers: int) -> dict[str, AppliedSeen]:
        """Wait until so many workers stand on a set."""
        self.wait_until(lambda: [one.version for one in self.now().values()] == [version] * workers)
        return self.now()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that the statuses say; fails with them where it does not come."""
        until(condition, self.now, _PATIENCE_SECONDS)

    def _all(self) -> list[_Status]:
        workers: list[str] = self._client.zrange(f"{self._prefix}workers:live", 0, -1)
        texts = (
            self._client.mget([f"{self._prefix}workers:status:{worker}" for worker in workers])
            if workers
            else []
        )
        return [_decode(text) for text in texts if text is not None]


def overhear(signals: Signals, port: int, prefix: str) -> list[AppliedSeen]:
    """Listen until told to stop; each set that each worker told of, once."""
    found: dict[AppliedSeen, None] = {}
    mark = f'"SET" "{prefix}workers:status:'.encode()
    with socket.create_connection((LOOPBACK, port)) as connection:
        connection.sendall(b"MONITOR\r\n")
        connection.settimeout(_LISTEN_SECONDS)
        rest = b""
        while chunk := _listen(connection, signals):
            *lines, rest = (rest + chunk).split(b"\r\n")
            found |= {_home(_decode(_third_word(line))): None for line in lines if mark in line}
            signals.ready.set()
    return list(found)


def _listen(connection: socket.socket, signals: Signals) -> bytes:
    """What comes next; nothing once it is time to stop."""
    while not signals.stopping.is_set():
        try:
            return connection.recv(1 << 20)
        except TimeoutError:
            continue
    return b""


def _third_word(line: bytes) -> bytes:
    """The value in the line of a SET: Redis quotes words as Python does bytes."""
    word: bytes = ast.literal_eval("b" + _WORD.findall(line)[2].decode("ascii"))
    return word


def _home(status: _Status) -> AppliedSeen:
    home = status.surfaces["home"]
    return AppliedSeen(status.worker, home.version, home.applied_at, home.push_ms)
