"""Ownership: which partitions are ours, restored before they are read, dropped when they are lost."""

from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaException, TopicPartition

from workers.assembly.assembler import Assembler
from workers.assembly.budget import Budget
from workers.observe.log import log
from workers.streaming.partition import Partition
from workers.streaming.restore import OffsetsLost, Restored, Restorer


class Ownership:
    """The partitions of the candidates topic that this worker owns and has restored, by number."""

    def __init__(
        self, consumer: Consumer, restorer: Restorer, topic: str, budget: Budget, *, cooperative: bool
    ) -> None:
        self.partitions: dict[int, Partition] = {}
        self._consumer, self._restorer, self._topic = consumer, restorer, topic
        self._budget, self._cooperative = budget, cooperative

    def subscribe(self) -> None:
        """Join the group; partitions come and go in later polls."""
        self._consumer.subscribe([self._topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)

    def leave(self) -> None:
        """Leave the group."""
        self._restorer.close()
        self._consumer.close()

    @property
    def restoring(self) -> bool:
        """Whether a partition is being restored."""
        return self._restorer.busy

    def advance(self) -> None:
        """Take restores on without waiting; a partition that is restored is read from its low-water mark."""
        if not self._restorer.busy:
            return
        for found in self._restorer.advance():
            if isinstance(found, OffsetsLost):
                span = f"{found.earliest} to {found.latest}"
                self.stand_still(found.partition, f"offset {found.committed} is gone, the log holds {span}")
            else:
                self._begin(found)

    def stand_still(self, number: int, why: str) -> None:
        """Stop one partition: retention removed what was not yet ranked. Nothing is skipped silently."""
        self._consumer.pause([TopicPartition(self._topic, number)])
        self._drop([number])
        command = f"stop the group's workers, then: trimtab offsets resume --partition {number}"
        log.error("offsets_lost", partition=number, error=why, resume=command)

    def let_go(self) -> list[int]:
        """Forget everything that is held, and read no further; `begin_anew` is to follow."""
        numbers = sorted(self.partitions)
        self._drop(numbers)
        if numbers:
            self._consumer.pause([TopicPartition(self._topic, number) for number in numbers])
        return numbers

    def begin_anew(self, numbers: Iterable[int]) -> None:
        """Restore partitions from what is committed."""
        self._restorer.begin(numbers)

    def _assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        numbers = [where.partition for where in assigned]
        log.info("assigned", partitions=numbers)
        # Paused until the restore has said where to begin; the offset is only a place to stand.
        ends = self._ends(numbers)
        start = [TopicPartition(self._topic, number, ends.get(number, 0)) for number in numbers]
        if self._cooperative:
            consumer.incremental_assign(start)
        else:
            consumer.assign(start)
        consumer.pause(start)
        self._restorer.begin(numbers)

    def _revoke(self, consumer: Consumer, revoked: list[TopicPartition]) -> None:
        numbers = [where.partition for where in revoked]
        log.info("revoked", partitions=numbers)
        self._restorer.cancel(numbers)
        self._drop(numbers)
        if self._cooperative:
            consumer.incremental_unassign(revoked)
        else:
            consumer.unassign()

    def _ends(self, numbers: Iterable[int]) -> dict[int, int]:
        """Offsets to stand at, in numbers: the client looks a logical one up, and when the answer comes after the
        seek to the low-water mark, the client goes there half a second later (librdkafka 2.16), past unread events.
        """
        ends: dict[int, int] = {}
        try:
            for number in numbers:
                where = TopicPartition(self._topic, number)
                ends[number] = self._consumer.get_watermark_offsets(where, timeout=2.0)[1]
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
            self._restorer.begin([where.partition])
            return False
        return True

    def _begin(self, restored: Restored) -> None:
        number, mark = restored.partition, restored.mark
        where = TopicPartition(self._topic, number, mark.low_water)
        if not self._seek(where):
            return
        assembler = Assembler(mark, self._budget)
        for request_id, expires, ledger in restored.published:
            assembler.remember(request_id, expires, ledger)
        assembler.ledger_end = restored.end
        self.partitions[number] = Partition(number, assembler)
        self._consumer.resume([where])
        found = len(restored.published)
        log.info("restored", partition=number, low_water=mark.low_water, next=mark.next, published=found)
