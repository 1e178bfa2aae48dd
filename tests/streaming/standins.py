"""Stand-ins for the Kafka client: what it does at the moment that matters cannot be had at will
from a real one. And one for ranking, which needs no models.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from workers.pipeline import Ranked
from workers.ranking.feed import Feed
from workers.ranking.rank import rank
from workers.ranking.request import Request
from workers.ranking.weights import Weights
from workers.streaming import ranker as ranker_module
from workers.streaming.clients import Cluster
from workers.streaming.limits import OutputLimits, RecordLimits
from workers.streaming.publisher import Publisher
from workers.streaming.reachability import BrokerReachability
from workers.streaming.topics import WorkerTopics

TOPICS = WorkerTopics("candidates", "feeds", "letters")
LIMITS = RecordLimits(
    {TOPICS.feeds: 100_000, TOPICS.dead_letters: 200_000}, batch_bytes=50_000, message_bytes=250_000
)


def never_returns(*_: object) -> NoReturn:
    """Hang as the client does (librdkafka #5456): whatever limit it was given."""
    threading.Event().wait()
    raise AssertionError("unreachable")


def fails_with(
    code: int, *, fatal: bool = False, abortable: bool = False, retriable: bool = False
) -> Any:
    def fail(*_: object) -> NoReturn:
        raise KafkaException(KafkaError(code, "a reason", fatal, retriable, abortable))

    return fail


class Delivered:
    """The message of a delivery report."""

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        self._place = topic, partition, offset

    def topic(self) -> str:
        return self._place[0]

    def partition(self) -> int:
        return self._place[1]

    def offset(self) -> int:
        return self._place[2]


class StandInProducer:
    """Notes what it is asked for. A test puts another function in the place of a call that is to
    fail or to hang.

    `refuses` says of a topic and a partition with which code the delivery of its records fails.
    """

    def __init__(
        self, refuses: Callable[[str, int], int | None] = lambda topic, partition: None
    ) -> None:
        self.calls: list[str] = []
        self.committed: list[tuple[str, int]] = []
        self._refuses = refuses
        self._waiting: list[tuple[str, int, Any]] = []
        self._offset = 0

    def init_transactions(self, _seconds: float) -> None:
        self.calls.append("init")

    def begin_transaction(self) -> None:
        self.calls.append("begin")

    def produce(
        self, topic: str, _value: bytes, _key: bytes, partition: int, on_delivery: Any, headers: Any
    ) -> None:
        self._waiting.append((topic, partition, on_delivery))

    def poll(self, _seconds: float) -> int:
        return 0

    def send_offsets_to_transaction(self, *_: object) -> None:
        self.calls.append("offsets")

    def commit_transaction(self, _seconds: float) -> None:
        refused = None
        for topic, partition, on_delivery in self._waiting:
            code = self._refuses(topic, partition)
            refused = refused or code
            error = None if code is None else KafkaError(code)
            on_delivery(error, Delivered(topic, partition, self._offset))
            self._offset += 1
        if refused is not None:
            raise KafkaException(KafkaError(refused, "refused", False, False, True))
        self.committed += [(topic, partition) for topic, partition, _ in self._waiting]
        self._waiting.clear()
        self.calls.append("commit")

    def abort_transaction(self, _seconds: float) -> None:
        self._waiting.clear()
        self.calls.append("abort")

    def purge(self) -> None:
        self.calls.append("purge")


class StandInConsumer:
    """A member of a group, as far as publishing needs one."""

    def consumer_group_metadata(self) -> object:
        return object()


CONSUMER = cast(Consumer, StandInConsumer())


class StandInCluster(Cluster):
    """Gives out the producers of a test, one after the other."""

    def transactional(
        self, transactional_id: str, batch_bytes: int, message_bytes: int = 0
    ) -> Producer:
        self.asked.append((transactional_id, batch_bytes, message_bytes))
        return cast(Producer, self.producers.pop(0))

    @property
    def asked(self) -> list[tuple[str, int, int]]:
        return cast(list[tuple[str, int, int]], self.__dict__.setdefault("_asked", []))

    @property
    def producers(self) -> list[StandInProducer]:
        return cast(list[StandInProducer], self.__dict__.setdefault("_producers", []))


def publisher_of(*producers: StandInProducer, call_seconds: float = 5.0) -> Publisher:
    """A publisher that starts with the first producer and goes on to the next ones."""
    cluster = StandInCluster("127.0.0.1:1")
    cluster.producers.extend(producers)
    limits = OutputLimits(cluster, TOPICS, LIMITS)
    return Publisher(
        cluster,
        "id",
        "feeds",
        limits,
        BrokerReachability(),
        call_seconds=call_seconds,
        grace_seconds=0.0,
    )


class ReadMessage:
    """What a consumer returns for one offset: a record, or an error."""

    def __init__(self, partition: int, offset: int, code: int | None = None) -> None:
        self._partition = partition
        self._offset = offset
        self._code = code

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return None if self._code is None else KafkaError(self._code, "a reason")

    def timestamp(self) -> tuple[int, int]:
        return 1, 1000

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return b"v"

    def headers(self) -> list[tuple[str, bytes | None]]:
        return []


class StandInReader:
    """Returns the messages that a test has put into `messages`, and notes what is assigned."""

    def __init__(self) -> None:
        self.messages: list[ReadMessage] = []
        self.assigned: list[TopicPartition] = []
        self.unassigned: list[int] = []

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        self.assigned += places

    def incremental_unassign(self, places: list[TopicPartition]) -> None:
        self.unassigned += [place.partition for place in places]

    def consume(self, _most: int, _seconds: float) -> list[ReadMessage]:
        messages = self.messages
        self.messages = []
        return messages

    def close(self) -> None:
        pass


class StandInReaderCluster(Cluster):
    """A cluster whose readers are one stand-in."""

    @property
    def consumer(self) -> StandInReader:
        return cast(StandInReader, self.__dict__.setdefault("_consumer", StandInReader()))

    def reader(self, group: str = "") -> Consumer:
        return cast(Consumer, self.consumer)


def rank_without_models(monkeypatch: pytest.MonkeyPatch, weights: Weights) -> None:
    """Have the ranker score without models: both objectives rise with the position of an item."""

    def rank_requests(requests: Sequence[Request], *_: object) -> Ranked:
        feeds: list[Feed | None] = []
        for request in requests:
            row = np.linspace(0.1, 0.9, len(request.item_ids), dtype=np.float32)
            feeds.append(rank(request, np.array([row, row]).T, weights, {"quality": 3}, 1))
        return Ranked(feeds, 0, 0, 0, 0, 0)

    monkeypatch.setattr(ranker_module, "rank_requests", rank_requests)
