"""The worker's loop: consume, assemble, close, rank, publish; one thread, which owns the consumer.

A step never spans a poll with a transaction. Everything a partition holds lives in its `Partition`: losing it drops
what is not committed, and the next owner replays that from the log.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

from confluent_kafka import TIMESTAMP_CREATE_TIME, Consumer, KafkaError, KafkaException, TopicPartition

from workers.observe.counts import Counts
from workers.observe.log import log
from workers.streaming.intake import Intake
from workers.streaming.lag import Lag
from workers.streaming.outlet import Outlet
from workers.streaming.ownership import Ownership
from workers.streaming.partition import Beginning, Partition
from workers.streaming.publisher import Fenced, ProducerLost, Publisher
from workers.streaming.reach import Reach
from workers.streaming.records import Fetched, fetched, is_end
from workers.streaming.route import Route

_POLL_SECONDS = 0.05
_RESTORING_POLL_SECONDS = 0.001
_MESSAGES_AT_ONCE = 250  # few enough that the processor's cache still holds them when they are decoded
_MOST_MESSAGES = 16_000  # in one step
_FENCED_AGAIN_SECONDS = 60.0
_LEAVE_SECONDS = 5.0


@dataclass(frozen=True)
class Parts:
    """What the loop is made of."""

    group: str
    consumer: Consumer
    publisher: Publisher
    ownership: Ownership
    intake: Intake
    outlet: Outlet
    route: Route
    counts: Counts
    reach: Reach
    lag: Lag


class Worker:
    """Runs until `stop` is called; ARCHITECTURE.md says why a step has this order."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._stopping = False
        self._polled = time.monotonic()
        self._fenced: float | None = None

    def run(self) -> None:
        """Consume until stopped, then drain.

        Raises Fenced where another worker runs in our slot, ProducerLost where the drain cannot reach the broker.
        """
        parts = self._parts
        while not self._stopping and not parts.publisher.start():
            pass
        parts.ownership.subscribe()
        try:
            while not self._stopping:
                self.step()
            self._drain()
        finally:
            parts.ownership.leave()

    def stop(self) -> None:
        """Finish the step, publish what is closed, leave the group."""
        self._stopping = True

    def step(self) -> None:
        """One turn of the loop."""
        self._consume()
        self._parts.ownership.advance()
        self._close_idle()
        try:
            self._parts.outlet.publish(self._partitions)
        except (ProducerLost, Fenced) as lost:
            self._start_anew(lost)
        self._parts.lag.look(self._partitions, self._polled)

    @property
    def counts(self) -> Counts:
        """What was counted so far."""
        return self._parts.counts

    def report(self) -> Mapping[str, object]:
        """What the worker adds to its status in Redis; called from another thread, so it only looks."""
        parts, lag = self._parts, self._parts.lag.records
        partitions = sorted(parts.ownership.partitions)
        return {
            "group": parts.group,
            "partitions": partitions,
            "lag": {number: lag[number] for number in partitions if number in lag},
            "open_requests": parts.intake.budget.requests,
            "models": parts.outlet.library.in_force,
            "library": parts.outlet.library.states(),
            "tally": parts.outlet.library.tally._asdict(),
            "counts": asdict(self.counts),
        }

    @property
    def _partitions(self) -> Collection[Partition]:
        return self._parts.ownership.partitions.values()

    def _consume(self) -> None:
        parts = self._parts
        first = parts.consumer.poll(_RESTORING_POLL_SECONDS if parts.ownership.restoring else _POLL_SECONDS)
        self._pass_time()
        messages, taken = fetched([] if first is None else [first]), 0
        while messages:
            for message in messages:
                self._take(message)
            if messages[-1].error() is None:
                parts.reach.heard()
            taken += len(messages)
            more = taken < _MOST_MESSAGES and parts.outlet.has_room(self._partitions)
            messages = fetched(parts.consumer.consume(_MESSAGES_AT_ONCE, 0)) if more else []

    def _pass_time(self) -> None:
        now = time.monotonic()
        for partition in self._partitions:
            partition.pass_idle((now - self._polled) * 1000)
        self._polled = now

    def _take(self, message: Fetched) -> None:
        partition, error = self._parts.ownership.partitions.get(message.partition()), message.error()
        if error is not None:
            self._note(message, error, partition)
        elif partition is not None and self._is_to_be_taken(partition, message.offset()):
            partition.read_on()
            kind, timestamp = message.timestamp()
            if kind == TIMESTAMP_CREATE_TIME:
                timestamp = min(timestamp, time.time_ns() // 1_000_000)
            self._parts.intake.take(partition, message, timestamp)
            if self._parts.intake.budget.exceeded:
                self._parts.intake.evict(self._partitions)

    def _is_to_be_taken(self, partition: Partition, offset: int) -> bool:
        """Whether a record or an end at `offset` counts: not one from before a seek, nor one past a gap after it."""
        if offset < partition.assembler.next:
            return False
        if partition.begun:
            return True
        beginning = partition.begins_at(offset)
        if beginning is Beginning.GAP:
            self._parts.ownership.begin_again(partition)
        return beginning is Beginning.RIGHT

    def _note(self, message: Fetched, error: KafkaError, partition: Partition | None) -> None:
        if is_end(message):
            if partition is not None and self._is_to_be_taken(partition, message.offset()):
                partition.reached_end(message.offset())
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            if partition is not None:
                self._parts.ownership.stand_still(partition.number, error.str())
        elif error.fatal():
            raise KafkaException(error)
        else:
            self._parts.reach.error(error)

    def _close_idle(self) -> None:
        """Close by the idle clock, once the broker has confirmed that nothing more is there to be read."""
        for partition in self._partitions:
            end = partition.due_at_end()
            if end is None:
                continue
            where = TopicPartition(self._parts.route.candidates, partition.number)
            try:
                _, latest = self._parts.consumer.get_watermark_offsets(where, timeout=1.0)
            except KafkaException:
                continue  # a broker that cannot be asked proves nothing: wait
            if latest <= end:
                partition.close_idle()

    def _drain(self) -> None:
        self._parts.outlet.drain(self._partitions)
        try:
            # Where there was nothing to publish, nothing has yet shown that the broker hears of our leaving.
            self._parts.consumer.list_topics(self._parts.route.candidates, timeout=_LEAVE_SECONDS)
        except KafkaException as error:
            raise ProducerLost(f"the group cannot be left: {error.args[0].str()}") from None
        log.info("drained", partitions=sorted(self._parts.ownership.partitions))

    def _start_anew(self, cause: ProducerLost | Fenced) -> None:
        """The outcome of a transaction is unknown: believe the log, and nothing that we hold."""
        if isinstance(cause, Fenced):
            now = time.monotonic()
            if self._fenced is not None and now - self._fenced < _FENCED_AGAIN_SECONDS:
                raise cause
            self._fenced = now
        log.warning("starting_anew", cause=type(cause).__name__, error=str(cause))
        numbers = self._parts.ownership.let_go()
        while not self._parts.publisher.start():
            if self._stopping:
                raise cause
        self._parts.ownership.begin_anew(numbers)
