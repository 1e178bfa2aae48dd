"""On what a bench ran: figures mean nothing without it."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
from confluent_kafka import libversion

_LIBRARIES = ("confluent-kafka", "onnxruntime", "numpy", "msgspec", "redis")


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
    """Look at the machine that this runs on."""
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
