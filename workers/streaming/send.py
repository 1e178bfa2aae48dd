"""Sending events: the partitioner, the key and the header that a producer in any language would
use.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from workers.errors import Failure
from workers.streaming.clients import Cluster
from workers.streaming.records import Headers
from workers.streaming.rights import denied_rights, describe_missing, sender_rights


class SendFailed(Failure):
    """Some events were not taken by the broker; the message says how many and why."""


@dataclass
class Sender:
    """Sends to one topic; `queued` counts what was to be sent, `sent` what the broker has taken of
    it.
    """

    cluster: Cluster
    producer: Producer
    topic: str
    queued: int = 0
    sent: int = 0
    failure: KafkaError | None = None

    @classmethod
    def to(cls, cluster: Cluster, topic: str) -> "Sender":
        """A sender with an idempotent producer."""
        return cls(cluster, cluster.producer(), topic)

    def send(self, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Queue one record; waits while the client's queue is full."""
        self.queued += 1
        while True:
            try:
                self.producer.produce(
                    self.topic, value, key, on_delivery=self._delivered, headers=list(headers)
                )
            except BufferError:
                self._serve(self.producer.poll, 0.1)
            except KafkaException as error:
                self._failed(error.args[0])
                return
            else:
                self._serve(self.producer.poll, 0)
                return

    def finish(self, timeout: float = 60.0) -> None:
        """Wait until everything is answered. Raises SendFailed where an event was not taken."""
        self._serve(self.producer.flush, timeout)
        missing = self.queued - self.sent
        if missing:
            raise SendFailed(f"{missing} events were not taken by the broker: {self._why(timeout)}")

    def _why(self, timeout: float) -> str:
        if self.failure is None:
            return f"no answer within {timeout:g} s"
        denied = denied_rights(self.cluster, self.failure, sender_rights(self.topic))
        return describe_missing(self.cluster, denied) if denied else self.failure.str()

    def _serve(self, call: Callable[[float], int], seconds: float) -> None:
        """Take the broker's answers.

        The client raises a fatal error out of the call during which it is noticed. If a delivery is
        reported in that call too, the interpreter raises SystemError instead, with the fatal error
        as its cause.
        """
        try:
            call(seconds)
        except (KafkaException, SystemError) as error:
            fatal = error if isinstance(error, KafkaException) else error.__cause__
            if not isinstance(fatal, KafkaException):
                raise
            self.failure = fatal.args[0]

    def _delivered(self, error: KafkaError | None, _message: Any) -> None:
        if error is None:
            self.sent += 1
        else:
            self._failed(error)

    def _failed(self, error: KafkaError) -> None:
        self.failure = self.failure or error
