"""A steady stream: so many requests a second, each sent in one go, from another process.

Latency is from the last candidate of a request (the moment before it is handed to a producer that
does not linger) to its feed in the hands of a consumer under read_committed. Both moments are of
the machine's one monotonic clock.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from tests.bench.cost import Cost, cost_of, moments_of
from tests.bench.latency import Latency
from tests.bench.load import HEADERS, Load
from tests.bench.meter import Meter
from tests.bench.rig import Lane, check_keys
from tests.bench.runner import PARTITIONS, Runner
from workers.streaming.clients import Cluster
from workers.streaming.records import Fetched, fetched
from workers.streaming.send import Sender

WARM_UP_SECONDS = 5.0
_SILENCE_SECONDS = 30.0


def judged_from(requests: int, rate: float) -> int:
    """The first request that counts: those of the first seconds do not, the broker, too, is slow
    until it is warm.
    """
    return min(int(rate * WARM_UP_SECONDS), requests // 2)


@dataclass(frozen=True)
class Stream:
    """How much is sent: requests, and how many of them a second."""

    load: Load
    requests: int
    rate: float

    @property
    def judged_from(self) -> int:
        """The first request that counts, by its number."""
        return judged_from(self.requests, self.rate)


class Delivered(NamedTuple):
    """One request's feed, and the milliseconds after its last candidate was sent."""

    request: int
    milliseconds: float
    feed: Fetched


def measure_steady(runner: Runner, lane: Lane, stream: Stream) -> tuple[Cost, Latency]:
    """Send a stream to a process that is ready, and read its feeds as they come."""
    with runner.start(lane.place) as running, Meter(running.process.pid) as meter:
        running.wait_until_ready()
        judged = [one for one in deliver(lane, stream) if one.request >= stream.judged_from]
    cost = cost_of(meter, moments_of([one.feed for one in judged]), stream.load.candidates)
    return cost, Latency.of([one.milliseconds for one in judged])


def deliver(lane: Lane, stream: Stream) -> list[Delivered]:
    """Send a stream, and read its feeds as they come; fails where one is lost or doubled."""
    with _reader(lane) as reader, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        sending = pool.submit(send_stream, lane.place.kafka, lane.place.candidates, stream)
        readable = _read(reader, stream.requests)
        sent = sending.result()
    check_keys([feed.key() for _, feed in readable], stream.requests)
    numbered = [(_number(feed), at, feed) for at, feed in readable]
    return [Delivered(number, (at - sent[number]) / 1e6, feed) for number, at, feed in numbered]


def send_stream(kafka: str, topic: str, stream: Stream) -> list[int]:
    """Runs in a process of its own: for each request, when its last candidate was sent (ns,
    monotonic).
    """
    sender = Sender.to(Cluster(kafka, {"linger.ms": "0"}), topic)
    sent, began = [], time.monotonic()
    for request in range(stream.requests):
        _wait_until(sender, began + request / stream.rate)
        for key, value in stream.load.request(request, time.time_ns() // 1_000_000):
            last = time.monotonic_ns()
            sender.send(key, value, HEADERS)
        sent.append(last)
    sender.finish()
    return sent


def _wait_until(sender: Sender, moment: float) -> None:
    while (left := moment - time.monotonic()) > 0:
        sender.producer.poll(left)


@contextmanager
def _reader(lane: Lane) -> Iterator[Consumer]:
    consumer = lane.cluster.reader()
    consumer.assign([TopicPartition(lane.place.feeds, p, 0) for p in range(PARTITIONS)])
    try:
        yield consumer
    finally:
        consumer.close()


def _read(reader: Consumer, count: int) -> list[tuple[int, Fetched]]:
    """Feeds, each with the moment (ns, monotonic) at which it came."""
    found: list[tuple[int, Fetched]] = []
    heard = time.monotonic()
    while len(found) < count and time.monotonic() - heard < _SILENCE_SECONDS:
        polled = reader.poll(0.5)
        for message in fetched([] if polled is None else [polled]):
            if message.error() is None:
                heard = time.monotonic()
                found.append((time.monotonic_ns(), message))
    return found


def _number(feed: Fetched) -> int:
    return int((feed.key() or b"").rpartition(b"-")[2])
