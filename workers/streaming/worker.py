"""The loop: linger, consume, restore, close, emit, publish. One thread owns the consumer.

- A step never spans a poll of the consumer with a transaction. Partitions come and go in a poll, so
  none leaves us inside a transaction.
- Everything that a partition holds is in its `Partition`. Losing it drops what is not committed,
  and the next owner replays that from the log.

What the parts of the loop do is in the files of their names: linger.py, dispatch.py, ownership.py,
restore.py, end_check.py, stage.py, outlet.py, publisher.py, lifecycle.py.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic

from confluent_kafka import Consumer

from workers.streaming.clients import Cluster
from workers.streaming.dispatch import Dispatcher
from workers.streaming.end_check import EndCheck
from workers.streaming.hanging_calls import Pulse
from workers.streaming.lag import SILENT_SECONDS, Lag, Silence
from workers.streaming.lifecycle import Restarts, drain
from workers.streaming.limits import OutputLimits
from workers.streaming.linger import NO_LINGER, Linger
from workers.streaming.outlet import Outlet
from workers.streaming.ownership import Ownership
from workers.streaming.publisher import Fenced, ProducerLost, Publisher
from workers.streaming.reachability import BrokerReachability
from workers.streaming.records import fetched
from workers.streaming.restore import R
from workers.streaming.rights import Resource
from workers.streaming.stage import Emitter, Intake, P
from workers.worker_errors import WorkerErrors

_POLL_SECONDS = 0.05
_RESTORING_POLL_SECONDS = 0.001
_MESSAGES_AT_ONCE = 250
"""Few enough that the processor's cache still holds them when they are decoded."""
_MAX_MESSAGES = 16_000
"""In one step."""
_MAX_WAITING = 8192
"""Of one partition, to go out. Past it the partition is not read until some of it is out."""


@dataclass
class Worker(Generic[P, R]):
    """Runs until `stop` is called. ARCHITECTURE.md says why a step has this order.

    What it does with the records is in the parts of a stage (stage.py). `topic` is the one that the
    group reads. `pulse` tells a watchdog what the loop is doing. `describe_stage` says what the stage
    adds to the report; it is called from another thread.
    """

    group: str
    topic: str
    consumer: Consumer
    ownership: Ownership[P, R]
    dispatcher: Dispatcher[P, R]
    end_check: EndCheck
    emitter: Emitter[P]
    outlet: Outlet[P]
    restarts: Restarts[P, R]
    reachability: BrokerReachability
    lag: Lag
    pulse: Pulse
    describe_stage: Callable[[], Mapping[str, object]]
    linger: Linger = NO_LINGER
    _is_stopping: bool = False
    _is_behind: bool = False
    _polled_at: float = field(default_factory=time.monotonic)
    _silence: Silence = field(default_factory=Silence)
    _joins: int = 0

    def run(self) -> None:
        """Consume until stopped, then drain.

        Raises Fenced if another worker runs in our slot, and ProducerLost if the drain is not
        clean.
        """
        while not self._is_stopping and not self.restarts.start_producer():
            pass
        self.ownership.subscribe()
        try:
            while not self._is_stopping:
                self.step()
            self.pulse.begin("drain", is_bounded=False)
            drain(self.consumer, self.ownership, self.outlet, self.topic)
        finally:
            self.pulse.begin("leave the group")
            self.ownership.leave()

    def stop(self) -> None:
        """Finish the step, publish what is closed, leave the group."""
        self._is_stopping = True

    def step(self) -> None:
        """One turn of the loop."""
        self._linger()
        self._consume()
        self._restore()
        self._close_idle()
        self._emit_and_publish()
        self._look_after_partitions()

    def _linger(self) -> None:
        """Let what closes next go out with what closes now (linger.py says for how long)."""
        while seconds := self.linger.pause(
            time.monotonic(),
            self.outlet.published_at,
            is_restoring=self.ownership.is_restoring,
            is_behind=self._is_behind,
            is_stopping=self._is_stopping,
        ):
            self.pulse.begin("linger")
            time.sleep(seconds)
            self._pass_time()

    def _consume(self) -> None:
        """Wait for a first message, then take what is there without waiting. Note whether messages
        were left.
        """
        self._is_behind = False
        self.pulse.begin("consume")
        is_restoring = self.ownership.is_restoring
        first = self.consumer.poll(_RESTORING_POLL_SECONDS if is_restoring else _POLL_SECONDS)
        self._pass_time()

        messages = fetched([] if first is None else [first])
        count = 0
        while messages:
            self.dispatcher.dispatch(messages)
            count += len(messages)
            if count >= _MAX_MESSAGES or not self.emitter.has_room(self._partitions):
                self._is_behind = True
                return
            # Each batch by itself: together they may take as long as large events take to decode.
            self.pulse.begin("consume")
            messages = fetched(self.consumer.consume(_MESSAGES_AT_ONCE, 0))

    def _pass_time(self) -> None:
        now = time.monotonic()
        elapsed_ms = (now - self._polled_at) * 1000
        self._polled_at = now
        for partition in self._partitions:
            partition.pass_idle(elapsed_ms)

    def _restore(self) -> None:
        """Restore the partitions that are newly assigned a step further."""
        self.pulse.begin("restore")
        self.ownership.advance()
        self.dispatcher.pass_over_spans()

    def _close_idle(self) -> None:
        """Close requests whose deadline has passed, on partitions that are read to their end."""
        self.pulse.begin("close idle requests")
        self.end_check.close_idle(self._partitions, self._polled_at)

    def _emit_and_publish(self) -> None:
        self.pulse.begin("publish", is_bounded=False)
        self.outlet.retries.keep(self.ownership.assigned)
        try:
            self.outlet.publish(self._partitions)
        except (ProducerLost, Fenced) as lost:
            self.restarts.start_again(lost, is_stopping=lambda: self._is_stopping)

    def _look_after_partitions(self) -> None:
        """Take out what failed, pause what is full, and note what is missing or behind."""
        broken = self.emitter.broken
        while broken:
            number, why = broken.popitem()
            if number in self.ownership.partitions:
                self.ownership.fail(number, why)

        self.pulse.begin("pause")
        self.ownership.pause_full(_MAX_WAITING)
        self.lag.look(self._partitions, self._polled_at)

        if self.ownership.joins != self._joins:
            self._joins = self.ownership.joins
            self.reachability.granted(Resource.GROUP)
        self.reachability.look(self._polled_at)

        silent = self._silence.look(
            self._partitions,
            self.lag.ends,
            self._polled_at,
            is_reachable=self.reachability.is_sound,
        )
        for partition in silent:
            self.ownership.stop_at_unreadable(
                partition, f"nothing came for {SILENT_SECONDS:g} s, though there is more"
            )

    def report(self) -> Mapping[str, object]:
        """What the worker adds to its status in Redis. Called from another thread, so it only
        reads.
        """
        partitions = sorted(self.ownership.partitions)
        lag = self.lag.records
        return {
            "group": self.group,
            "partitions": partitions,
            "partition_states": self.ownership.describe_states(self.outlet.retries.isolated),
            "turned_ms": round(self.pulse.seconds() * 1000),
            "doing": self.pulse.doing,
            "lag": {number: lag[number] for number in partitions if number in lag},
            **self.describe_stage(),
        }

    @property
    def _partitions(self) -> Collection[P]:
        return self.ownership.partitions.values()


def build_loop(
    cluster: Cluster,
    *,
    group: str,
    topic: str,
    consumer: Consumer,
    ownership: Ownership[P, R],
    intake: Intake[P],
    emitter: Emitter[P],
    publisher: Publisher,
    limits: OutputLimits,
    reachability: BrokerReachability,
    errors: WorkerErrors,
    describe_stage: Callable[[], Mapping[str, object]],
    linger: Linger = NO_LINGER,
) -> Worker[P, R]:
    """The loop of a stage, from the parts that are particular to the stage and to the process."""
    pulse = Pulse()
    return Worker(
        group=group,
        topic=topic,
        consumer=consumer,
        ownership=ownership,
        dispatcher=Dispatcher(topic, ownership, intake, reachability, errors),
        end_check=EndCheck(cluster.admin, topic),
        emitter=emitter,
        outlet=Outlet(
            emitter=emitter,
            publisher=publisher,
            consumer=consumer,
            source=topic,
            limits=limits,
        ),
        restarts=Restarts(publisher, ownership, reachability, pulse),
        reachability=reachability,
        lag=Lag(consumer, topic, cluster.admin),
        pulse=pulse,
        describe_stage=describe_stage,
        linger=linger,
    )
