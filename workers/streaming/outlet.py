"""Outlet: what is ready in the outboxes goes out in one transaction with the offsets.

Which partitions publish together, and when a failed transaction is tried again, is decided in
retry.py. What a failure means is decided in publisher.py. Here that is applied:

| a transaction                    | what is done                                              |
|----------------------------------|-----------------------------------------------------------|
| went through                     | the outboxes are emptied, the marks are written           |
| TransactionAborted               | the outboxes stay as they are; retry.py decides when next |
| failed for the size of a record, | ProducerLost: everything restarts from the log            |
|   and the limits have changed    |                                                           |
| ProducerLost, Fenced             | raised                                                    |
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Generic

from confluent_kafka import Consumer, TopicPartition

from workers.codec.pointer import write_pointer
from workers.counts import TransactionCounts
from workers.streaming.limits import OutputLimits
from workers.streaming.partition import Partition, Position
from workers.streaming.publisher import (
    Fenced,
    Output,
    ProducerLost,
    Publisher,
    TransactionAborted,
    TransactionFailed,
)
from workers.streaming.retry import Retries
from workers.streaming.stage import Emitter, P

_COMMIT_SECONDS = 1.0


@dataclass
class Outlet(Generic[P]):
    """Publishes what the emitter makes. `source` is the topic whose offsets are committed.

    `published_at`: when the last transaction with records began, in monotonic seconds.
    `transactions`: what became of them.
    """

    emitter: Emitter[P]
    publisher: Publisher
    consumer: Consumer
    source: str
    limits: OutputLimits
    retries: Retries = field(default_factory=Retries)
    published_at: float = float("-inf")
    transactions: TransactionCounts = field(default_factory=TransactionCounts)
    _committed_at: float = field(default_factory=time.monotonic)

    def publish(self, partitions: Collection[P], *, is_drain: bool = False) -> None:
        """Emit what is closed and publish all that is ready, until nothing is left or a transaction
        has failed. If there is nothing to publish, commit offsets once a second.

        Raises ProducerLost and Fenced.
        """
        if not self.emitter.begin(partitions, is_drain=is_drain):
            return
        while True:
            has_emitted = self.emitter.emit(partitions, self.retries.is_failing)
            self._transact(partitions)
            if not has_emitted or _has_output(partitions):
                return

    def drain(self, partitions: Collection[P]) -> None:
        """Publish, and commit offsets also if that is not due yet."""
        self._committed_at = float("-inf")
        self.publish(partitions, is_drain=True)

    def _transact(self, partitions: Collection[P]) -> None:
        """Publish every outbox with the marks of its partitions."""
        now = time.monotonic()
        has_output = _has_output(partitions)
        if not has_output and now - self._committed_at < _COMMIT_SECONDS:
            return
        self._committed_at = now
        if has_output:
            self.published_at = now

        ready: dict[int, tuple[P, Position]] = {}
        for partition in partitions:
            position = partition.commit_position()
            if position is not None:
                ready[partition.number] = partition, position
        for group in self.retries.groups(ready, now):
            self._transact_together([ready[number] for number in group])

    def _transact_together(self, group: Sequence[tuple[P, Position]]) -> None:
        """Publish some partitions, with the position of each, in one transaction. Raises
        ProducerLost and Fenced.
        """
        outputs: list[Output] = []
        offsets: list[TopicPartition] = []
        for partition, position in group:
            metadata = write_pointer(position.pointer)
            offsets.append(
                TopicPartition(self.source, partition.number, position.low_water, metadata)
            )
            outputs += partition.outbox

        numbers = [partition.number for partition, _ in group]
        try:
            self.publisher.publish(outputs, offsets, self.consumer)
        except TransactionFailed as failure:
            if isinstance(failure, TransactionAborted):
                self.transactions.aborted += 1
            else:
                self.transactions.lost += 1
            self._note_failure(numbers, failure)
            return
        except Fenced:
            self.transactions.lost += 1
            raise
        self.transactions.committed += 1

        for partition, position in group:
            self.emitter.count(partition.outbox)
            partition.committed(position, self.publisher.ends.get(partition.number, 0))
        self.retries.succeeded(numbers)

    def _note_failure(self, numbers: Sequence[int], failure: TransactionFailed) -> None:
        """Apply the table at the head. Raises ProducerLost."""
        self.retries.failed(numbers, failure, time.monotonic())
        if failure.too_large and self.limits.read_again():
            # What is encoded by now is too large, and so may be the producer's batches.
            raise ProducerLost(f"a record is too large: {failure}", cause=failure.cause)
        if not isinstance(failure, TransactionAborted):
            raise failure


def _has_output(partitions: Collection[Partition]) -> bool:
    return any(partition.outbox for partition in partitions)
