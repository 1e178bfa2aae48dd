"""Ownership: which partitions are ours, restored before they are read, dropped when they are lost."""

import math
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from confluent_kafka import Consumer, KafkaException, TopicPartition

from workers.assembly.assembler import Assembler
from workers.assembly.held import Budget
from workers.log import log
from workers.streaming.offsets import skip_command
from workers.streaming.partition import Partition, Unreadable
from workers.streaming.placement import Placement
from workers.streaming.restore import OffsetsLost, Restored, Restorer

_ENDS_SECONDS = 2.0
_UNREAD_SECONDS = 10.0
_FIRST_WAIT = 1.0
_LONGEST_WAIT = 60.0
_SOUND_SECONDS = 120.0


class PartitionState(StrEnum):
    """What a worker does with a partition that is assigned to it."""

    READING = "reading"
    RESTORING = "restoring"
    STANDING = "standing"  # until somebody acts: nothing is skipped by itself
    FAILING = "failing"  # tried again by itself, after pauses


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


class Ownership:
    """The partitions of the candidates topic that this worker owns.

    `partitions` are those that are restored, by number, `not_read` those that stand still or fail.
    Every other one of `assigned` is being restored, or waits for its restore: `assigned` says since
    when, in monotonic seconds. `rules` is the digest of the rules by which events are judged.
    """

    def __init__(
        self,
        consumer: Consumer,
        restorer: Restorer,
        topic: str,
        budget: Budget,
        *,
        cooperative: bool,
        placement: Placement,
        rules: str = "",
    ) -> None:
        self.partitions: dict[int, Partition] = {}
        self.not_read: dict[int, NotRead] = {}
        self.assigned: dict[int, float] = {}
        self.joins = 0
        self._consumer = consumer
        self._restorer = restorer
        self._topic = topic
        self._budget = budget
        self._cooperative = cooperative
        self._placement = placement
        self._rules = rules
        self._failed: dict[int, NotRead] = {}  # the last failure of each, also once it is over

    def subscribe(self) -> None:
        """Join the group; partitions come and go in later polls."""
        self._consumer.subscribe(
            [self._topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke
        )

    def leave(self) -> None:
        """Leave the group."""
        self._restorer.close()
        self._consumer.close()

    @property
    def restoring(self) -> bool:
        """Whether a partition is being restored."""
        return self._restorer.is_busy

    @property
    def waits_for(self) -> dict[int, str]:
        """By partition, what a restore under way waits for."""
        return self._restorer.waits_for

    def advance(self) -> None:
        """Take restores on without waiting; a partition that is restored is read from its low-water
        mark.
        """
        if self.not_read:
            self._try_again()
        self._look_again()
        if not self._restorer.is_busy:
            return
        for found in self._restorer.advance():
            if isinstance(found, OffsetsLost):
                span = f"{found.earliest} to {found.latest}"
                self.stand_still(
                    found.partition, f"offset {found.committed} is gone, the log holds {span}"
                )
            else:
                self._begin(found)

    def stand_still(self, number: int, why: str) -> None:
        """Stop one partition: retention removed what was not yet ranked. Nothing is skipped
        silently.
        """
        command = f"stop the group's workers, then: trimtab offsets resume --partition {number}"
        self._stop_reading(
            number, NotRead(PartitionState.STANDING, f"{why}; {command}", time.monotonic())
        )
        log.error("offsets_lost", partition=number, error=why, resume=command)

    def cannot_read(self, partition: Partition, why: str) -> None:
        """Read no further in one partition for a while: what comes next in it cannot be read.
        Nothing is skipped.

        What was read before goes out as usual.
        """
        number, offset, now = partition.number, partition.assembler.next, time.monotonic()
        before = partition.unreadable
        is_known = before is not None and before.offset == offset
        since = before.since if before is not None and is_known else now
        command = skip_command(number, offset)
        self._consumer.pause([TopicPartition(self._topic, number)])
        partition.begins_again()
        partition.unreadable = Unreadable(offset, f"{why}; {command}", since, now + _UNREAD_SECONDS)
        if not is_known:
            log.error("record_unreadable", partition=number, offset=offset, error=why, skip=command)

    def reads_again(self, partition: Partition) -> None:
        """Note that a partition is read on from where it stood still."""
        log.info("record_readable", partition=partition.number, offset=partition.assembler.next)
        partition.unreadable = None

    def read_from_next(self, partition: Partition) -> None:
        """Go to where the partition is to be read on."""
        where = TopicPartition(self._topic, partition.number, partition.assembler.next)
        partition.unreadable = None
        partition.begins_again()
        if self._seek(where) and not partition.is_paused:
            self._consumer.resume([where])

    def fail(self, number: int, why: str) -> None:
        """Take one partition out after an error of our own that is not one record's, and restore it
        after a pause.

        The pauses grow while it fails; one that went on for a while counts as sound again. The
        others go on.
        """
        now = time.monotonic()
        before = self._failed.get(number)
        is_first = before is None or now > before.again_at + _SOUND_SECONDS
        tries = 0 if before is None or is_first else before.tries
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**tries)
        failed = NotRead(PartitionState.FAILING, why, now, tries + 1, now + wait)
        self._failed[number] = failed
        self._stop_reading(number, failed)
        if is_first:
            log.error(
                "partition_fails",
                partition=number,
                error=why,
                doing="the others go on; it is tried again",
            )

    def let_go(self) -> list[int]:
        """Forget everything that is held, and read no further; `begin_anew` is to follow."""
        numbers = sorted(self.partitions)
        self._drop(numbers)
        self.assigned |= dict.fromkeys(numbers, time.monotonic())
        if numbers:
            self._consumer.pause([TopicPartition(self._topic, number) for number in numbers])
        return numbers

    def begin_anew(self, numbers: Iterable[int]) -> None:
        """Restore partitions that were let go from what is committed."""
        self._restorer.begin(numbers)

    def pause_full(self, most: int) -> None:
        """Read no further in partitions of which more waits to go out than `most`, and read on in
        the others.
        """
        for partition in self.partitions.values():
            if partition.waits_unread:
                continue
            is_full = partition.waiting >= most
            if is_full == partition.is_paused:
                continue
            where = [TopicPartition(self._topic, partition.number)]
            if is_full:
                self._consumer.pause(where)
            else:
                self._consumer.resume(where)
            partition.is_paused = is_full

    def _look_again(self) -> None:
        """Try to read what could not be read: another replica may have it whole."""
        now = time.monotonic()
        for partition in list(self.partitions.values()):
            stopped = partition.unreadable
            if stopped is None or stopped.again_at > now:
                continue
            where = TopicPartition(self._topic, partition.number, partition.assembler.next)
            partition.unreadable = replace(stopped, again_at=math.inf)
            if self._seek(where) and not partition.is_paused:
                self._consumer.resume([where])

    def _try_again(self) -> None:
        now = time.monotonic()
        due = [number for number, one in self.not_read.items() if one.again_at <= now]
        for number in due:
            del self.not_read[number]
        self._restore(due)

    def _stop_reading(self, number: int, not_read: NotRead) -> None:
        self._consumer.pause([TopicPartition(self._topic, number)])
        self._restorer.cancel([number])
        self._drop([number])
        self.not_read[number] = not_read

    def _assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        numbers = [where.partition for where in assigned]
        log.info("assigned", partitions=numbers)
        self.joins += 1
        # Paused until the restore has said where to begin; the offset is only a place to stand.
        ends = self._ends(numbers)
        start = [TopicPartition(self._topic, number, ends.get(number, 0)) for number in numbers]
        if self._cooperative:
            consumer.incremental_assign(start)
        else:
            consumer.assign(start)
        consumer.pause(start)
        self._restore(numbers)

    def _restore(self, numbers: Collection[int]) -> None:
        self.assigned |= dict.fromkeys(numbers, time.monotonic())
        self._restorer.begin(numbers)

    def _revoke(self, consumer: Consumer, revoked: list[TopicPartition]) -> None:
        numbers = [where.partition for where in revoked]
        log.info("revoked", partitions=numbers)
        self._restorer.cancel(numbers)
        self._drop(numbers)
        for number in numbers:
            self.assigned.pop(number, None)
            self.not_read.pop(number, None)
            self._failed.pop(number, None)
        if self._cooperative:
            consumer.incremental_unassign(revoked)
        else:
            consumer.unassign()

    def _ends(self, numbers: Iterable[int]) -> dict[int, int]:
        """Offsets to stand at, in numbers: the client looks a logical one up, and when the answer
        comes after the seek to the low-water mark, the client goes there half a second later
        (librdkafka 2.16), past unread events.

        Each costs round trips to the broker: what is not known within the time for all of them
        stands at the beginning.
        """
        ends: dict[int, int] = {}
        until = time.monotonic() + _ENDS_SECONDS
        try:
            for number in numbers:
                where = TopicPartition(self._topic, number)
                left = max(0.0, until - time.monotonic())
                ends[number] = self._consumer.get_watermark_offsets(where, timeout=left)[1]
        except KafkaException:
            log.info("ends_unknown", standing_at=0)
        return ends

    def _drop(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            partition = self.partitions.pop(number, None)
            if partition is not None:
                partition.assembler.abandon()

    def begin_again(self, partition: Partition) -> None:
        """Go back to where the partition was to begin: its first record stands past that."""
        where = TopicPartition(self._topic, partition.number, partition.assembler.next)
        log.warning("gap", partition=partition.number, expected=where.offset, doing="looking again")
        self._seek(where)

    def _seek(self, where: TopicPartition) -> bool:
        try:
            self._consumer.seek(where)
        except KafkaException as error:
            log.info("restoring_again", partition=where.partition, error=str(error))
            self._drop([where.partition])
            self._restore([where.partition])
            return False
        return True

    def _begin(self, restored: Restored) -> None:
        number, mark = restored.partition, restored.mark
        where = TopicPartition(self._topic, number, mark.low_water)
        if not self._seek(where):
            return
        assembler = Assembler(mark, self._budget, admit=partial(self._placement.check, number))
        for request_id, expires, ledger in restored.published:
            assembler.remember(request_id, expires, ledger)
        assembler.ledger_end = restored.end
        self.partitions[number] = Partition(
            number, assembler, restored.replay, self._rules, restored.skip
        )
        self._consumer.resume([where])
        found = len(restored.published)
        log.info(
            "restored", partition=number, low_water=mark.low_water, next=mark.next, published=found
        )
