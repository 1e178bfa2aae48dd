"""Runs that do not end are stopped: a verified model may still loop for ever over a row that
verification never saw.

onnxruntime looks at a flag between two operators, also inside of a loop. A thread of this module
sets it for a run that is past its limit. It wakes twice a second, so that a run costs two
assignments, and a limit is kept to half a second.
"""

import itertools
import threading
import time
from typing import NamedTuple

import onnxruntime

_LOOK_SECONDS = 0.5


class _Run(NamedTuple):
    until: float
    options: onnxruntime.RunOptions


class RunLimits:
    """Of all threads of a process. `begin` a run, give it the options, and `end` it."""

    def __init__(self) -> None:
        self._runs: dict[int, _Run] = {}
        self._numbers = itertools.count()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, seconds: float) -> tuple[int, onnxruntime.RunOptions]:
        """The number of a new run, and the options that stop it `seconds` from now."""
        if self._thread is None:
            self._start()
        options = onnxruntime.RunOptions()
        number = next(self._numbers)
        self._runs[number] = _Run(time.monotonic() + seconds, options)
        return number, options

    def end(self, number: int) -> None:
        """The run is over."""
        del self._runs[number]

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="run-limits", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(_LOOK_SECONDS):
            now = time.monotonic()
            # A copy: other threads begin and end runs meanwhile.
            for run in list(self._runs.values()):
                if now >= run.until:
                    run.options.terminate = True


RUN_LIMITS = RunLimits()
