"""The machine that something ran on, and how long it lets a process wait for its turn.

Figures mean nothing without both.
"""

import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import psutil
from confluent_kafka import libversion

from tests.rig.background import Signals

_LIBRARIES = ("confluent-kafka", "onnxruntime", "numpy", "msgspec", "redis")
_WAKE_SECONDS = 0.005


@dataclass(frozen=True)
class Machine:
    """The processor's model, usable cores, memory (GiB), and the versions of what was measured."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    libraries: dict[str, str]

    def lines(self) -> Iterator[str]:
        """The head of a report."""
        libraries = ", ".join(f"{name} {version}" for name, version in self.libraries.items())
        yield f"machine  {self.cpu}, {self.cores} cores, {self.memory_gib} GiB, Linux {self.kernel}"
        yield f"with     {self.python}, {libraries}"


def this_machine() -> Machine:
    """The machine that this runs on."""
    libraries = {name: version(name) for name in _LIBRARIES}
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        kernel=platform.release(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        libraries=libraries | {"librdkafka": libversion()[0]},
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


class Wakeup(NamedTuple):
    """A process that slept for 5 ms woke at a moment (ns since the epoch), `late_ms` too late."""

    at: int
    late_ms: float


def record_wakeups(signals: Signals) -> list[Wakeup]:
    """Sleep 200 times a second until asked to end. No program on this machine is more punctual."""
    wakeups: list[Wakeup] = []
    signals.ready.set()
    due = time.monotonic() + _WAKE_SECONDS
    while not signals.stopping.wait(max(0.0, due - time.monotonic())):
        now = time.monotonic()
        wakeups.append(Wakeup(time.time_ns(), (now - due) * 1000))
        due = now + _WAKE_SECONDS
    return wakeups
