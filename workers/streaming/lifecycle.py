"""The life of a worker: it takes a slot, starts its producer, starts again after a failure, drains.

Rules:
- Each worker of a host holds one slot, and with it one transactional id. A producer that starts
  under an id fences the one that had it before.
- After a transaction whose outcome is unknown, and after being fenced, only the log is believed:
  everything that is held is dropped, a new producer is started, and every partition is restored.
- Being fenced once is what happens to a worker that was suspended, or whose broker was away. Being
  fenced again within a minute means that another worker runs in our slot, and ends this one.
- That does not count if the broker was away, or a call was given up, within that minute. The lost
  call may reach the broker late, and then it is we who fenced ourselves.
- A drain is clean only if everything that was closed is out. Otherwise it is reported as failed, so
  that nobody takes it for a clean end. Nothing is lost: the next worker replays it.
"""

import fcntl
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Generic

from confluent_kafka import Consumer, KafkaException

from workers.log import log
from workers.streaming.hanging_calls import Pulse
from workers.streaming.outlet import Outlet
from workers.streaming.ownership import Ownership, PartitionState
from workers.streaming.publisher import Fenced, ProducerLost, Publisher
from workers.streaming.reachability import BrokerReachability
from workers.streaming.restore import R
from workers.streaming.stage import P

_MAX_SLOTS = 1024
_FENCED_AGAIN_SECONDS = 60.0
_LOST_AGAIN_SECONDS = 60.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_START_PAUSE = 1.0
_DRAIN_SECONDS = 5.0
_DRAIN_POLL_SECONDS = 0.05
_LEAVE_SECONDS = 5.0


# Slots


class SlotTaken(Exception):
    """The slot that was requested, or every slot, is held by another worker of this host."""


class Slot:
    """A slot that is held until `release`, or until the process ends.

    It is a lock on a file, which the kernel gives back however the process ends.
    """

    def __init__(self, number: int, lock: IO[str]) -> None:
        self.number = number
        self._lock = lock

    def transactional_id(self, group: str) -> str:
        """The same each time: a worker that comes back in this slot fences the one before."""
        return f"{group}-{socket.gethostname()}-{self.number}"

    def release(self) -> None:
        """Give the slot back."""
        self._lock.close()


def take_slot(home: Path, group: str, wanted: int | None) -> Slot:
    """Take the slot that is wanted, else the lowest free one. Raises SlotTaken."""
    folder = home / "slots" / group.replace(os.sep, "_")
    folder.mkdir(parents=True, exist_ok=True)

    for number in [wanted] if wanted is not None else range(_MAX_SLOTS):
        lock = (folder / str(number)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return Slot(number, lock)

    if wanted is None:
        raise SlotTaken(f"all {_MAX_SLOTS} slots of group {group!r} are taken on this host")
    raise SlotTaken(f"slot {wanted} of group {group!r} is held by another worker of this host")


# Starting


class Restarts(Generic[P, R]):
    """Starts the producer, and starts everything again after a failure."""

    def __init__(
        self,
        publisher: Publisher,
        ownership: Ownership[P, R],
        reachability: BrokerReachability,
        pulse: Pulse,
    ) -> None:
        self._publisher = publisher
        self._ownership = ownership
        self._reachability = reachability
        self._pulse = pulse
        # When, in monotonic seconds.
        self._fenced_at = float("-inf")
        self._producer_lost_at = float("-inf")
        # The last cause, when it came last, and how often: each time within a minute of the last.
        self._cause = ""
        self._caused_at = float("-inf")
        self._times = 0

    def start_producer(self) -> bool:
        """Start a producer, which fences the one before. False if the broker cannot be reached."""
        self._pulse.begin("init_transactions")
        return self._publisher.start()

    def start_again(self, cause: ProducerLost | Fenced, is_stopping: Callable[[], bool]) -> None:
        """Start a new producer, and restore every partition from the log.

        `is_stopping` is called during pauses. If it returns True, they end.
        Raises `cause` if another worker runs in our slot, or if the worker is stopped before a
        producer could be started.
        """
        if isinstance(cause, Fenced):
            self._check_slot(cause)
            self._log_and_pause(
                kind="Fenced", cause="Fenced", error=str(cause), is_stopping=is_stopping
            )
        else:
            self._log_and_pause(
                kind="ProducerLost", cause=cause.cause, error=str(cause), is_stopping=is_stopping
            )
            self._producer_lost_at = time.monotonic()

        numbers = self._ownership.drop_all()
        while not self.start_producer():
            if is_stopping():
                raise cause
            _pause(_START_PAUSE, is_stopping)
        self._ownership.restore_again(numbers)

    def _check_slot(self, fenced: Fenced) -> None:
        """Raise it again if another worker runs in our slot, by the rules at the head."""
        now = time.monotonic()
        trouble_at = max(self._producer_lost_at, self._reachability.lost_at)
        was_broker_well = now - trouble_at > _FENCED_AGAIN_SECONDS
        is_fenced_again = now - self._fenced_at < _FENCED_AGAIN_SECONDS
        if is_fenced_again and was_broker_well:
            raise fenced
        self._fenced_at = now

    def _log_and_pause(
        self, *, kind: str, cause: str, error: str, is_stopping: Callable[[], bool]
    ) -> None:
        """Log a cause once. If it comes again within a minute, do not log it, but pause, and longer
        each time.
        """
        now = time.monotonic()
        if cause != self._cause or now - self._caused_at > _LOST_AGAIN_SECONDS:
            self._cause = cause
            self._times = 0
            log.warning("starting_anew", cause=kind, error=error)
        elif self._times > 1:
            self._pulse.begin("pause")
            _pause(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**self._times), is_stopping)
        self._caused_at = time.monotonic()
        self._times += 1


def _pause(seconds: float, is_stopping: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not is_stopping() and time.monotonic() < until:
        time.sleep(0.05)


# Draining


def drain(consumer: Consumer, ownership: Ownership[P, R], outlet: Outlet[P], topic: str) -> None:
    """Publish what is closed, and commit. `topic` is the one that the consumer reads.

    Raises ProducerLost if the drain is not clean: the broker cannot be reached, something that is
    closed is not out in time, or a partition was taken out with what was closed in it.
    """

    def count_unpublished() -> int:
        return sum(partition.unpublished for partition in ownership.partitions.values())

    deadline = time.monotonic() + _DRAIN_SECONDS
    outlet.drain(ownership.partitions.values())
    while count_unpublished() and time.monotonic() < deadline:
        # For rebalances alone: what is read now is not taken, and stays for the next owner.
        consumer.poll(_DRAIN_POLL_SECONDS)
        outlet.drain(ownership.partitions.values())

    try:
        # If there was nothing to publish, nothing has shown yet that the broker hears of our
        # leaving.
        consumer.list_topics(topic, timeout=_LEAVE_SECONDS)
    except KafkaException as error:
        raise ProducerLost(f"the group cannot be left: {error.args[0].str()}") from None

    unpublished = count_unpublished()
    if unpublished:
        raise ProducerLost(f"{unpublished} closed requests and dead letters are not published")
    failing = [
        number
        for number, not_read in sorted(ownership.not_read.items())
        if not_read.state is PartitionState.FAILING
    ]
    if failing:
        raise ProducerLost(f"partitions {failing} fail: what was closed in them is not published")
    log.info("drained", partitions=sorted(ownership.partitions))
