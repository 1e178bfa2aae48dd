"""What every process exports of itself: version, start, CPU, memory."""

import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Final

from workers.metrics.names import (
    BUILD_INFO,
    CPU_SECONDS,
    MEMORY_BYTES,
    MEMORY_LIMIT_BYTES,
    START_TIME,
)
from workers.metrics.samples import Sample, sample

_STARTED_AT: Final = time.time()
_VERSION: Final = version("trimtab")
_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),  # version 2
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),  # version 1
)
_NO_LIMIT: Final = 1 << 60
"""Version 1 says "no limit" by a number of this size."""


def process_samples() -> list[Sample]:
    """Read them now."""
    samples = [
        sample(BUILD_INFO, 1, _VERSION),
        sample(START_TIME, _STARTED_AT),
        sample(CPU_SECONDS, time.process_time()),
    ]
    resident = resident_bytes()
    if resident is not None:
        samples.append(sample(MEMORY_BYTES, resident))
    limit = memory_limit()
    if limit is not None:
        samples.append(sample(MEMORY_LIMIT_BYTES, limit))
    return samples


def resident_bytes() -> int | None:
    """The resident memory of this process. None if the system does not say it as Linux does."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory_limit() -> int | None:
    """The limit of the control group. None if there is none, or if the system does not say it."""
    for path in _LIMITS:
        try:
            limit = int(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if limit < _NO_LIMIT:
            return limit
    return None
