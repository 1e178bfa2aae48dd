"""The share of a worker's CPU that is spent inside onnxruntime."""

import json
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from tests.bench.cost import Metered, moments_of
from tests.bench.inputs import Input
from tests.bench.meter import Meter
from tests.bench.programs import Program
from tests.bench.topics import read_all_feeds
from tests.rig.environment import Environment
from tests.rig.progress import wait_until_published


class SessionTime(NamedTuple):
    """By a moment (seconds since the epoch), CPU seconds that were spent in sessions."""

    at: float
    spent: float


def measure_onnx_share(env: Environment, shape: Input, requests: int) -> float:
    """Rank a backlog that is there, with a clock around onnxruntime. See timed_worker.py."""
    path = env.folder / f"{env.name}-sessions.json"
    program = Program(
        name="trimtab worker, timed",
        delivery="exactly-once",
        lacks="",
        arguments=lambda _: ["-m", "tests.bench.timed_worker", str(path), "worker"],
        ready="event=restored",
    )
    events = requests * -(-shape.candidates // shape.batch)
    with program.start(env) as process, Meter(process.pid) as meter:
        wait_until_published(env, process, events)
        feeds = read_all_feeds(env, requests)
        process.terminate()

    calls = [SessionTime(*call) for call in json.loads(path.read_text())]
    return share_of(meter, calls, moments_of(feeds))


def share_of(meter: Metered, calls: Sequence[SessionTime], moments: Sequence[float]) -> float:
    """CPU in sessions divided by the CPU of the process, between the first feed and the last.

    Feeds of a batch are published after its calls. So both ends lie between two batches.
    """
    assert calls, "no call into onnxruntime was seen: does the worker call it in another way?"
    first = moments[0]
    last = moments[-1]

    def spent_by(moment: float) -> float:
        place = bisect_right(calls, moment, key=lambda call: call.at)
        return calls[place - 1].spent if place else 0.0

    return round((spent_by(last) - spent_by(first)) / meter.cpu_between(first, last), 3)
