"""How far partitions are behind, and which bring nothing although there is more to read."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.streaming.lag import SILENT_SECONDS, Lag, Silence
from workers.streaming.partition import Unreadable
from workers.streaming.ranking_partition import RankingPartition

NOT_KNOWN = -1001


class StandIn:
    """Knows the watermark of some partitions, and counts how often it was asked."""

    def __init__(self, ends: dict[int, int]) -> None:
        self.ends = ends
        self.asked = 0

    def get_watermark_offsets(self, where: TopicPartition, cached: bool) -> tuple[int, int]:
        assert cached, "the broker must not be asked"
        assert where.topic == "candidates"
        self.asked += 1
        if where.partition not in self.ends:
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))
        return 0, self.ends[where.partition]


def partition(number: int, next_offset: int) -> RankingPartition:
    return RankingPartition(number, Assembler(Mark(next_offset, 0, NO_TIME, next_offset)))


def lag_of(stand_in: StandIn) -> Lag:
    def nobody_asks() -> AdminClient:
        raise AssertionError("the broker must not be asked")

    return Lag(cast(Consumer, stand_in), "candidates", nobody_asks)


def test_lag_is_what_lies_between_what_is_taken_in_and_the_high_watermark() -> None:
    lag = lag_of(StandIn({0: 500, 3: 7}))
    assert lag.records == {}
    lag.look([partition(0, 480), partition(3, 7)], 1.0)
    assert lag.records == {0: 20, 3: 0}


def test_a_partition_whose_watermark_is_not_known_is_left_out() -> None:
    lag = lag_of(StandIn({0: 500, 1: NOT_KNOWN}))
    lag.look([partition(0, 480), partition(1, 0), partition(2, 0)], 1.0)
    assert lag.records == {0: 20}


def test_a_watermark_older_than_what_is_taken_in_is_no_lag() -> None:
    lag = lag_of(StandIn({0: 500}))
    lag.look([partition(0, 501)], 1.0)
    assert lag.records == {0: 0}


def test_markers_of_transactions_before_the_end_are_no_lag() -> None:
    ended, lag = partition(0, 499), lag_of(StandIn({0: 500}))
    ended.reached_end(500)
    lag.look([ended], 1.0)
    assert lag.records == {0: 0}
    ended.read_on()
    lag.look([ended], 2.0)
    assert lag.records == {0: 1}


def test_it_is_looked_at_once_a_second_and_a_lost_partition_goes_with_the_next_look() -> None:
    stand_in = StandIn({0: 500})
    lag = lag_of(stand_in)
    for now in (10.0, 10.5, 10.99):
        lag.look([partition(0, 480)], now)
    assert stand_in.asked == 1
    lag.look([], 11.0)
    assert lag.records == {}


class PatientAdmin:
    """Answers when a test says so."""

    def __init__(self) -> None:
        self.questions: list[Future[Any]] = []

    def list_offsets(
        self, asked: dict[TopicPartition, Any], **_: object
    ) -> dict[TopicPartition, Any]:
        self.questions = [Future() for _ in asked]
        return dict(zip(asked, self.questions, strict=True))


def test_of_a_partition_that_is_paused_the_broker_says_where_its_log_ends_and_nobody_waits() -> (
    None
):
    admin = PatientAdmin()
    lag = Lag(cast(Consumer, StandIn({0: 500})), "candidates", lambda: cast(AdminClient, admin))
    paused = partition(0, 480)
    paused.is_paused = True
    lag.look([paused], 1.0)
    assert lag.records == {0: 20}
    admin.questions[0].set_result(SimpleNamespace(offset=100_000))
    lag.look([paused], 2.0)
    assert lag.records == {0: 99_520}
    assert lag.ends == {0: 500}, "what the client has fetched, for those who look whether it reads"

    admin.questions[0].set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
    paused.is_paused = False
    lag.look([paused], 3.0)
    assert lag.records == {0: 20}


MORE = {3: 10}


@pytest.fixture
def idle() -> RankingPartition:
    return RankingPartition(3, Assembler(Mark(5, 0, NO_TIME, 5)))


def silent_after(
    idle: RankingPartition,
    seconds: float,
    ends: dict[int, int] = MORE,
    *,
    is_reachable: bool = True,
) -> bool:
    """Whether the partition counts as silent after some seconds, looked at each second."""
    silence = Silence()
    silent = [
        silence.look([idle], ends, now, is_reachable=is_reachable)
        for now in range(int(seconds) + 1)
    ]
    return silent[-1] == [idle]


def test_a_partition_that_brings_nothing_for_long_though_there_is_more_is_found(
    idle: RankingPartition,
) -> None:
    assert not silent_after(idle, SILENT_SECONDS - 1)
    assert silent_after(idle, SILENT_SECONDS)


def test_a_partition_at_its_end_is_only_quiet(idle: RankingPartition) -> None:
    """An upstream transaction is not decided, for one: the log goes on, and the client is at its
    end.
    """
    idle.reached_end(5)
    assert not silent_after(idle, 10 * SILENT_SECONDS)
    idle.read_on()
    assert not silent_after(idle, 10 * SILENT_SECONDS, ends={3: 5})
    assert not silent_after(idle, 10 * SILENT_SECONDS, ends={})


def test_what_is_not_read_is_not_silent(idle: RankingPartition) -> None:
    idle.is_paused = True
    assert not silent_after(idle, 10 * SILENT_SECONDS)
    idle.is_paused = False
    idle.unreadable = Unreadable(5, "", 0.0, 0.0)
    assert not silent_after(idle, 10 * SILENT_SECONDS)


def test_a_broker_that_does_not_answer_makes_no_partition_silent(idle: RankingPartition) -> None:
    assert not silent_after(idle, 10 * SILENT_SECONDS, is_reachable=False)
    silence = Silence()
    for now in range(100):
        assert silence.look([idle], MORE, now, is_reachable=now % 20 > 0) == []


def test_each_record_begins_the_silence_anew(idle: RankingPartition) -> None:
    silence = Silence()
    for now in range(100):
        if now % 20 == 0:
            idle.assembler.observe(idle.assembler.next, 1000)
        assert silence.look([idle], {3: 1000}, now, is_reachable=True) == []
