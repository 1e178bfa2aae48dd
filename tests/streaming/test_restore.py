"""Restores side by side while the broker is away: the loop goes on turning. What a restore reads is
in the laws.
"""

from typing import NoReturn, cast

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from tests.builders import HOME
from workers.streaming.clients import Cluster
from workers.streaming.restore import Restorer, RestoreTopics


class AwayAdmin:
    """Waits for its whole limit in vain."""

    def __init__(self, asked: list[float]) -> None:
        self._asked = asked

    def list_topics(self, timeout: float) -> NoReturn:
        self._asked.append(timeout)
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))


class AwayCluster(Cluster):
    """A broker that does not answer; `asked` says how long was waited for it each time."""

    @property
    def asked(self) -> list[float]:
        return cast(list[float], self.__dict__.setdefault("_asked", []))

    def admin(self) -> AdminClient:
        return cast(AdminClient, AwayAdmin(self.asked))


def test_a_broker_that_is_away_is_waited_for_once_a_turn_however_many_partitions_are_restored() -> (
    None
):
    cluster = AwayCluster("127.0.0.1:1")
    restorer = Restorer(
        cluster, RestoreTopics("g", "candidates", "feeds", "letters"), {"home": HOME}, "rules"
    )
    restorer.begin(range(100))
    assert restorer.advance() == []
    assert len(cluster.asked) == 1
    assert restorer.partitions == list(range(100))
