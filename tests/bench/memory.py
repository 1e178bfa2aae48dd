"""Resident memory of a worker that holds many requests open at once."""

import time
from dataclasses import dataclass

from tests.bench.cost import MIB
from tests.bench.load import Load
from tests.bench.meter import Meter
from tests.bench.rig import Lane
from tests.bench.runner import WORKER


@dataclass(frozen=True)
class Memory:
    """MiB resident: with nothing open yet, with every request open, once all have closed, and the
    most ever seen.
    """

    requests: int
    candidates: int
    before_mib: float
    open_mib: float
    closed_mib: float
    peak_mib: float


def measure_memory(lane: Lane, load: Load, requests: int) -> Memory:
    """Open every request (each lacks one candidate), then send what they lack."""
    requested_at, held = time.time_ns() // 1_000_000, requests * load.candidates
    lacking = (
        load.message(r, load.candidates, requested_at, load.candidates + 1) for r in range(requests)
    )
    with WORKER.start(lane.place) as running, Meter(running.process.pid) as meter:
        running.wait_until_ready()
        before = meter.resident
        lane.send(load.interleaved(requests, requested_at, open_at_once=requests, missing=1))
        lane.wait_until_taken(running, held)
        all_open = meter.resident
        lane.send(lacking)
        lane.wait_until_published(running, held + requests)
        closed = meter.resident
        lane.read_feeds(requests)
    shown = (round(size / MIB, 1) for size in (before, all_open, closed, meter.peak))
    return Memory(requests, held, *shown)
