"""A backlog: all events are there before the process starts, so that it is never idle until the
end.
"""

import time

from tests.bench.cost import Cost, cost_of, moments_of
from tests.bench.load import Load
from tests.bench.meter import Meter
from tests.bench.rig import Lane
from tests.bench.runner import Runner


def fill(lane: Lane, load: Load, requests: int) -> None:
    """Write the backlog."""
    lane.send(load.interleaved(requests, time.time_ns() // 1_000_000))


def measure_backlog(runner: Runner, lane: Lane, load: Load, requests: int) -> Cost:
    """Rank a backlog that is there; its feeds are read only afterwards, so as not to disturb."""
    with runner.start(lane.place) as running, Meter(running.process.pid) as meter:
        lane.wait_until_published(running, requests * load.candidates)
        feeds = lane.read_feeds(requests)
    return cost_of(meter, moments_of(feeds), load.candidates)
