"""The worker's loop: consume, assemble, close, rank, publish; one thread, which owns the consumer.

A step never spans a poll with a transaction. Everything a partition holds lives in its `Partition`:
losing it drops what is not committed, and the next owner replays that from the log.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field

from confluent_kafka import TIMESTAMP_CREATE_TIME, Consumer, KafkaError, KafkaException

from workers.counts import Counts
from workers.errors import Failure
from workers.log import log
from workers.streaming.end_check import EndCheck
from workers.streaming.hanging_calls import Pulse
from workers.streaming.intake import Intake
from workers.streaming.lag import SILENT_SECONDS, Lag, Silence
from workers.streaming.outlet import Outlet
from workers.streaming.ownership import Ownership, PartitionState
from workers.streaming.partition import Beginning, Partition
from workers.streaming.publisher import Fenced, ProducerLost, Publisher
from workers.streaming.reachability import BrokerReachability
from workers.streaming.records import Fetched, fetched, is_end, is_unreadable
from workers.streaming.rights import Resource
from workers.streaming.topics import WorkerTopics
from workers.worker_errors import WorkerErrors

_POLL_SECONDS = 0.05
_RESTORING_POLL_SECONDS = 0.001
_MESSAGES_AT_ONCE = (
    250  # few enough that the processor's cache still holds them when they are decoded
)
_MOST_MESSAGES = 16_000  # in one step
_MOST_WAITING = (
    8192  # of a partition, to go out; past it the partition is not read until some of it is out
)
_FENCED_AGAIN_SECONDS = 60.0
_LOST_AGAIN_SECONDS = 60.0
_LEAVE_SECONDS = 5.0
_DRAIN_SECONDS = 5.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_START_PAUSE = 1.0


@dataclass(frozen=True)
class Parts:
    """What the loop is made of."""

    group: str
    consumer: Consumer
    publisher: Publisher
    ownership: Ownership
    intake: Intake
    outlet: Outlet
    topics: WorkerTopics
    counts: Counts
    errors: WorkerErrors
    reach: BrokerReachability
    lag: Lag
    end_check: EndCheck
    pulse: Pulse = field(default_factory=Pulse)


class Worker:
    """Runs until `stop` is called; ARCHITECTURE.md says why a step has this order."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._stopping = False
        self._polled = time.monotonic()
        self._fenced_at = float("-inf")
        self._producer_lost_at = float("-inf")
        self._silence = Silence()
        self._joins = 0
        self._sought: set[int] = (
            set()
        )  # partitions whose further errors in a batch are from before a seek
        self._lost_by = ""
        self._lost_at = float("-inf")
        self._lost_times = 0

    def run(self) -> None:
        """Consume until stopped, then drain.

        Raises Fenced if another worker runs in our slot, ProducerLost if the drain cannot
        reach the broker or cannot publish what is closed.
        """
        parts = self._parts
        while not self._stopping and not self._start_producer():
            pass
        parts.ownership.subscribe()
        try:
            while not self._stopping:
                self.step()
            parts.pulse.begin("drain", is_bounded=False)
            self._drain()
        finally:
            parts.pulse.begin("leave the group")
            parts.ownership.leave()

    def stop(self) -> None:
        """Finish the step, publish what is closed, leave the group."""
        self._stopping = True

    def step(self) -> None:
        """One turn of the loop."""
        parts = self._parts
        self._consume()
        parts.outlet.retries.keep(parts.ownership.assigned)
        parts.pulse.begin("restore")
        parts.ownership.advance()
        self._pass_over_spans()
        parts.pulse.begin("close idle requests")
        parts.end_check.close_idle(self._partitions, self._polled)
        try:
            parts.pulse.begin("publish", is_bounded=False)
            parts.outlet.publish(self._partitions)
        except (ProducerLost, Fenced) as lost:
            self._start_anew(lost)
        self._take_out_broken()
        parts.pulse.begin("pause")
        parts.ownership.pause_full(_MOST_WAITING)
        parts.lag.look(self._partitions, self._polled)
        if parts.ownership.joins != self._joins:
            self._joins = parts.ownership.joins
            parts.reach.granted(Resource.GROUP)
        parts.reach.look(self._polled)
        self._look_for_silence()

    @property
    def counts(self) -> Counts:
        """What was counted so far."""
        return self._parts.counts

    @property
    def pulse(self) -> Pulse:
        """What the loop does now, for a watchdog."""
        return self._parts.pulse

    def report(self) -> Mapping[str, object]:
        """What the worker adds to its status in Redis; called from another thread, so it only
        looks.
        """
        parts, lag = self._parts, self._parts.lag.records
        partitions = sorted(parts.ownership.partitions)
        return {
            "group": parts.group,
            "partitions": partitions,
            "partition_states": self._partition_states(),
            "turned_ms": round(parts.pulse.seconds() * 1000),
            "doing": parts.pulse.doing,
            "lag": {number: lag[number] for number in partitions if number in lag},
            "open_requests": parts.intake.budget.requests,
            "models": parts.outlet.registry.in_force,
            "library": parts.outlet.registry.states(),
            "tally": parts.outlet.registry.counts._asdict(),
            "counts": asdict(self.counts),
        }

    def _partition_states(self) -> dict[int, dict[str, object]]:
        """The state of every assigned partition, with how long it has been in it and why, as JSON
        can carry it.

        Called from another thread. Each mapping is copied first, since the loop changes it
        meanwhile.
        """
        parts = self._parts
        now = time.monotonic()
        read = set(parts.ownership.partitions)
        not_read = dict(parts.ownership.not_read)
        waits_for = dict(parts.ownership.waits_for)
        isolated = parts.outlet.retries.isolated
        unreadable = {
            number: one.unreadable for number, one in dict(parts.ownership.partitions).items()
        }
        states: dict[int, dict[str, object]] = {}
        for number, assigned_at in sorted(dict(parts.ownership.assigned).items()):
            if number in not_read:
                one = not_read[number]
                states[number] = _state(one.state, now - one.since, one.why)
            elif (stopped := unreadable.get(number)) is not None:
                states[number] = _state(PartitionState.STANDING, now - stopped.since, stopped.why)
            elif number in isolated and isolated[number].tries:
                alone = isolated[number]
                states[number] = _state(PartitionState.FAILING, now - alone.since, alone.error)
            elif number in read:
                states[number] = _state(PartitionState.READING)
            else:
                states[number] = _state(
                    PartitionState.RESTORING, now - assigned_at, waits_for.get(number)
                )
        return states

    @property
    def _partitions(self) -> Collection[Partition]:
        return self._parts.ownership.partitions.values()

    def _consume(self) -> None:
        parts = self._parts
        parts.pulse.begin("consume")
        first = parts.consumer.poll(
            _RESTORING_POLL_SECONDS if parts.ownership.restoring else _POLL_SECONDS
        )
        self._pass_time()
        messages, taken = fetched([] if first is None else [first]), 0
        while messages:
            self._sought.clear()
            for message in messages:
                try:
                    self._take(message)
                except (KafkaException, Failure, MemoryError):
                    raise
                except Exception as error:  # noqa: BLE001 - a fault of ours: it must cost one partition, not all
                    self._take_out(message.partition(), error)
            if messages[-1].error() is None:
                parts.reach.heard()
            taken += len(messages)
            more = taken < _MOST_MESSAGES and parts.outlet.has_room(self._partitions)
            # Each batch by itself: together they may take as long as large events take to decode.
            parts.pulse.begin("consume")
            messages = fetched(parts.consumer.consume(_MESSAGES_AT_ONCE, 0)) if more else []

    def _pass_time(self) -> None:
        now = time.monotonic()
        for partition in self._partitions:
            partition.pass_idle((now - self._polled) * 1000)
        self._polled = now

    def _take(self, message: Fetched) -> None:
        partition, error = (
            self._parts.ownership.partitions.get(message.partition()),
            message.error(),
        )
        if error is not None:
            self._note(message, error, partition)
        elif partition is not None and self._is_to_be_taken(partition, message.offset()):
            span = partition.span_at(message.offset()) if partition.skip else None
            if span is not None:
                self._parts.intake.pass_over(partition, span)
                return
            if partition.unreadable is not None:
                self._parts.ownership.reads_again(partition)
            partition.read_on()
            kind, timestamp = message.timestamp()
            if kind == TIMESTAMP_CREATE_TIME:
                timestamp = min(timestamp, time.time_ns() // 1_000_000)
            self._parts.intake.take(partition, message, timestamp)
            if self._parts.intake.budget.exceeded:
                self._parts.intake.evict(self._partitions)

    def _take_out(self, number: int, error: Exception) -> None:
        """Take out the partition of a record on which assembly failed: what it holds is not to be
        trusted.
        """
        self._parts.errors.note("take", error, partition=number)
        if number in self._parts.ownership.partitions:
            self._parts.ownership.fail(number, repr(error))

    def _look_for_silence(self) -> None:
        parts = self._parts
        for partition in self._silence.look(
            self._partitions, parts.lag.ends, self._polled, is_reachable=parts.reach.is_sound
        ):
            parts.ownership.cannot_read(
                partition, f"nothing came for {SILENT_SECONDS:g} s, though there is more"
            )

    def _take_out_broken(self) -> None:
        broken = self._parts.outlet.broken
        while broken:
            number, why = broken.popitem()
            if number in self._parts.ownership.partitions:
                self._parts.ownership.fail(number, why)

    def _is_to_be_taken(self, partition: Partition, offset: int) -> bool:
        """Whether a record or an end at `offset` counts: not one from before a seek, nor one past a
        gap after it.
        """
        if offset < partition.assembler.next:
            return False
        if partition.begun:
            return True
        if partition.waits_unread:
            return False
        beginning = partition.begins_at(offset)
        if beginning is Beginning.GAP:
            self._parts.ownership.begin_again(partition)
        return beginning is Beginning.RIGHT

    def _note(self, message: Fetched, error: KafkaError, partition: Partition | None) -> None:
        if message.topic() != self._parts.topics.candidates:
            partition = None  # an error of the group or of a broker, which is of no partition
        if is_end(message):
            if partition is not None and self._is_to_be_taken(partition, message.offset()):
                if partition.unreadable is not None:
                    self._parts.ownership.reads_again(partition)
                partition.reached_end(message.offset())
        elif error.fatal():
            raise KafkaException(error)
        elif partition is not None and (partition.waits_unread or partition.number in self._sought):
            pass  # of a place that is not read any more; behind damaged records the client reads at random
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            if partition is not None:
                self._parts.ownership.stand_still(partition.number, error.str())
        elif is_unreadable(error):
            if partition is not None:
                self._cannot_read(partition, error)
        else:
            if not self._parts.ownership.joins:
                # What is denied before there is anything to lose ends the worker.
                self._parts.reach.refuse(error)
            self._parts.reach.error(error)

    def _cannot_read(self, partition: Partition, error: KafkaError) -> None:
        """Pass over what cannot be read if somebody let it be skipped; else the partition stands
        still.

        The error names the first offset of a batch, which may lie before the one that is read, or
        none that exists.
        """
        self._sought.add(partition.number)
        if not self._pass_over_span(partition):
            self._parts.ownership.cannot_read(partition, error.str())

    def _pass_over_spans(self) -> None:
        """Pass over the spans that partitions have come to: of some damage the client says nothing."""
        for partition in list(self._partitions):
            if partition.skip:
                self._pass_over_span(partition)

    def _pass_over_span(self, partition: Partition) -> bool:
        """Pass over a span that is to be skipped, if the partition has come to one."""
        span = partition.span_at(partition.assembler.next)
        if span is None:
            return False
        self._parts.intake.pass_over(partition, span)
        self._parts.ownership.read_from_next(partition)
        return True

    def _drain(self) -> None:
        """Publish what is closed, and commit.

        Raises ProducerLost if some of it is not out in time: the next worker replays it, and nobody
        should take this end for a clean one.
        """
        deadline = time.monotonic() + _DRAIN_SECONDS
        self._parts.outlet.drain(self._partitions)
        while self._unpublished and time.monotonic() < deadline:
            # For rebalances alone: what is read now is not taken, and stays for the next owner.
            self._parts.consumer.poll(_POLL_SECONDS)
            self._parts.outlet.drain(self._partitions)
        try:
            # Where there was nothing to publish, nothing has yet shown that the broker hears of our
            # leaving.
            self._parts.consumer.list_topics(self._parts.topics.candidates, timeout=_LEAVE_SECONDS)
        except KafkaException as error:
            raise ProducerLost(f"the group cannot be left: {error.args[0].str()}") from None
        if self._unpublished:
            raise ProducerLost(
                f"{self._unpublished} closed requests and dead letters are not published"
            )
        not_read = self._parts.ownership.not_read
        failing = [n for n, one in sorted(not_read.items()) if one.state is PartitionState.FAILING]
        if failing:
            raise ProducerLost(
                f"partitions {failing} fail: what was closed in them is not published"
            )
        log.info("drained", partitions=sorted(self._parts.ownership.partitions))

    @property
    def _unpublished(self) -> int:
        """Closed requests that are not out, those that wait for their models included, and dead
        letters.
        """
        return sum(partition.unpublished for partition in self._partitions)

    # The producer

    def _start_producer(self) -> bool:
        self._parts.pulse.begin("init_transactions")
        return self._parts.publisher.start()

    def _start_anew(self, cause: ProducerLost | Fenced) -> None:
        """The outcome of a transaction is unknown: believe the log, and nothing that we hold."""
        if isinstance(cause, Fenced):
            self._check_slot(cause)
            self._pause_after(kind="Fenced", cause="Fenced", error=str(cause))
        else:
            self._pause_after(kind="ProducerLost", cause=cause.cause, error=str(cause))
            self._producer_lost_at = time.monotonic()
        numbers = self._parts.ownership.let_go()
        while not self._start_producer():
            if self._stopping:
                raise cause
            self._pause(_START_PAUSE)
        self._parts.ownership.begin_anew(numbers)

    def _check_slot(self, fenced: Fenced) -> None:
        """Raise it again if another worker runs in our slot.

        That is so if we are fenced twice within a minute. But a call that was given up while the
        broker was away may reach it late, and then it is we who fence ourselves: a minute in which
        the broker was away says nothing.
        """
        now = time.monotonic()
        trouble_at = max(self._producer_lost_at, self._parts.reach.lost_at)
        is_well = now - trouble_at > _FENCED_AGAIN_SECONDS
        is_again = now - self._fenced_at < _FENCED_AGAIN_SECONDS
        if is_again and is_well:
            raise fenced
        self._fenced_at = now

    def _pause_after(self, *, kind: str, cause: str, error: str) -> None:
        """Log a cause once, and pause longer each time that it comes again within a minute."""
        now = time.monotonic()
        if cause != self._lost_by or now - self._lost_at > _LOST_AGAIN_SECONDS:
            self._lost_by = cause
            self._lost_times = 0
            log.warning("starting_anew", cause=kind, error=error)
        elif self._lost_times > 1:
            self._parts.pulse.begin("pause")
            self._pause(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**self._lost_times))
        self._lost_at = time.monotonic()
        self._lost_times += 1

    def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until we are to stop."""
        until = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until:
            time.sleep(0.05)


def _state(
    state: PartitionState, seconds: float | None = None, why: str | None = None
) -> dict[str, object]:
    found: dict[str, object] = {"state": str(state)}
    if seconds is not None:
        found["for_ms"] = round(seconds * 1000)
    if why is not None:
        found["why"] = why
    return found
