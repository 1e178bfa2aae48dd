"""Which sets of weights workers have applied, as they report it: every report, overheard.

MONITOR shows each status that is written, also one that the next replaces at once, and does not
disturb the workers.
"""

import ast
import re
import socket
from typing import NamedTuple

from tests.rig.background import Signals
from tests.rig.statuses import WorkerStatus, decode_status
from workers.local.server import LOOPBACK

_WORD = re.compile(rb'"(?:[^"\\]|\\.)*"')
_LISTEN_SECONDS = 0.1


class AppliedSeen(NamedTuple):
    """A worker has reported a set: its version, `applied_at` (ms) and `push_ms`."""

    worker: str
    version: str
    applied_at: int
    push_ms: float | None


def applied_by(status: WorkerStatus) -> AppliedSeen:
    """The set that a worker ranks `home` under."""
    home = status.surfaces["home"]
    return AppliedSeen(status.worker, home.version, home.applied_at, home.push_ms)


def overhear(signals: Signals, port: int, prefix: str) -> list[AppliedSeen]:
    """Listen until asked to end. Each set that each worker reported, once."""
    reports: dict[AppliedSeen, None] = {}
    mark = f'"SET" "{prefix}workers:status:'.encode()
    with socket.create_connection((LOOPBACK, port)) as connection:
        connection.sendall(b"MONITOR\r\n")
        connection.settimeout(_LISTEN_SECONDS)
        rest = b""
        while chunk := _receive(connection, signals):
            *lines, rest = (rest + chunk).split(b"\r\n")
            for line in lines:
                if mark in line:
                    reports[applied_by(decode_status(_third_word(line)))] = None
            signals.ready.set()
    return list(reports)


def _receive(connection: socket.socket, signals: Signals) -> bytes:
    """What comes next; nothing once it is time to end."""
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
