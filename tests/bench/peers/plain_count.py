"""A peer: a bare loop that reads interactions and decodes them, with confluent-kafka and msgspec.

At-least-once. It joins nothing and counts nothing but records: it is what any join in Python pays
before it does anything.

    python -m tests.bench.peers.plain_count KAFKA GROUP INTERACTIONS
"""

import signal
import sys
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from confluent_kafka import Consumer, TopicPartition

COMMIT_SECONDS = 1.0


class Wire(msgspec.Struct, gc=False):
    """An interaction. A feed record fits too: what it has besides is skipped."""

    request_id: str
    surface: str
    user_id: str
    item_id: str = ""
    kind: str = ""
    at: int = 0
    value: float | None = None


decode = msgspec.json.Decoder(Wire).decode


class Loop:
    def __init__(self, kafka: str, group: str, interactions: str) -> None:
        self.topic = interactions
        settings = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        self.consumer = Consumer({"bootstrap.servers": kafka} | settings)
        self.next_offsets: dict[int, int] = {}
        self.records = 0
        self.running = True

    def run(self) -> None:
        self.consumer.subscribe([self.topic], on_assign=log_ready)
        committed = time.monotonic()
        while self.running:
            for message in self.consumer.consume(250, 0.05):
                if message.error() is None:
                    self.take(message)
            if time.monotonic() - committed > COMMIT_SECONDS:
                self.commit()
                committed = time.monotonic()
        self.commit()
        self.consumer.close()

    def take(self, message: Any) -> None:
        wire = decode(message.value())
        self.records += bool(wire.request_id)
        self.next_offsets[message.partition()] = message.offset() + 1

    def commit(self) -> None:
        places = [TopicPartition(self.topic, p, o) for p, o in self.next_offsets.items()]
        if places:
            self.consumer.commit(offsets=places, asynchronous=False)


def log_ready(_consumer: Consumer, _assigned: list[TopicPartition]) -> None:
    sys.stdout.write(f"timestamp={datetime.now(UTC).isoformat()} event=ready\n")
    sys.stdout.flush()


if __name__ == "__main__":
    loop = Loop(*sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: setattr(loop, "running", False))
    loop.run()
