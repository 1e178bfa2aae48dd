"""The stream: requests sent at a steady rate, and their feeds as a reader under read_committed has
them.

Every moment is in nanoseconds since the epoch, of the one clock that `ranked_at` and `applied_at`
are of.
"""

import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import Consumer, TopicPartition

from tests.bench.load import HEADERS, Load
from tests.bench.runner import PARTITIONS
from tests.trial.apart import Signals
from workers.ranking.weights import Weights
from workers.streaming.clients import Cluster
from workers.streaming.records import Fetched, fetched, is_end
from workers.streaming.send import Sender

T = TypeVar("T")


class FeedSeen(NamedTuple):
    """A feed: its request, when it was readable (ns), `ranked_at` (ms), its set, and whether its
    record is sound.
    """

    request: int
    came: int
    ranked_at: int
    version: str
    sound: bool


def send_requests(
    signals: Signals, kafka: str, topic: str, load: Load, rate: float, events: int
) -> list[int]:
    """Send until told to stop; for each request, the moment before its last event was sent."""
    sender = Sender.to(Cluster(kafka, {"linger.ms": "0"}), topic)
    sent: list[int] = []
    parts = [range(load.candidates)[part::events] for part in range(events)]
    signals.ready.set()
    began = time.monotonic()
    while not signals.stopping.is_set():
        while (left := began + len(sent) / rate - time.monotonic()) > 0:
            sender.producer.poll(left)
        requested_at = time.time_ns() // 1_000_000
        for places in parts:
            key, value = load.event(len(sent), places, requested_at, load.candidates)
            last = time.time_ns()
            sender.send(key, value, HEADERS)
        sent.append(last)
    sender.finish()
    return sent


def read_feeds(signals: Signals, kafka: str, topic: str, see: Callable[[Fetched], T]) -> list[T]:
    """Read until told to stop, and then to the end of the topic; what `see` makes of each feed as
    it comes.
    """
    reader = Cluster(kafka).reader()
    reader.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    found: list[T] = []
    read = dict.fromkeys(range(PARTITIONS), 0)
    signals.ready.set()
    while not signals.stopping.is_set() or not _at_end(reader, topic, read):
        polled = reader.poll(0.1)
        for message in fetched([] if polled is None else [polled]):
            if message.error() is None:
                found.append(see(message))
            if message.error() is None or is_end(message):
                read[message.partition()] = message.offset() + (message.error() is None)
    reader.close()
    return found


def _at_end(reader: Consumer, topic: str, read: dict[int, int]) -> bool:
    ends = {
        p: reader.get_watermark_offsets(TopicPartition(topic, p), timeout=30.0)[1] for p in read
    }
    return all(read[partition] >= end for partition, end in ends.items())


def see_feed(message: Fetched, candidates: int) -> FeedSeen:
    """A feed that is readable now."""
    came, feed, request = time.time_ns(), json.loads(message.value() or b""), request_of(message)
    return FeedSeen(
        request,
        came,
        feed["ranked_at"],
        feed["weights"]["version"],
        is_sound(feed, request, candidates),
    )


def request_of(message: Fetched) -> int:
    """The number of the request that a feed's key names."""
    return int((message.key() or b"").rpartition(b"-")[2])


def is_sound(feed: dict[str, Any], request: int, candidates: int) -> bool:
    """Whether a record holds all its request's items, in order, each with the sum that the record
    itself gives.
    """
    items, weights = feed["items"], feed["weights"]["values"]
    order = [(-item["final_score"], item["item_id"].encode()) for item in items]
    return (
        feed["request_id"] == f"request-{request:06d}"
        and feed["completion"] == "full"
        and {item["item_id"] for item in items}
        == {f"item-{request:06d}-{p:02d}" for p in range(candidates)}
        and [item["position"] for item in items] == list(range(candidates))
        and order == sorted(order)
        and feed["weights"]["version"] == Weights.of(weights).version
        and all(item["final_score"] == _sum(item["scores"], weights) for item in items)
    )


def _sum(scores: dict[str, float], weights: dict[str, float]) -> float:
    total = 0.0
    for objective, weight in weights.items():
        total += weight * scores[objective]
    return total
