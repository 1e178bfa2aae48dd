"""What a process costs, seen from outside: its CPU time (user and system, all threads) and its
resident memory.
"""

import threading
import time
from bisect import bisect_left
from types import TracebackType
from typing import NamedTuple

import psutil

PERIOD_SECONDS = 0.02


class Sample(NamedTuple):
    """One look: when (seconds since the epoch), CPU seconds so far, resident bytes."""

    at: float
    cpu: float
    resident: int


class Meter:
    """Looks at a process fifty times a second until the end of the `with` block."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        # The process's CPU clock, as clock_getcpuclockid(3) makes it on Linux: /proc counts in
        # ticks of 10 ms only.
        self._cpu_clock = (~pid << 3) | 2
        self._samples: list[Sample] = [self._look()]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Meter":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def cpu_between(self, start: float, end: float) -> float:
        """CPU seconds that the process used between two moments (seconds since the epoch)."""
        return self._cpu_at(end) - self._cpu_at(start)

    @property
    def peak(self) -> int:
        """The greatest resident memory seen, in bytes."""
        return max(sample.resident for sample in self._samples)

    @property
    def cpu(self) -> float:
        """CPU seconds that the process has used since it began."""
        return self._look().cpu

    @property
    def resident(self) -> int:
        """The resident memory now, in bytes."""
        return self._look().resident

    def _cpu_at(self, moment: float) -> float:
        """Between two looks the time is taken to have been used evenly."""
        place = bisect_left(
            self._samples, moment, 1, len(self._samples) - 1, key=lambda sample: sample.at
        )
        before = self._samples[place - 1]
        after = self._samples[place]
        return before.cpu + (after.cpu - before.cpu) * (moment - before.at) / (after.at - before.at)

    def _watch(self) -> None:
        while not self._ended.wait(PERIOD_SECONDS):
            self._samples.append(self._look())

    def _look(self) -> Sample:
        return Sample(
            time.time(), time.clock_gettime(self._cpu_clock), self._process.memory_info().rss
        )
