"""A peer: what a good engineer writes in an afternoon with confluent-kafka, msgspec and
onnxruntime.

At-least-once: it commits the first offset of the oldest open request, and after a crash publishes
some feeds again. It scores request by request. It has no deadline, no validation, no dead letter,
no live weights, and no bound on what it holds.

    python -m tests.bench.peers.plain_loop KAFKA GROUP CANDIDATES FEEDS MODELS
"""

import signal
import sys
import time
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.bench.peers.ranking import Ranking

COMMIT_SECONDS = 1.0


class Loop:
    def __init__(self, kafka: str, group: str, candidates: str, feeds: str, models: str) -> None:
        self.candidates = candidates
        self.feeds = feeds
        self.ranking = Ranking(models)
        self.producer = Producer(
            {"bootstrap.servers": kafka, "linger.ms": 2, "enable.idempotence": True}
        )
        settings = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        self.consumer = Consumer({"bootstrap.servers": kafka} | settings)
        self.next_offsets: dict[int, int] = {}
        self.running = True

    def run(self) -> None:
        self.consumer.subscribe([self.candidates], on_assign=say_ready)
        committed = time.monotonic()
        while self.running:
            for message in self.consumer.consume(1000, 0.005):
                if message.error() is None:
                    self.take(message)
            if time.monotonic() - committed > COMMIT_SECONDS:
                self.commit()
                committed = time.monotonic()
        self.commit()
        self.consumer.close()

    def take(self, message: Any) -> None:
        event = msgspec.json.decode(message.value())
        partition = message.partition()
        event["partition"] = partition
        event["offset"] = message.offset()
        self.next_offsets[partition] = message.offset() + 1
        request = self.ranking.take(event)
        if request is not None:
            feed = msgspec.json.encode(self.ranking.rank(request))
            self.producer.produce(self.feeds, feed, request["request_id"], partition)
            self.producer.poll(0)

    def commit(self) -> None:
        self.producer.flush()
        offsets = dict(self.next_offsets)
        for request in self.ranking.open.values():
            offsets[request["partition"]] = min(offsets[request["partition"]], request["offset"])
        if offsets:
            places = [TopicPartition(self.candidates, p, offset) for p, offset in offsets.items()]
            self.consumer.commit(offsets=places, asynchronous=False)


def say_ready(_consumer: Consumer, assigned: list[TopicPartition]) -> None:
    sys.stdout.write("ready\n" * len(assigned))
    sys.stdout.flush()


if __name__ == "__main__":
    loop = Loop(*sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: setattr(loop, "running", False))
    loop.run()
