"""Ownership: which partitions are ours, restored before they are read, dropped when they are lost.

Rules:
- A partition is assigned paused. It is read once it is restored, from its low-water mark on.
- It is assigned at a number and never at a logical offset. librdkafka (2.16) looks a logical offset
  up. If the answer comes after the seek to the low-water mark, the client jumps to it half a second
  later, past unread events.
- What a partition holds is dropped when it is lost or fails. The log has it, and the next restore
  replays it.

Why a partition that is ours may not be read:

| state     | reason                         | what it held | how it ends                 |
|-----------|--------------------------------|--------------|-----------------------------|
| restoring | newly assigned, or to be read  | dropped      | by itself                   |
|           |   from the log again           |              |                             |
| standing  | its committed offset is gone   | dropped      | `trimtab offsets resume`    |
| standing  | its next record cannot be read | goes out as  | by itself if it can be read |
|           |                                |   usual      |   again; `offsets skip`     |
| failing   | a fault of our own             | dropped      | by itself, after a pause    |
| failing   | its transactions fail          | kept         | by itself, once one goes    |
|           |   (retry.py)                   |              |   through                   |
"""

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Generic

from confluent_kafka import Consumer, KafkaException, TopicPartition

from workers.log import log
from workers.streaming.offsets import skip_command
from workers.streaming.partition import Partition, Unreadable
from workers.streaming.restore import CannotRestore, OffsetsLost, R, Restorer
from workers.streaming.retry import Isolated
from workers.streaming.stage import P

_ENDS_SECONDS = 2.0
_UNREADABLE_SECONDS = 10.0
_FIRST_WAIT = 1.0
_LONGEST_WAIT = 60.0
_SOUND_SECONDS = 120.0
"""A partition that was read for this long after a failure counts as sound again."""


class PartitionState(StrEnum):
    """What a worker does with a partition that is assigned to it. The values are in the worker's
    status.
    """

    READING = "reading"
    RESTORING = "restoring"
    STANDING = "standing"
    FAILING = "failing"


@dataclass(frozen=True)
class NotRead:
    """A partition that is ours and is neither read nor restored. `since` and `again_at` in
    monotonic seconds.
    """

    state: PartitionState
    why: str
    since: float
    tries: int = 0
    again_at: float = float("inf")


class Ownership(Generic[P, R]):
    """The partitions of one topic that this worker owns.

    `partitions`: by number, those that are restored. `not_read`: those that stand still or fail.
    `assigned`: all of them, and since when, in monotonic seconds; those that are in neither of the
    others are being restored. `joins`: how often partitions were assigned. `restores`: how many were
    restored, and `restore_seconds` how long that took, added up.

    `make_partition` makes a partition of what was restored. `command_options` are what `trimtab
    offsets` needs to know of a group and its topic, if they are not the usual ones, and
    `skip_options` what `trimtab offsets skip` needs to know besides.
    """

    def __init__(
        self,
        consumer: Consumer,
        restorer: Restorer[R],
        topic: str,
        make_partition: Callable[[R], P],
        *,
        cooperative: bool,
        command_options: str = "",
        skip_options: str = "",
    ) -> None:
        self.partitions: dict[int, P] = {}
        self.not_read: dict[int, NotRead] = {}
        self.assigned: dict[int, float] = {}
        self.joins = 0
        self.restores = 0
        self.restore_seconds = 0.0
        self._consumer = consumer
        self._restorer = restorer
        self._topic = topic
        self._make_partition = make_partition
        self._cooperative = cooperative
        self._command_options = command_options
        self._skip_options = skip_options
        self._failures: dict[int, NotRead] = {}  # the last of each partition, also once it is over

    def subscribe(self) -> None:
        """Join the group. Partitions come and go in later polls."""
        self._consumer.subscribe(
            [self._topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke
        )

    def leave(self) -> None:
        """Leave the group."""
        self._restorer.close()
        self._consumer.close()

    # Restoring

    @property
    def is_restoring(self) -> bool:
        """Whether a partition is being restored."""
        return self._restorer.is_busy

    def advance(self) -> None:
        """Take restores on without waiting. Read the partitions that are restored from their
        low-water marks, and try those again that are due.
        """
        if self.not_read:
            self._restore_failed()
        self._retry_unreadable()
        if not self._restorer.is_busy:
            return

        for result in self._restorer.advance():
            if isinstance(result, OffsetsLost):
                span = f"{result.earliest} to {result.latest}"
                self.stop_at_lost_offset(
                    result.partition, f"offset {result.committed} is gone, the log holds {span}"
                )
            elif isinstance(result, CannotRestore):
                not_read = NotRead(PartitionState.STANDING, result.why, time.monotonic())
                self._take_out(result.partition, not_read)
                log.error("restore_refused", partition=result.partition, error=result.why)
            else:
                self._begin(result)

    def drop_all(self) -> list[int]:
        """Drop everything that is held, and read no further. Return the numbers of the partitions,
        for `restore_again`.
        """
        numbers = sorted(self.partitions)
        self._drop(numbers)
        self.assigned |= dict.fromkeys(numbers, time.monotonic())

        if numbers:
            self._consumer.pause([self._at(number) for number in numbers])
        return numbers

    def restore_again(self, numbers: Iterable[int]) -> None:
        """Restore partitions that were dropped."""
        self._restorer.begin(numbers)

    def _restore(self, numbers: Collection[int]) -> None:
        self.assigned |= dict.fromkeys(numbers, time.monotonic())
        self._restorer.begin(numbers)

    def _begin(self, restored: R) -> None:
        """Read a restored partition from its low-water mark on."""
        number = restored.partition
        where = self._at(number, restored.low_water)
        if not self._seek(where):
            return

        self.partitions[number] = self._make_partition(restored)
        self._consumer.resume([where])
        self.restores += 1
        now = time.monotonic()
        self.restore_seconds += now - self.assigned.get(number, now)
        log.info(
            "restored",
            partition=number,
            low_water=restored.low_water,
            next=restored.next,
            published=restored.records_read,
        )

    # Reading

    def seek_again(self, partition: Partition) -> None:
        """Go back to where the partition was to begin: its first record came from past that."""
        where = self._at(partition.number, partition.next)
        log.warning("gap", partition=partition.number, expected=where.offset, doing="looking again")
        self._seek(where)

    def read_from_next(self, partition: Partition) -> None:
        """Go to the next offset of the partition, and read on from there."""
        partition.unreadable = None
        partition.begins_again()
        self._seek_and_resume(partition)

    def pause_full(self, limit: int) -> None:
        """Pause the partitions of which `limit` or more waits to go out. Resume the others."""
        for partition in self.partitions.values():
            if partition.waits_unread:
                continue
            is_full = partition.waiting >= limit
            if is_full == partition.is_paused:
                continue

            if is_full:
                self._consumer.pause([self._at(partition.number)])
            else:
                self._consumer.resume([self._at(partition.number)])
            partition.is_paused = is_full

    def _seek_and_resume(self, partition: Partition) -> None:
        where = self._at(partition.number, partition.next)
        if self._seek(where) and not partition.is_paused:
            self._consumer.resume([where])

    def _seek(self, where: TopicPartition) -> bool:
        """Seek. If that fails, restore the partition again, and return False."""
        try:
            self._consumer.seek(where)
        except KafkaException as error:
            log.info("restoring_again", partition=where.partition, error=str(error))
            self._drop([where.partition])
            self._restore([where.partition])
            return False
        return True

    # Standing still at a record that cannot be read

    def stop_at_unreadable(self, partition: Partition, why: str) -> None:
        """Read no further in a partition for a while: its next record cannot be read. Nothing is
        skipped. What was read before goes out as usual.
        """
        number = partition.number
        offset = partition.next
        now = time.monotonic()
        before = partition.unreadable
        is_known = before is not None and before.offset == offset
        command = skip_command(number, offset, self._command_options + self._skip_options)

        self._consumer.pause([self._at(number)])
        partition.begins_again()
        partition.unreadable = Unreadable(
            offset=offset,
            why=f"{why}; {command}",
            since=before.since if before is not None and is_known else now,
            again_at=now + _UNREADABLE_SECONDS,
        )

        if not is_known:
            log.error("record_unreadable", partition=number, offset=offset, error=why, skip=command)

    def note_readable(self, partition: Partition) -> None:
        """Note that a partition is read on from where it stood still."""
        log.info("record_readable", partition=partition.number, offset=partition.next)
        partition.unreadable = None

    def _retry_unreadable(self) -> None:
        """Try to read what could not be read: another replica may have it whole."""
        now = time.monotonic()
        for partition in list(self.partitions.values()):
            stopped = partition.unreadable
            if stopped is not None and stopped.again_at <= now:
                partition.unreadable = replace(stopped, again_at=math.inf)
                self._seek_and_resume(partition)

    # Taken out

    def stop_at_lost_offset(self, number: int, why: str) -> None:
        """Take one partition out until somebody acts: retention removed what was not ranked yet.
        Nothing is skipped silently.
        """
        command = (
            "stop the group's workers, then:"
            f" trimtab offsets resume --partition {number}{self._command_options}"
        )
        self._take_out(
            number, NotRead(PartitionState.STANDING, f"{why}; {command}", time.monotonic())
        )
        log.error("offsets_lost", partition=number, error=why, resume=command)

    def fail(self, number: int, why: str) -> None:
        """Take one partition out after a fault of our own that is not one record's, and restore it
        after a pause. The others go on.

        The pauses grow with each failure, from the first one after it was read for a while.
        """
        now = time.monotonic()
        before = self._failures.get(number)
        is_first = before is None or now > before.again_at + _SOUND_SECONDS
        tries = 0 if before is None or is_first else before.tries

        failure = NotRead(
            PartitionState.FAILING,
            why,
            since=now,
            tries=tries + 1,
            again_at=now + min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**tries),
        )
        self._failures[number] = failure
        self._take_out(number, failure)

        if is_first:
            log.error(
                "partition_fails",
                partition=number,
                error=why,
                doing="the others go on; it is tried again",
            )

    def _restore_failed(self) -> None:
        """Restore the partitions that failed, if their pauses are over."""
        now = time.monotonic()
        due = [number for number, not_read in self.not_read.items() if not_read.again_at <= now]
        for number in due:
            del self.not_read[number]
        self._restore(due)

    def _take_out(self, number: int, not_read: NotRead) -> None:
        self._consumer.pause([self._at(number)])
        self._restorer.cancel([number])
        self._drop([number])
        self.not_read[number] = not_read

    def _drop(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            partition = self.partitions.pop(number, None)
            if partition is not None:
                partition.abandon()

    # Rebalances, called by the client inside a poll

    def _assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        numbers = [where.partition for where in assigned]
        log.info("assigned", partitions=numbers)
        self.joins += 1

        # Paused until the restore knows where to begin. Until then the offset does not matter, as
        # long as it is a number.
        ends = self._ends(numbers)
        start = [self._at(number, ends.get(number, 0)) for number in numbers]
        if self._cooperative:
            consumer.incremental_assign(start)
        else:
            consumer.assign(start)
        consumer.pause(start)

        self._restore(numbers)

    def _ends(self, numbers: Iterable[int]) -> dict[int, int]:
        """The high watermarks. Each costs round trips to the broker, and there is one time for all
        of them: those that are not known by then are missing.
        """
        ends: dict[int, int] = {}
        until = time.monotonic() + _ENDS_SECONDS
        try:
            for number in numbers:
                left = max(0.0, until - time.monotonic())
                _, end = self._consumer.get_watermark_offsets(self._at(number), timeout=left)
                ends[number] = end
        except KafkaException:
            log.info("ends_unknown", standing_at=0)
        return ends

    def _revoke(self, consumer: Consumer, revoked: list[TopicPartition]) -> None:
        numbers = [where.partition for where in revoked]
        log.info("revoked", partitions=numbers)

        self._restorer.cancel(numbers)
        self._drop(numbers)
        for number in numbers:
            self.assigned.pop(number, None)
            self.not_read.pop(number, None)
            self._failures.pop(number, None)

        if self._cooperative:
            consumer.incremental_unassign(revoked)
        else:
            consumer.unassign()

    def _at(self, number: int, offset: int | None = None) -> TopicPartition:
        if offset is None:
            return TopicPartition(self._topic, number)
        return TopicPartition(self._topic, number, offset)

    # Status

    def describe_states(self, isolated: Mapping[int, Isolated]) -> dict[int, dict[str, object]]:
        """The state of every assigned partition, for how long (ms) it has been in it and why, as
        JSON can carry it. `isolated` are those that publish by themselves.

        Called from another thread. So each mapping is copied first: the loop changes it meanwhile.
        """
        now = time.monotonic()
        partitions = dict(self.partitions)
        not_read = dict(self.not_read)
        waits_for = dict(self._restorer.waits_for)

        states: dict[int, dict[str, object]] = {}
        for number, assigned_at in sorted(dict(self.assigned).items()):
            partition = partitions.get(number)
            state = PartitionState.RESTORING
            since: float | None = assigned_at
            why = waits_for.get(number)

            if number in not_read:
                state = not_read[number].state
                since = not_read[number].since
                why = not_read[number].why
            elif partition is not None and (stopped := partition.unreadable) is not None:
                state = PartitionState.STANDING
                since = stopped.since
                why = stopped.why
            elif number in isolated and isolated[number].tries:
                state = PartitionState.FAILING
                since = isolated[number].since
                why = isolated[number].error
            elif partition is not None:
                state = PartitionState.READING
                since = None
                why = None

            described: dict[str, object] = {"state": str(state)}
            if since is not None:
                described["for_ms"] = round((now - since) * 1000)
            if why is not None:
                described["why"] = why
            states[number] = described
        return states
