"""A peer: what a good engineer writes in an afternoon with confluent-kafka, msgspec and
onnxruntime.

At-least-once: it commits the first offset of the oldest open request, and after a crash publishes
some feeds again. It scores request by request. It has no deadline, no validation, no dead letter,
no live weights, no version, and no bound on what it holds.

    python plain_loop.py KAFKA GROUP CANDIDATES FEEDS MODELS
"""

import signal
import sys
import time
from typing import Any

import msgspec
import numpy as np
import onnxruntime
from confluent_kafka import Consumer, Producer, TopicPartition

WEIGHTS = {"quality": 0.5, "engagement": 0.5}
COMMIT_SECONDS = 1.0


def load_sessions(models: str) -> dict[str, Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return {o: onnxruntime.InferenceSession(f"{models}/{o}/1/model.onnx", options) for o in WEIGHTS}


def rank(request: dict[str, Any], sessions: dict[str, Any]) -> bytes:
    matrix = np.array([c["features"] for c in request["candidates"]], np.float32)
    scores = {
        o: session.run(None, {"features": matrix})[0].ravel().tolist()
        for o, session in sessions.items()
    }
    items = [
        {
            "item_id": candidate["item_id"],
            "final_score": sum(weight * scores[o][place] for o, weight in WEIGHTS.items()),
            "scores": {o: scores[o][place] for o in WEIGHTS},
        }
        for place, candidate in enumerate(request["candidates"])
    ]
    items.sort(key=lambda item: (-item["final_score"], item["item_id"]))
    return msgspec.json.encode(
        {"request_id": request["request_id"], "user_id": request["user_id"], "items": items}
    )


class Loop:
    def __init__(self, kafka: str, group: str, candidates: str, feeds: str, models: str) -> None:
        self.candidates = candidates
        self.feeds = feeds
        self.sessions = load_sessions(models)
        self.producer = Producer(
            {"bootstrap.servers": kafka, "linger.ms": 2, "enable.idempotence": True}
        )
        settings = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        self.consumer = Consumer({"bootstrap.servers": kafka} | settings)
        self.open: dict[str, dict[str, Any]] = {}
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
        request_id = event["request_id"]
        partition = message.partition()
        offset = message.offset()
        self.next_offsets[partition] = offset + 1
        request = self.open.get(request_id)
        if request is None:
            request = self.open[request_id] = event | {"partition": partition, "offset": offset}
        else:
            request["candidates"] += event["candidates"]
        if len(request["candidates"]) >= request["expected"]:
            del self.open[request_id]
            self.producer.produce(self.feeds, rank(request, self.sessions), request_id, partition)
            self.producer.poll(0)

    def commit(self) -> None:
        self.producer.flush()
        offsets = dict(self.next_offsets)
        for request in self.open.values():
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
