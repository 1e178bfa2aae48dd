"""What is known of a stack between two commands: one small file, replaced whole, and one lock.

Whoever changes the stack holds the lock; whoever only looks needs none, since a reader meets either
the old file or the new one.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from workers.local.errors import StackError
from workers.local.processes import ProcessMark
from workers.settings import SETTINGS

ServerName = Literal["kafka", "redis"]
Say = Callable[[str], None]


class ServerState(msgspec.Struct, frozen=True):
    """The port of a server, kept over `down` so that it comes back where it was, and its process,
    if one was left.
    """

    port: int
    process: ProcessMark | None = None


StackState = dict[ServerName, ServerState]


def load_state(path: Path) -> StackState:
    """Read the state of a stack; none was written: nothing is known. Raises StackError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=StackState)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise StackError(
            f"{path}: {error}; expected what `trimtab stack up` writes. End its servers by hand and delete the file."
        ) from None


def save_state(path: Path, state: StackState) -> None:
    """Replace the state of a stack."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(msgspec.json.encode(state))
    new.replace(path)


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a file; `waiting` is told where another holds it. The kernel frees it if
    this process dies.

    Raises StackError where the file's folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        variables = f"{SETTINGS['home'].variable} and {SETTINGS['cache'].variable}"
        raise StackError(
            f"{path.parent}: cannot be written: {error}; {variables} name the folders"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
