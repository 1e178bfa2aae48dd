"""What becomes of each message of the consumer, by the table of dispatch.py. What is around the
dispatcher is a stand-in; the partition is a real one.
"""

import math
from typing import Any, cast

import pytest
from confluent_kafka import (
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    KafkaError,
    KafkaException,
)

from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.codec.pointer import Span
from workers.counts import Counts
from workers.streaming.dispatch import Dispatcher
from workers.streaming.ownership import Ownership
from workers.streaming.partition import Unreadable
from workers.streaming.ranking_partition import RankingPartition
from workers.streaming.ranking_restore import Restored
from workers.streaming.reachability import BrokerReachability
from workers.streaming.records import Fetched
from workers.streaming.stage import Intake
from workers.worker_errors import WorkerErrors

START = 500
FAR_FUTURE = 10**15


class Message:
    """A record, an end or an error of one partition."""

    def __init__(
        self,
        offset: int,
        error: KafkaError | None = None,
        *,
        topic: str = "candidates",
        partition: int = 3,
        kind: int = TIMESTAMP_LOG_APPEND_TIME,
    ) -> None:
        self._offset = offset
        self._error = error
        self._topic = topic
        self._partition = partition
        self._kind = kind

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return self._kind, FAR_FUTURE

    def error(self) -> KafkaError | None:
        return self._error


def error(code: int, *, fatal: bool = False) -> KafkaError:
    return KafkaError(code, "a reason", fatal)


def end(offset: int) -> Message:
    return Message(offset, error(KafkaError._PARTITION_EOF))


def damage(offset: int) -> Message:
    return Message(offset, error(KafkaError._BAD_MSG))


class StandInOwnership:
    """Owns one partition, and notes what it is asked to do."""

    def __init__(self, partition: RankingPartition) -> None:
        self.partitions = {partition.number: partition}
        self.joins = 1
        self.calls: list[str] = []

    def seek_again(self, _partition: RankingPartition) -> None:
        self.calls.append("seek_again")

    def read_from_next(self, _partition: RankingPartition) -> None:
        self.calls.append("read_from_next")

    def note_readable(self, _partition: RankingPartition) -> None:
        self.calls.append("note_readable")

    def stop_at_lost_offset(self, _number: int, _why: str) -> None:
        self.calls.append("stop_at_lost_offset")

    def stop_at_unreadable(self, _partition: RankingPartition, _why: str) -> None:
        self.calls.append("stop_at_unreadable")

    def fail(self, number: int, _why: str) -> None:
        self.calls.append("fail")
        del self.partitions[number]


class StandInIntake:
    """Takes records and passes over spans as an intake does, and fails at `fails_at`."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.timestamps: list[int] = []
        self.passed: list[Span] = []
        self.fails_at: int | None = None

    def take(self, partition: RankingPartition, _: Message, offset: int, timestamp: int) -> bool:
        if offset == self.fails_at:
            raise OverflowError("what nobody thought of")
        partition.assembler.observe(offset, 1000)
        self.taken.append(offset)
        self.timestamps.append(timestamp)
        return False

    def keep_limits(self, _partitions: object) -> None:
        pass

    def pass_over(self, partition: RankingPartition, span: Span) -> None:
        partition.pass_over(span)
        self.passed.append(span)


class Setup:
    """A dispatcher, and what is around it."""

    def __init__(self, *skip: Span) -> None:
        self.partition = RankingPartition(3, Assembler(Mark(START, 0, NO_TIME, START)), skip=skip)
        self.ownership = StandInOwnership(self.partition)
        self.intake = StandInIntake()
        self.counts = Counts()
        self.dispatcher = Dispatcher(
            "candidates",
            cast("Ownership[RankingPartition, Restored]", self.ownership),
            cast("Intake[RankingPartition]", self.intake),
            BrokerReachability(),
            WorkerErrors(self.counts),
        )

    def dispatch(self, *messages: Message) -> list[str]:
        """Dispatch one batch. Return what ownership was asked to do for it."""
        self.ownership.calls.clear()
        self.dispatcher.dispatch(cast(list[Fetched], messages))
        return list(self.ownership.calls)


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_records_are_taken_from_the_low_water_mark_on(setup: Setup) -> None:
    assert setup.dispatch(Message(START), Message(START + 1)) == []
    assert setup.intake.taken == [START, START + 1]


def test_a_record_of_a_partition_that_is_not_restored_is_dropped(setup: Setup) -> None:
    setup.ownership.partitions.clear()
    assert setup.dispatch(Message(START)) == []
    assert setup.intake.taken == []


def test_what_was_fetched_before_a_seek_is_dropped(setup: Setup) -> None:
    assert setup.dispatch(Message(START - 2), end(START - 1), Message(START)) == []
    assert setup.intake.taken == [START]
    assert not setup.partition.is_at_end


def test_a_first_record_past_the_mark_is_sought_once_more_and_then_believed(setup: Setup) -> None:
    assert setup.dispatch(Message(START + 9), Message(START + 10)) == ["seek_again"]
    assert setup.intake.taken == []
    assert setup.dispatch(Message(START + 9)) == []
    assert setup.intake.taken == [START + 9]


def test_an_end_starts_the_idle_clock(setup: Setup) -> None:
    setup.dispatch(Message(START), end(START + 1))
    assert setup.partition.is_at_end


def test_a_producers_clock_that_is_ahead_does_not_move_stream_time_past_ours(setup: Setup) -> None:
    setup.dispatch(Message(START), Message(START + 1, kind=TIMESTAMP_CREATE_TIME))
    by_broker, by_producer = setup.intake.timestamps
    assert by_broker == FAR_FUTURE
    assert by_producer < FAR_FUTURE


def test_a_record_in_a_span_to_be_skipped_is_passed_over_with_the_span() -> None:
    span = Span(START + 1, START + 4)
    setup = Setup(span)
    setup.dispatch(Message(START), Message(START + 1), Message(START + 2), Message(START + 4))
    assert setup.intake.passed == [span]
    assert setup.intake.taken == [START, START + 4]


def test_a_span_is_passed_over_also_if_the_client_reports_nothing() -> None:
    setup = Setup(Span(START, START + 4))
    setup.dispatcher.pass_over_spans()
    assert setup.ownership.calls == ["read_from_next"]
    assert setup.partition.assembler.next == START + 4


def test_unreadable_records_stop_the_partition_and_further_errors_of_the_batch_are_dropped(
    setup: Setup,
) -> None:
    assert setup.dispatch(damage(START), damage(START + 7)) == ["stop_at_unreadable"]


def test_unreadable_records_that_are_to_be_skipped_are_passed_over() -> None:
    setup = Setup(Span(START, START + 4))
    assert setup.dispatch(damage(START), damage(START)) == ["read_from_next"]


def test_an_offset_that_is_gone_stops_the_partition(setup: Setup) -> None:
    gone = Message(START, error(KafkaError._AUTO_OFFSET_RESET))
    assert setup.dispatch(gone) == ["stop_at_lost_offset"]


def test_an_error_of_a_broker_is_of_no_partition(setup: Setup) -> None:
    lost = Message(START, error(KafkaError._ALL_BROKERS_DOWN), topic="")
    assert setup.dispatch(lost) == []
    assert not setup.dispatcher.reachability.is_sound
    setup.dispatch(Message(START))
    assert setup.dispatcher.reachability.is_sound, "a record is a sign of life"


def test_a_fatal_error_ends_the_worker(setup: Setup) -> None:
    with pytest.raises(KafkaException):
        setup.dispatch(Message(START, error(KafkaError._FATAL, fatal=True)))


def test_a_fault_of_ours_costs_one_partition(setup: Setup) -> None:
    setup.intake.fails_at = START + 1
    calls = setup.dispatch(Message(START), Message(START + 1), Message(START + 2))
    assert calls == ["fail"]
    assert setup.intake.taken == [START]
    assert setup.counts.worker_errors == 1


def test_a_record_from_before_a_seek_is_dropped_also_behind_a_newer_one(setup: Setup) -> None:
    setup.dispatch(Message(START), Message(START + 1), Message(START), Message(START + 2))
    assert setup.intake.taken == [START, START + 1, START + 2]


def test_a_record_behind_an_end_is_read_on(setup: Setup) -> None:
    setup.dispatch(Message(START), end(START + 1), Message(START + 1))
    assert setup.intake.taken == [START, START + 1]
    assert not setup.partition.is_at_end


def test_records_of_other_partitions_between_are_not_mistaken_for_its_own(setup: Setup) -> None:
    setup.dispatch(Message(START), Message(START + 7, partition=4), Message(START + 1))
    assert setup.intake.taken == [START, START + 1], "partition 4 is not ours"


def test_a_record_behind_an_error_is_judged_by_the_whole_table(setup: Setup) -> None:
    setup.dispatch(Message(START))
    setup.partition.unreadable = Unreadable(START + 1, "damaged", 0.0, math.inf)
    setup.dispatch(damage(START + 1), Message(START + 1))
    assert setup.ownership.calls[-1] == "note_readable"


def test_a_lack_of_memory_is_no_partitions_fault(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(setup.intake, "take", fail)
    with pytest.raises(MemoryError):
        setup.dispatch(Message(START))
