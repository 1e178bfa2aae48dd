"""Restores side by side while the broker is away: the loop goes on turning. What a restore reads is
in the laws.
"""

from typing import Any, NoReturn, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.builders import HOME
from tests.rig.process import until
from tests.streaming.standins import ReadMessage, StandInReaderCluster, never_returns
from workers.assembly.assembler import NO_TIME, Mark
from workers.codec.pointer import Pointer
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import Watermarks
from workers.streaming.ranking_restore import is_usable, ranking_restorer, starting_mark
from workers.streaming.reachability import BrokerReachability
from workers.streaming.restore_steps import RestoreSteps
from workers.streaming.topics import WorkerTopics


class AwayAdmin:
    """Waits for its whole limit in vain."""

    def __init__(self, asked: list[float]) -> None:
        self._asked = asked

    def list_topics(self, timeout: float) -> NoReturn:
        self._asked.append(timeout)
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))


class Committed:
    """Answers at once that nothing is committed."""

    def committed(self, places: list[TopicPartition], _seconds: float) -> list[TopicPartition]:
        return places


class AwayCluster(Cluster):
    """A broker that went away after it was asked for offsets; `asked` says how long was waited for
    it each time.
    """

    @property
    def asked(self) -> list[float]:
        return cast(list[float], self.__dict__.setdefault("_asked", []))

    def reader(self, group: str = "") -> Consumer:
        return cast(Consumer, Committed())

    def admin(self) -> AdminClient:
        return cast(AdminClient, AwayAdmin(self.asked))


def test_a_broker_that_is_away_is_waited_for_once_a_turn_however_many_partitions_are_restored() -> (
    None
):
    cluster = AwayCluster("127.0.0.1:1")
    restorer = ranking_restorer(
        cluster, "g", WorkerTopics("candidates", "feeds", "letters"), {"home": HOME}, "rules"
    )
    restorer.begin(range(100))
    until(lambda: restorer.advance() == [] and bool(cluster.asked))
    assert len(cluster.asked) == 1
    assert restorer.partitions == list(range(100))


class Stuck:
    """Never says what is committed, whatever limit it was given."""

    def committed(self, *_: object) -> NoReturn:
        never_returns()


def test_a_question_for_committed_offsets_that_never_returns_is_given_up_and_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.streaming.restore_steps.SECONDS", 0.01)
    monkeypatch.setattr("workers.streaming.restore_steps._GRACE_SECONDS", 0.01)
    readers: list[Any] = [Stuck(), Committed()]
    cluster = AwayCluster("127.0.0.1:1")
    monkeypatch.setattr(AwayCluster, "reader", lambda _self, _group: readers.pop(0))
    topics = WorkerTopics("candidates", "feeds", "letters")
    restorer = ranking_restorer(cluster, "g", topics, {"home": HOME}, "rules")
    restorer.begin([0])
    until(lambda: restorer.advance() == [] and bool(cluster.asked))
    assert readers == []


INPUTS = Watermarks(10, 100)
OUTPUTS = Watermarks(5, 50)


def test_a_replay_begins_where_its_pointer_says() -> None:
    pointer = Pointer(scan=20, time=1000, next=40)
    mark = starting_mark(30, pointer, INPUTS, OUTPUTS)
    assert mark == Mark(low_water=30, scan=20, time=1000, next=40)


def test_of_an_output_that_retention_has_shortened_what_is_left_is_read() -> None:
    pointer = Pointer(scan=1, time=1000, next=40)
    assert starting_mark(30, pointer, INPUTS, OUTPUTS).scan == 5


def test_without_a_pointer_the_whole_output_is_read_and_everything_may_have_been_judged() -> None:
    mark = starting_mark(10, None, INPUTS, OUTPUTS)
    assert mark == Mark(low_water=10, scan=5, time=NO_TIME, next=100)


def test_a_pointer_of_another_output_topic_counts_as_none() -> None:
    pointer = Pointer(scan=51, time=1000, next=40)
    assert not is_usable(pointer, OUTPUTS)
    assert starting_mark(30, pointer, INPUTS, OUTPUTS) == starting_mark(30, None, INPUTS, OUTPUTS)


def test_an_error_that_comes_with_the_last_record_of_a_log_does_not_end_its_reading() -> None:
    cluster = StandInReaderCluster("127.0.0.1:1")
    steps = RestoreSteps(cluster, "g", BrokerReachability())
    taken: list[int] = []
    step = steps.read_log(
        TopicPartition("t", 0), start=0, stop=2, take=lambda record: taken.append(record.offset)
    )
    next(step)
    cluster.consumer.messages = [
        ReadMessage(0, 0),
        ReadMessage(0, -1, KafkaError._TRANSPORT),
        ReadMessage(0, 1),
    ]
    steps.poll()
    with pytest.raises(StopIteration) as stopped:
        next(step)
    assert stopped.value.value is None
    assert taken == [0, 1]


def test_a_log_is_read_on_behind_an_unreadable_record_once_another_replica_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.streaming.restore_steps._UNREADABLE_SECONDS", 0.0)
    cluster = StandInReaderCluster("127.0.0.1:1")
    steps = RestoreSteps(cluster, "g", BrokerReachability())
    taken: list[int] = []
    step = steps.read_log(
        TopicPartition("t", 0), start=0, stop=3, take=lambda record: taken.append(record.offset)
    )
    next(step)
    cluster.consumer.messages = [
        ReadMessage(0, 0),
        ReadMessage(0, 1, KafkaError._BAD_MSG),
        ReadMessage(0, 2),
    ]
    steps.poll()
    next(step)
    assert [place.offset for place in cluster.consumer.assigned] == [0, 1]
    assert "reads t from offset 1" in steps.waits_for[0]

    cluster.consumer.messages = [ReadMessage(0, 1), ReadMessage(0, 2)]
    steps.poll()
    with pytest.raises(StopIteration):
        next(step)
    assert taken == [0, 1, 2]
