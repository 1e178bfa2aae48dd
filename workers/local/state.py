"""What commands on one stack share: a small state file and a lock.

- Who changes the stack holds the lock.
- Who only reads needs no lock: the file is replaced whole, so a reader sees either the old file or
  the new one.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from workers.local.processes import ProcessIdentity
from workers.local.server import StackError
from workers.settings import SETTINGS

ServerName = Literal["kafka", "redis"]

Report = Callable[[str], None]
"""Takes a short line of text that tells the user what happens."""


class ServerState(msgspec.Struct, frozen=True):
    """What is known of one server.

    Its port is kept after `down`, so that the next `up` uses the same one. `process` is None after
    `down`.
    """

    port: int
    process: ProcessIdentity | None = None


StackState = dict[ServerName, ServerState]


def load_state(path: Path) -> StackState:
    """Read the state of a stack. It is empty if there is no file. Raises StackError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=StackState)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise StackError(
            f"{path}: {error}; expected what `trimtab stack up` writes. "
            "End its servers by hand and delete the file."
        ) from None


def save_state(path: Path, state: StackState) -> None:
    """Replace the state of a stack."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(msgspec.json.encode(state))
    new.replace(path)


@contextmanager
def locked(path: Path, before_waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock on a file. `before_waiting` is called if another process holds it.

    The kernel frees the lock if this process dies. Raises StackError if the file's folder cannot be
    written.
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
            before_waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
