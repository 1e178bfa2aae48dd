"""Resident memory of a worker that holds many requests open at once."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.cost import MIB
from tests.bench.meter import Meter
from tests.bench.programs import WORKER
from tests.bench.topics import read_all_feeds, send
from tests.rig.environment import Environment
from tests.rig.progress import wait_until_published, wait_until_taken
from tests.rig.traffic import Load


@dataclass(frozen=True)
class Memory:
    """MiB resident: before a request is open, with all open, with all closed, and the most seen."""

    requests: int
    candidates: int
    before_mib: float
    open_mib: float
    closed_mib: float
    peak_mib: float

    def lines(self) -> Iterator[str]:
        """As lines of the report."""
        each = self.candidates // self.requests
        yield f"\nMemory of the worker, {self.requests:,} open requests of {each}: MiB resident"
        yield (
            f"  before {self.before_mib:.0f}, all open {self.open_mib:.0f}, all closed {self.closed_mib:.0f}, "
            f"peak {self.peak_mib:.0f}"
        )


def measure_memory(env: Environment, load: Load, requests: int) -> Memory:
    """Open every request (each lacks one candidate), then send what they lack."""
    requested_at = time.time_ns() // 1_000_000
    candidates = requests * load.candidates
    missing = (
        load.message(request, load.candidates, requested_at, load.candidates + 1)
        for request in range(requests)
    )
    with WORKER.start(env) as worker, Meter(worker.pid) as meter:
        WORKER.wait_until_ready(worker)
        before = meter.resident

        send(env, load.interleaved(requests, requested_at, open_at_once=requests, missing=1))
        wait_until_taken(env, worker, candidates)
        all_open = meter.resident

        send(env, missing)
        wait_until_published(env, worker, candidates + requests)
        closed = meter.resident
        read_all_feeds(env, requests)

    return Memory(
        requests=requests,
        candidates=candidates,
        before_mib=round(before / MIB, 1),
        open_mib=round(all_open / MIB, 1),
        closed_mib=round(closed / MIB, 1),
        peak_mib=round(meter.peak / MIB, 1),
    )
