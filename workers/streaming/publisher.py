"""Transactions: feeds, dead letters and offsets go out together or not at all.

What a failure means is decided here, by who is at fault:
- `TransactionAborted`: the transaction is undone; poll, so that lost partitions are dropped, and publish again;
- `ProducerLost`: nobody can say how it ended; everything starts anew from what is committed;
- `Fenced`: another worker runs under our transactional id; this one must stop.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from workers.streaming.clients import Cluster
from workers.streaming.reach import Reach
from workers.streaming.records import Headers

CALL_SECONDS = 5.0
"""How long one transactional call may take before its producer is given up."""


class TransactionAborted(Exception):
    """The transaction is undone and may be tried again after a poll."""


class ProducerLost(Exception):
    """The outcome is unknown, or the producer is of no more use: start anew from what is committed."""


class Fenced(Exception):
    """Another producer took over our transactional id: two workers share a slot."""


class Output(NamedTuple):
    """One record to publish, encoded once: a retry sends the same bytes."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Publisher:
    """One transactional producer. `ends` holds, by output partition, the offset after our last feed there."""

    def __init__(
        self, cluster: Cluster, transactional_id: str, feeds_topic: str, batch_bytes: int, reach: Reach
    ) -> None:
        self._cluster, self._transactional_id, self._feeds_topic = cluster, transactional_id, feeds_topic
        self._batch_bytes, self._reach = batch_bytes, reach
        self._producer: Producer | None = None
        self._failure: KafkaError | None = None
        self.ends: dict[int, int] = {}

    def start(self) -> bool:
        """Fence whoever used our transactional id before. False while the broker cannot be reached."""
        producer = self._cluster.transactional(self._transactional_id, self._batch_bytes)
        try:
            producer.init_transactions(CALL_SECONDS)
        except KafkaException as error:
            cause = error.args[0]
            if cause.retriable() or cause.code() == KafkaError._TIMED_OUT:
                self._reach.lost(cause)
                return False
            raise
        self._reach.heard()
        self._producer = producer
        return True

    def publish(self, outputs: Iterable[Output], offsets: Sequence[TopicPartition], consumer: Consumer) -> None:
        """Publish in one transaction. Raises TransactionAborted, ProducerLost or Fenced."""
        producer = self._producer
        if producer is None:
            raise ProducerLost("there is no producer")
        self._failure = None
        try:
            producer.begin_transaction()
            for output in outputs:
                self._produce(producer, output)
            producer.send_offsets_to_transaction(list(offsets), consumer.consumer_group_metadata(), CALL_SECONDS)
            producer.commit_transaction(CALL_SECONDS)
        except KafkaException as error:
            self._recover(producer, error.args[0])

    def _produce(self, producer: Producer, output: Output) -> None:
        while True:
            try:
                producer.produce(
                    output.topic,
                    output.value,
                    output.key,
                    output.partition,
                    on_delivery=self._delivered,
                    headers=list(output.headers),
                )
            except BufferError:
                producer.poll(0.05)
            else:
                return

    def _delivered(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._failure = self._failure or error
        elif message.topic() == self._feeds_topic:
            self.ends[message.partition()] = message.offset() + 1

    def _recover(self, producer: Producer, cause: KafkaError) -> None:
        """Turn a failed call into what is to be done about it; always raises."""
        if cause.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED):
            self._discard(producer)
            raise Fenced(cause.str())
        if not cause.fatal() and cause.txn_requires_abort():
            try:
                producer.abort_transaction(CALL_SECONDS)
            except KafkaException as error:
                cause = error.args[0]
            else:
                raise TransactionAborted(f"{cause.str()}{self._delivery_failure()}")
        self._discard(producer)
        raise ProducerLost(cause.str())

    def _discard(self, producer: Producer) -> None:
        """Give up the producer with all that it still holds: nothing of it may be sent later."""
        self._producer = None
        producer.purge()

    def _delivery_failure(self) -> str:
        return f"; a delivery failed: {self._failure.str()}" if self._failure is not None else ""
