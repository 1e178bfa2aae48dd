"""A steady stream from another process, each request sent in one go.

A latency is the time from the last candidate of a request (the moment before it is handed to a
producer that does not linger) to its feed in the hands of a consumer under read_committed. Both
moments are of the machine's one monotonic clock.
"""

import time
from dataclasses import dataclass
from typing import NamedTuple

from tests.bench.cost import Cost, cost_of, moments_of
from tests.bench.meter import Meter
from tests.bench.programs import Program
from tests.bench.topics import check_keys
from tests.rig.background import Background
from tests.rig.environment import Environment
from tests.rig.times import Times
from tests.rig.topics import RecordReader
from tests.rig.traffic import Load, Pace, request_number, send_steadily
from workers.streaming.records import Fetched

WARM_UP_SECONDS = 5.0
_SILENCE_SECONDS = 30.0


def judged_from(requests: int, rate: float) -> int:
    """The number of the first request that counts. Also the broker is slow until it is warm."""
    return min(int(rate * WARM_UP_SECONDS), requests // 2)


@dataclass(frozen=True)
class Stream:
    """How many requests are sent, how many of them a second, and in how many events each. Without
    `events`, every candidate is an event.
    """

    load: Load
    requests: int
    rate: float
    events: int | None = None

    @property
    def judged_from(self) -> int:
        """The number of the first request that counts."""
        return judged_from(self.requests, self.rate)


class Delivered(NamedTuple):
    """The feed of one request, and its latency in ns."""

    request: int
    nanoseconds: int
    feed: Fetched


def measure_steady(program: Program, env: Environment, stream: Stream) -> tuple[Cost, Times]:
    """Send a stream to a program that is ready, and read its feeds as they come."""
    with program.start(env) as process, Meter(process.pid) as meter:
        program.wait_until_ready(process)
        delivered = deliver(env, stream)

    judged = [one for one in delivered if one.request >= stream.judged_from]
    cost = cost_of(meter, moments_of([one.feed for one in judged]), stream.load.candidates)
    return cost, Times.of(one.nanoseconds for one in judged)


def measure_harness(env: Environment, stream: Stream) -> Times:
    """The times of the harness itself: from the last candidate sent to that event in the hands of the
    consumer that reads feeds. No program is between them.
    """
    with RecordReader(env.kafka, env.candidates) as reader, _sending(env, stream) as sending:
        events = stream.requests * (stream.events or stream.load.candidates)
        readable = _read(reader, events)
        sent = sending.result()

    # An event of the same request that is read later replaces it.
    moments = {request_number(event.key()): moment for moment, event in readable}
    assert len(moments) == stream.requests, f"{stream.requests} requests, {len(moments)} came"
    return Times.of(
        moment - sent[number] for number, moment in moments.items() if number >= stream.judged_from
    )


def deliver(env: Environment, stream: Stream) -> list[Delivered]:
    """Send a stream, and read its feeds as they come. Fails if one is lost or doubled."""
    with RecordReader(env.kafka, env.feeds) as reader, _sending(env, stream) as sending:
        readable = _read(reader, stream.requests)
        sent = sending.result()

    check_keys([feed.key() for _, feed in readable], stream.requests)
    delivered = []
    for moment, feed in readable:
        number = request_number(feed.key())
        delivered.append(Delivered(number, moment - sent[number], feed))
    return delivered


def _sending(env: Environment, stream: Stream) -> Background[list[int]]:
    events = stream.events or stream.load.candidates
    pace = Pace(rate=stream.rate, events=events, requests=stream.requests)
    return Background(
        send_steadily, env.kafka, env.candidates, stream.load, pace, time.monotonic_ns
    )


def _read(reader: RecordReader, count: int) -> list[tuple[int, Fetched]]:
    """Feeds, each with the moment (ns, monotonic) at which it came. Fewer after a long silence."""
    feeds: list[tuple[int, Fetched]] = []
    last = time.monotonic()
    while len(feeds) < count and time.monotonic() - last < _SILENCE_SECONDS:
        feed = reader.poll(0.5)
        if feed is not None:
            feeds.append((time.monotonic_ns(), feed))
            last = time.monotonic()
    return feeds
