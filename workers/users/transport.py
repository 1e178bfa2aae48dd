"""Faust's client of Kafka, changed where the users stage needs a guarantee that Faust does not give.

Written for faust-streaming 0.15.3 and aiokafka 0.14.0, which are pinned: parts of this are private.

- Records of aborted transactions are not read (`read_committed`). Faust has no setting for it.
- Offsets are committed by the stage itself, after everything that they stand for is delivered.
  Faust's own commits may run ahead: its flush before a commit gives up after 0.1 s.
- After a rebalance each partition is read from its committed offset, and from its beginning if
  there is none. Faust seeks only to offsets above 0, and would skip what it had fetched and dropped.
- Each record of the input says from which offset on it covers its partition, so that the stage
  notices if Faust has dropped records on the way.
- A rebalance in the middle of a recovery begins the recovery again, and does not crash the process.
- A partition whose next offset is gone is refused, never continued at another one: when it is sought,
  and while it is read. aiokafka would begin at the first record that is left, without a word.
- The producer is idempotent, so that a retry can neither repeat nor reorder the states of an entry.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from workers.users.faults import OffsetsGone, StageFailed, TopicReplaced, UsersFault


class _Thread(driver.AIOKafkaConsumerThread):
    """The thread that owns aiokafka's consumer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # By partition of the input: where the next record is expected, by the client's position.
        self._expected: dict[int, int] = {}
        self._out_of_range: dict[int, asyncio.Future[None]] = {}

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        return consumer

    async def _fetch_records(self, consumer: Any, *args: Any, **kwargs: Any) -> Any:
        """What Faust takes from aiokafka. Each record of the input is told what it covers.

        Nothing else runs in this thread between aiokafka's giving out records and this.
        """
        batches = await super()._fetch_records(consumer, *args, **kwargs)
        for tp, records in batches.items():
            if tp.topic != self.app.stage.topics.request_outcomes:
                continue

            expected = self._expected.get(tp.partition)
            for record in records:
                record.covers_from = expected
                expected = record.offset + 1

            if expected is not None and tp.partition in self._expected:
                self._expected[tp.partition] = expected
        return batches

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        self._expected.clear()
        self._out_of_range.clear()
        await super().on_partitions_revoked(revoked)

    async def seek_sources(self, topic: str) -> tuple[dict[int, int], dict[int, int]]:
        """Seek every partition of the input to where it is to be read. Returns these offsets, and
        where the partitions end. Raises UsersFault.
        """
        return await self.call_thread(self._seek_sources, topic)  # type: ignore[no-any-return]

    async def _seek_sources(self, topic: str) -> tuple[dict[int, int], dict[int, int]]:
        consumer = self._ensure_consumer()
        sources = [tp for tp in consumer.assignment() if tp.topic == topic]
        positions: dict[int, int] = {}
        if not sources:
            return positions, {}

        beginnings = await consumer.beginning_offsets(sources)
        ends = await consumer.end_offsets(sources)
        for tp in sources:
            position = await consumer.committed(tp)
            if position is None:
                position = beginnings[tp]
            fault = _fault_of(tp, position, beginnings[tp], ends[tp])
            if fault is not None:
                raise fault

            consumer.seek(tp, position)
            self._expected[tp.partition] = position
            positions[tp.partition] = position

            state = consumer._subscription.subscription.assignment.state_value(tp)
            state.await_reset = partial(self._refuse_reset, tp)

        return positions, {tp.partition: end for tp, end in ends.items()}

    def _refuse_reset(self, tp: TopicPartition, _strategy: int) -> None:
        """aiokafka calls this instead of its own method when the broker does not have the position.

        The position stays, so nothing behind it is read. aiokafka asks for it again and again until
        the stage has ended.
        """
        if tp.partition not in self._out_of_range:
            self._out_of_range[tp.partition] = asyncio.ensure_future(self._name_what_is_gone(tp))

    async def _name_what_is_gone(self, tp: TopicPartition) -> None:
        consumer = self._ensure_consumer()
        fault: UsersFault | None
        try:
            position = await consumer.position(tp)
            beginnings = await consumer.beginning_offsets([tp])
            ends = await consumer.end_offsets([tp])
        except KafkaError as error:
            fault = StageFailed(f"{tp}: the next offset is gone, and it is not known why: {error}")
        else:
            fault = _fault_of(tp, position, beginnings[tp], ends[tp])
            if fault is None:
                fault = StageFailed(f"{tp}: the broker did not have offset {position} for a moment")
        self.parent_loop.call_soon_threadsafe(self.app.stage.fail, fault)

    def given_out(self, partition: int) -> int | None:
        """The offset behind the last record that was given out. None before the first seek."""
        return self._expected.get(partition)

    def unread(self, topic: str, partition: int) -> int | None:
        """How many offsets of a partition are decided and not given out. None: not known."""
        consumer = self._ensure_consumer()
        tp = TopicPartition(topic, partition)
        if tp not in consumer.assignment() or partition not in self._expected:
            return None

        state = consumer._subscription.subscription.assignment.state_value(tp)
        if state.lso is None or not state.has_valid_position:
            return None
        return max(0, state.lso - state.position)  # type: ignore[no-any-return]

    def heard_s(self) -> float:
        """Seconds since a broker has answered, infinite if none has."""
        if self._consumer is None:
            return float("inf")
        answered = [each._last_action for each in list(self._consumer._client._conns.values())]
        return time.monotonic() - max(answered, default=float("-inf"))

    async def seek_again(self, topic: str, partition: int, offset: int) -> None:
        """Read a partition from this offset on, if it is still ours."""
        await self.call_thread(self._seek_again, topic, partition, offset)

    async def _seek_again(self, topic: str, partition: int, offset: int) -> None:
        consumer = self._ensure_consumer()
        tp = TopicPartition(topic, partition)
        if tp in consumer.assignment() and partition in self._expected:
            consumer.seek(tp, offset)
            self._expected[partition] = offset

    async def commit_offsets(self, topic: str, offsets: Mapping[int, int]) -> bool:
        """Commit the next offsets of partitions. False if they may be ours no more."""
        return await self.call_thread(self._commit_offsets, topic, offsets)  # type: ignore[no-any-return]

    async def _commit_offsets(self, topic: str, offsets: Mapping[int, int]) -> bool:
        consumer = self._ensure_consumer()
        commit = {
            TopicPartition(topic, partition): OffsetAndMetadata(offset, "")
            for partition, offset in offsets.items()
        }

        try:
            await consumer.commit(commit)
        except (CommitFailedError, IllegalStateError):
            return False
        except KafkaError as error:
            if error.retriable:
                return False
            raise
        return True


def _fault_of(tp: TopicPartition, position: int, beginning: int, end: int) -> UsersFault | None:
    """Why a partition cannot be read from a position. None if it can."""
    if position < beginning:
        return OffsetsGone(tp.topic, tp.partition, committed=position, beginning=beginning)
    if position > end:
        return TopicReplaced(tp.topic, tp.partition, committed=position, end=end)
    return None


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: Any, record: Any) -> Any:
        message = super()._to_message(tp, record)
        message.covers_from = getattr(record, "covers_from", None)
        return message

    async def seek_to_committed(self) -> Mapping[Any, int]:
        """Faust calls this whenever it begins to read the input, or begins again."""
        topic = self.app.stage.topics.request_outcomes
        try:
            positions, ends = await self._thread.seek_sources(topic)
        except UsersFault as fault:
            self.app.stage.fail(fault)
            return {}

        self.app.stage.positions_sought(positions, ends)
        return {TP(topic, partition): offset for partition, offset in positions.items()}

    async def seek_wait(self, partitions: Mapping[Any, int | None]) -> None:
        """Faust seeks the changelog before it recovers.

        If a rebalance began since it looked up the offsets, some partitions are new and have none,
        and others are ours no more. Faust would crash. It begins the recovery again for all of them
        right after this, so they are left out.
        """
        assigned = self.assignment()
        offsets: dict[Any, int] = {}
        for tp, offset in partitions.items():
            if offset is not None and tp in assigned:
                offsets[tp] = offset
        with suppress(IllegalStateError):
            await super().seek_wait(offsets)

    async def commit_offsets(self, topic: str, offsets: Mapping[int, int]) -> bool:
        """Commit the next offsets of partitions. False if they may be ours no more."""
        return await self._thread.commit_offsets(topic, offsets)  # type: ignore[no-any-return]

    def given_out(self, partition: int) -> int | None:
        """The offset behind the last record of a partition of the input that was given out."""
        return self._thread.given_out(partition)  # type: ignore[no-any-return]

    def unread(self, topic: str, partition: int) -> int | None:
        """How many offsets of a partition were not given out. None: not known."""
        return self._thread.unread(topic, partition)  # type: ignore[no-any-return]

    def heard_s(self) -> float:
        """Seconds since a broker has answered, infinite if none has."""
        return self._thread.heard_s()  # type: ignore[no-any-return]

    async def read_again(self, topic: str, partition: int, offset: int) -> None:
        """Read a partition of the input from this offset on."""
        await self._thread.seek_again(topic, partition, offset)

        # Faust drops records below the last one that it has passed on. And it fetches nothing of a
        # partition whose records filled its queue, until they are taken out of the queue one by
        # one. If the queue was cleared instead, that never happens.
        tp = TP(topic, partition)
        self._read_offset[tp] = offset
        self.on_buffer_drop(tp)


class _Producer(driver.Producer):
    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class UsersTransport(driver.Transport):
    """The transport of the users stage."""

    Consumer = _Consumer
    Producer = _Producer
