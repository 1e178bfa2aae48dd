"""Waits for a line from another process, but not for ever."""

import os
import select
from pathlib import Path


def make_pipe(path: Path) -> int:
    """A named pipe, and the descriptor at which it can be read."""
    os.mkfifo(path)
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def read_line(pipe: int, within: float = 60.0) -> str:
    """Return the first line that is written to the pipe, and close it."""
    with os.fdopen(pipe) as lines:
        watch = select.poll()
        watch.register(pipe, select.POLLIN)
        assert watch.poll(within * 1000), f"nothing was written within {within} s"
        return lines.readline().strip()
