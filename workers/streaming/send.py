"""Sending events: the partitioner, the key and the header that a producer in any language would
use.
"""

from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from workers.errors import Failure
from workers.streaming.clients import Cluster
from workers.streaming.records import Headers


class SendFailed(Failure):
    """Some events were not taken by the broker; the message says how many and why."""


@dataclass
class Sender:
    """Sends to one topic; `sent` and `failed` count what the broker has answered."""

    producer: Producer
    topic: str
    sent: int = 0
    failed: int = 0
    failure: KafkaError | None = None

    @classmethod
    def to(cls, cluster: Cluster, topic: str) -> "Sender":
        """A sender with an idempotent producer."""
        return cls(cluster.producer(), topic)

    def send(self, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Queue one record; waits while the client's queue is full."""
        while True:
            try:
                self.producer.produce(
                    self.topic, value, key, on_delivery=self._delivered, headers=list(headers)
                )
            except BufferError:
                self.producer.poll(0.1)
            except KafkaException as error:
                self._count_failure(error.args[0])
                return
            else:
                self.producer.poll(0)
                return

    def finish(self, timeout: float = 60.0) -> None:
        """Wait until everything is answered. Raises SendFailed where an event was not taken."""
        left = self.producer.flush(timeout)
        if left or self.failed:
            why = (
                self.failure.str()
                if self.failure is not None
                else f"no answer within {timeout:g} s"
            )
            raise SendFailed(f"{self.failed + left} events were not taken by the broker: {why}")

    def _delivered(self, error: KafkaError | None, _message: Any) -> None:
        if error is None:
            self.sent += 1
        else:
            self._count_failure(error)

    def _count_failure(self, error: KafkaError) -> None:
        self.failed += 1
        self.failure = self.failure or error
