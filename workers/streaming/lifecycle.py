"""Slots: each worker of a host holds one number, and with it one transactional id.

A lock on a file under the home folder: the kernel gives it back however the worker ends.
"""

import fcntl
import os
import socket
from pathlib import Path
from typing import IO

_MOST = 1024


class SlotTaken(Exception):
    """The slot asked for, or every slot, is held by another worker of this host."""


class Slot:
    """A slot that is held until `release`, or until the process ends."""

    def __init__(self, number: int, lock: IO[str]) -> None:
        self.number = number
        self._lock = lock

    def transactional_id(self, group: str) -> str:
        """Static: a worker that comes back in this slot fences the one that was here before."""
        return f"{group}-{socket.gethostname()}-{self.number}"

    def release(self) -> None:
        """Give the slot back."""
        self._lock.close()


def take_slot(home: Path, group: str, wanted: int | None) -> Slot:
    """Take the slot that is wanted, else the lowest free one. Raises SlotTaken."""
    folder = home / "slots" / group.replace(os.sep, "_")
    folder.mkdir(parents=True, exist_ok=True)
    for number in [wanted] if wanted is not None else range(_MOST):
        lock = (folder / str(number)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return Slot(number, lock)
    if wanted is None:
        raise SlotTaken(f"all {_MOST} slots of group {group!r} are taken on this host")
    raise SlotTaken(f"slot {wanted} of group {group!r} is held by another worker of this host")
