"""Restores side by side while the broker is away: the loop goes on turning. What a restore reads is
in the laws.
"""

from typing import Any, NoReturn, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.builders import HOME
from tests.rig.process import until
from tests.streaming.standins import never_returns
from workers.streaming.clients import Cluster
from workers.streaming.restore import Restorer
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
    restorer = Restorer(
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
    restorer = Restorer(cluster, "g", topics, {"home": HOME}, "rules")
    restorer.begin([0])
    until(lambda: restorer.advance() == [] and bool(cluster.asked))
    assert readers == []
