"""Dispatch: what the consumer returned goes to its partition.

| message                                 | what is done                                   |
|-----------------------------------------|------------------------------------------------|
| record of a partition that is not ours, | dropped: it is read once the partition is      |
|   or not restored yet                   |   restored                                     |
| record or end below the next offset     | dropped: it was fetched before a seek          |
| first record or end past the low-water  | the client is sent there once more; if the gap |
|   mark                                  |   comes a second time, it is real              |
| record in a span that is to be skipped  | the span is passed over                        |
| record                                  | taken in                                       |
| end                                     | noted: the idle clock of the partition runs    |
| error: the offset is gone               | the partition stands still                     |
| error: records cannot be read           | a span to be skipped is passed over, else the  |
|                                         |   partition stands still there for a while     |
| error from a place that is not read now | dropped                                        |
| fatal error                             | raised                                         |
| another error, also of the group or of  | noted; a denial before the first assignment is |
|   a broker                              |   raised                                       |

If taking a record fails by a fault of our own, its partition is taken out: what its assembler holds
is not to be trusted. The other partitions go on.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic

from confluent_kafka import TIMESTAMP_CREATE_TIME, KafkaError, KafkaException

from workers.errors import Failure
from workers.streaming.ownership import Ownership
from workers.streaming.partition import Beginning
from workers.streaming.reachability import BrokerReachability
from workers.streaming.records import Fetched, is_end, is_unreadable
from workers.streaming.restore import R
from workers.streaming.stage import Intake, P
from workers.worker_errors import WorkerErrors


@dataclass
class Dispatcher(Generic[P, R]):
    """Hands the records of `topic` to `intake`, and everything else to where it belongs, by the
    table at the head."""

    topic: str
    ownership: Ownership[P, R]
    intake: Intake[P]
    reachability: BrokerReachability
    errors: WorkerErrors
    _unreadable: set[int] = field(default_factory=set)
    """Partitions with an unreadable record in this batch. Behind it the client reads at random."""

    def dispatch(self, messages: Sequence[Fetched]) -> None:
        """Dispatch one batch. Raises KafkaException and RightMissing.

        Most messages are records that follow another one of their partition. Of those only the
        offset is looked at: an end or an error between them, or a span to be skipped, has the next
        record judged by the whole table.
        """
        self._unreadable.clear()
        take = self.intake.take
        now = _now_ms()
        number = -1
        partition: P | None = None  # that of the record before
        for message in messages:
            try:
                error = message.error()
                if error is not None:
                    partition = None
                    self._take_notice(message, error)
                    continue

                offset = message.offset()
                if partition is None or message.partition() != number or partition.skip:
                    number = message.partition()
                    partition = self._partition_to_read(number, offset)
                    if partition is None:
                        continue
                elif offset < partition.content.next:
                    continue

                kind, timestamp = message.timestamp()
                if timestamp > now and kind == TIMESTAMP_CREATE_TIME:
                    # A producer's clock that is ahead must not move stream time past ours.
                    now = _now_ms()
                    timestamp = min(timestamp, now)
                exceeds_limits = take(partition, message, offset, timestamp)
                if exceeds_limits:
                    self.intake.keep_limits(self.ownership.partitions.values())
            except (KafkaException, Failure, MemoryError):
                raise
            except Exception as fault:  # noqa: BLE001 - our fault: must cost one partition only
                partition = None
                number = message.partition()
                self.errors.note("take", fault, partition=number)
                if number in self.ownership.partitions:
                    self.ownership.fail(number, repr(fault))

        if messages[-1].error() is None:
            self.reachability.heard()

    def pass_over_spans(self) -> None:
        """Pass over the spans to be skipped that partitions have come to. Of some damage the client
        reports nothing, so this does not wait for an error.
        """
        for partition in list(self.ownership.partitions.values()):
            if partition.skip:
                self._pass_over_span(partition)

    def _partition_to_read(self, number: int, offset: int) -> P | None:
        """The partition that a record is to be taken into. None if it is not to be taken."""
        partition = self.ownership.partitions.get(number)
        if partition is None or not self._is_wanted(partition, offset):
            return None

        span = partition.span_at(offset) if partition.skip else None
        if span is not None:
            self.intake.pass_over(partition, span)
            return None

        if partition.unreadable is not None:
            self.ownership.note_readable(partition)
        partition.read_on()
        return partition

    def _take_notice(self, message: Fetched, error: KafkaError) -> None:
        if is_end(message):
            self._take_end(message)
        else:
            self._take_error(message, error)

    def _take_end(self, message: Fetched) -> None:
        partition = self._partition_of(message)
        if partition is None or not self._is_wanted(partition, message.offset()):
            return

        if partition.unreadable is not None:
            self.ownership.note_readable(partition)
        partition.reached_end(message.offset())

    def _take_error(self, message: Fetched, error: KafkaError) -> None:
        if error.fatal():
            raise KafkaException(error)

        partition = self._partition_of(message)
        if partition is not None and (
            partition.waits_unread or partition.number in self._unreadable
        ):
            return  # from a place that is not read any more

        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            if partition is not None:
                self.ownership.stop_at_lost_offset(partition.number, error.str())
        elif is_unreadable(error):
            if partition is not None:
                self._unreadable.add(partition.number)
                # The error names the first offset of a batch, which may lie before the offset that
                # is read, or may not exist. So the partition's own next offset counts.
                if not self._pass_over_span(partition):
                    self.ownership.stop_at_unreadable(partition, error.str())
        else:
            if not self.ownership.joins:
                # What is denied before there is anything to lose ends the worker.
                self.reachability.refuse(error)
            self.reachability.error(error)

    def _partition_of(self, message: Fetched) -> P | None:
        """The partition of an end or an error. An error of the group or of a broker has none."""
        if message.topic() != self.topic:
            return None
        return self.ownership.partitions.get(message.partition())

    def _is_wanted(self, partition: P, offset: int) -> bool:
        """Whether a record or an end at `offset` counts: not one from before a seek, nor one past a
        gap after it.
        """
        if offset < partition.next:
            return False
        if partition.has_begun:
            return True
        if partition.waits_unread:
            return False

        beginning = partition.begins_at(offset)
        if beginning is Beginning.GAP:
            self.ownership.seek_again(partition)
        return beginning is Beginning.RIGHT

    def _pass_over_span(self, partition: P) -> bool:
        """Pass over a span to be skipped, if the partition has come to one."""
        span = partition.span_at(partition.next)
        if span is None:
            return False

        self.intake.pass_over(partition, span)
        self.ownership.read_from_next(partition)
        return True


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
