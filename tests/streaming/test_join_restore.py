"""What a restore of the join makes of the logs, by the table of join_restore.py. The broker's answers
are a stand-in's.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from confluent_kafka import TopicPartition

from tests.streaming.join_building import JOIN_TOPICS
from workers.codec.formats import Format
from workers.codec.outcomes import encode_feed_outcomes, outcome_headers
from workers.codec.pointer import Pointer, Span, write_pointer
from workers.outcomes.join import NO_TIME, NOTHING_OUT, Due, JoinMark
from workers.outcomes.records import HOUR_MS, SumsKey
from workers.outcomes.sums import ClusterSums, Sums
from workers.streaming.join_restore import JoinRestore, RestoredJoin
from workers.streaming.log_reader import Watermarks
from workers.streaming.records import Record
from workers.streaming.restore import CannotRestore, OffsetsLost
from workers.streaming.restore_steps import RestoreSteps, Step

HOUR = 5
TIME = HOUR * HOUR_MS + 1000
INPUTS = Watermarks(10, 100)


class StandInSteps:
    """Answers at once. `log` is the output, whose first record is at `earliest`. `formats` has the
    format of each record, JSON if it is empty.
    """

    def __init__(
        self,
        committed: TopicPartition,
        log: Sequence[bytes | None] = (),
        earliest: int = 0,
        formats: Sequence[Format] = (),
    ) -> None:
        self.waits_for: dict[int, str] = {}
        self.read: list[tuple[int, int]] = []
        self._committed = committed
        self._log = log
        self._earliest = earliest
        self._formats = formats or [Format.JSON] * len(log)

    def committed(self, source: TopicPartition) -> Step[TopicPartition]:
        assert (source.topic, source.partition) == (JOIN_TOPICS.interactions, 3)
        yield
        return self._committed

    def watermarks(self, where: TopicPartition) -> Step[Watermarks]:
        yield
        if where.topic == JOIN_TOPICS.interactions:
            return INPUTS
        assert (where.topic, where.partition) == (JOIN_TOPICS.feed_outcomes, 3)
        return Watermarks(self._earliest, self._earliest + len(self._log))

    def read_log(
        self, where: TopicPartition, start: int, stop: int, take: Callable[[Record], None]
    ) -> Step[None]:
        self.read.append((start, stop))
        yield
        for offset in range(start, stop):
            value = self._log[offset - self._earliest]
            headers = outcome_headers(self._formats[offset - self._earliest])
            take(Record(where.topic, 3, offset, 0, key=None, value=value, headers=headers))


def committed(offset: int, pointer: Pointer | None = None) -> TopicPartition:
    if pointer is None:
        return TopicPartition(JOIN_TOPICS.interactions, 3, offset)
    return TopicPartition(JOIN_TOPICS.interactions, 3, offset, write_pointer(pointer))


def key(hour: int = HOUR, arm: str = "control") -> SumsKey:
    return SumsKey(hour, "home", arm, None, "w", (("quality", 1),))


def sums(feeds: int, of: SumsKey | None = None, form: Format = Format.JSON) -> bytes:
    return encode_feed_outcomes(of or key(), 3, TIME, Sums({9: ClusterSums(feeds=feeds)}), form)


def restore(steps: StandInSteps) -> RestoredJoin | OffsetsLost | CannotRestore:
    recipe = JoinRestore(cast(RestoreSteps, steps), JOIN_TOPICS, "g").restore(3)
    while True:
        try:
            next(recipe)
        except StopIteration as stop:
            return cast("RestoredJoin | OffsetsLost | CannotRestore", stop.value)


def restored(steps: StandInSteps) -> RestoredJoin:
    result = restore(steps)
    assert isinstance(result, RestoredJoin)
    return result


def feeds_by_key(result: RestoredJoin) -> dict[SumsKey, tuple[int, int]]:
    """By key, the feeds of its latest sums and their offset."""
    return {
        each.outcomes.key: (each.outcomes.sums.clusters[9].feeds, each.offset)
        for each in result.sums
    }


def test_with_a_pointer_the_sums_are_read_from_its_scan_and_the_replay_begins_at_the_offset() -> (
    None
):
    pointer = Pointer(scan=1, time=TIME, next=60, out=(TIME + 5, 31), skip=(Span(40, 42),))
    steps = StandInSteps(committed(50, pointer), [sums(1), sums(2), sums(3)])
    result = restored(steps)
    assert steps.read == [(1, 3)]
    assert result.mark == JoinMark(low_water=50, scan=1, time=TIME, next=60, out=Due(TIME + 5, 31))
    assert (result.low_water, result.next, result.end, result.records_read) == (50, 60, 3, 1)
    assert result.skip == (Span(40, 42),)
    assert feeds_by_key(result) == {key(): (3, 2)}


def test_of_each_key_the_latest_sums_count_and_those_of_finished_hours_are_not_kept() -> None:
    pointer = Pointer(scan=0, time=TIME, next=60, out=(1, 1))
    finished = key(HOUR - 1)
    canary = key(arm="canary")
    later = key(HOUR + 1)
    log = [sums(1), sums(7, finished), sums(4, canary), sums(2), sums(8, finished), sums(5, later)]
    result = restored(StandInSteps(committed(50, pointer), log))
    assert feeds_by_key(result) == {key(): (2, 3), canary: (4, 2), later: (5, 5)}


def test_sums_are_read_in_both_formats_so_a_group_may_change_its_format() -> None:
    pointer = Pointer(scan=0, time=TIME, next=60, out=(1, 1))
    canary = key(arm="canary")
    later = key(HOUR + 1)
    formats = [Format.JSON, Format.JSON, Format.PROTOBUF, Format.PROTOBUF, Format.JSON]
    counts = [(1, key()), (4, canary), (2, key()), (7, later), (8, later)]
    log = [sums(feeds, of, form) for (feeds, of), form in zip(counts, formats, strict=True)]
    result = restored(StandInSteps(committed(50, pointer), log, formats=formats))
    assert feeds_by_key(result) == {key(): (2, 2), canary: (4, 1), later: (8, 4)}


def test_of_an_output_that_retention_has_shortened_what_is_left_is_read() -> None:
    pointer = Pointer(scan=1, time=TIME, next=60, out=(1, 1))
    steps = StandInSteps(committed(50, pointer), [sums(1)], earliest=7)
    assert restored(steps).mark.scan == 7
    assert steps.read == [(7, 8)]


def test_an_offset_that_was_moved_past_what_was_taken_counts_as_taken() -> None:
    pointer = Pointer(scan=0, time=TIME, next=40, out=(1, 1))
    assert restored(StandInSteps(committed(50, pointer))).mark.next == 50


@pytest.mark.parametrize("pointer", [None, Pointer(scan=9, time=TIME, next=60, out=(1, 1))])
def test_without_a_pointer_or_with_that_of_another_topic_an_output_without_sums_is_a_new_one(
    pointer: Pointer | None,
) -> None:
    result = restored(StandInSteps(committed(50, pointer)))
    assert result.mark == JoinMark(low_water=50, scan=0, time=NO_TIME, next=50, out=NOTHING_OUT)
    assert (result.sums, result.skip) == ([], ())


def test_a_group_that_has_committed_nothing_begins_at_the_earliest_record() -> None:
    result = restored(StandInSteps(committed(-1001)))
    assert (result.low_water, result.next) == (INPUTS.earliest, INPUTS.earliest)


@pytest.mark.parametrize("pointer", [None, Pointer(scan=9, time=TIME, next=60, out=(1, 1))])
@pytest.mark.parametrize("offset", [-1001, 50])
def test_without_a_pointer_or_with_that_of_another_topic_a_partition_that_has_sums_stands_still(
    offset: int, pointer: Pointer | None
) -> None:
    result = restore(StandInSteps(committed(offset, pointer), [sums(1)]))
    assert isinstance(result, CannotRestore)
    assert result.partition == 3
    assert "feed-outcomes has sums of this partition, but group 'g' has no pointer" in result.why


def test_an_offset_that_is_not_in_the_log_any_more_is_reported() -> None:
    pointer = Pointer(scan=0, time=TIME, next=60, out=(1, 1))
    assert restore(StandInSteps(committed(9, pointer))) == OffsetsLost(3, 9, 10, 100)


@pytest.mark.parametrize("form", list(Format))
@pytest.mark.parametrize("value", [None, b"", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_record_of_sums_is_passed_over(
    value: Any, form: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    pointer = Pointer(scan=0, time=TIME, next=60, out=(1, 1))
    log = [sums(1), value]
    result = restored(StandInSteps(committed(50, pointer), log, formats=[Format.JSON, form]))
    assert feeds_by_key(result) == {key(): (1, 0)}
    assert "foreign_sums" in capsys.readouterr().out
