"""Sending events as a producer in any language would: with that partitioner, key and header."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from workers.errors import Failure
from workers.streaming.clients import Cluster
from workers.streaming.records import Headers
from workers.streaming.rights import denied_rights, describe_missing, sender_rights


class SendFailed(Failure):
    """The broker did not take some events. The message says how many, and why."""


@dataclass
class Sender:
    """Sends to one topic. `queued` counts the events that were to be sent, `sent` those that the
    broker has taken. `failure` is the first error.
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
        """Queue one record. Waits while the client's queue is full."""
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
        """Wait until the broker has answered for every event. Raises SendFailed if it did not take
        one.
        """
        self._serve(self.producer.flush, timeout)
        missing = self.queued - self.sent
        if not missing:
            return

        if self.failure is None:
            why = f"no answer within {timeout:g} s"
        else:
            denied = denied_rights(self.cluster, self.failure, sender_rights(self.topic))
            why = describe_missing(self.cluster, denied) if denied else self.failure.str()
        raise SendFailed(f"{missing} events were not taken by the broker: {why}")

    def _serve(self, call: Callable[[float], int], seconds: float) -> None:
        """Let the client report deliveries.

        It raises a fatal error out of the call during which the error is noticed. If a delivery is
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
