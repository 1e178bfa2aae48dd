"""`--processes N`: a parent that starts the workers again when they fail, and children that end
with their parent.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType

from workers.log import log

_PATIENCE_SECONDS = 15.0
_QUICK_SECONDS = 5.0
_MOST_QUICK_ENDS = 3


def supervise(processes: int) -> int:
    """Run that many workers until a signal; returns the worst exit code.

    A worker that fails is started again; one that fails at once, three times in a row, ends them
    all.
    """
    children = [_Child() for _ in range(processes)]
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    while not stopping.wait(0.1):
        if not all(child.keep_running() for child in children):
            log.error("worker_fails", hint="its own last lines say why")
            break
    for child in children:
        child.stop()
    return max(child.end() for child in children)


class _Child:
    """One worker process. Its standard input is ours to hold: when we end, it ends, and the worker
    drains.
    """

    def __init__(self) -> None:
        self._quick_ends = 0
        self._failed = 0
        self._start()

    def _start(self) -> None:
        arguments = _without_processes(sys.argv[1:])
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", *arguments, "--with-parent"],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def keep_running(self) -> bool:
        """Start again a worker that has ended; False where it keeps failing at once."""
        code = self._process.poll()
        if code is None:
            return True
        quick = time.monotonic() - self._started < _QUICK_SECONDS
        self._quick_ends = self._quick_ends + 1 if quick else 0
        self._failed = code or 1
        log.warning("worker_ended", pid=self._process.pid, code=code)
        if code == 2 or self._quick_ends >= _MOST_QUICK_ENDS:
            return False
        self._start()
        self._failed = 0
        return True

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()

    def end(self) -> int:
        try:
            code = self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return self._failed or abs(code)


def _without_processes(words: list[str]) -> list[str]:
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word == "--processes":
            skip = True
        elif not word.startswith("--processes="):
            kept.append(word)
    return kept


def exit_with_parent() -> None:
    """Drain as by SIGTERM when standard input ends: the parent is gone, however it went."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="with-parent", daemon=True).start()
