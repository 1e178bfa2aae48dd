"""Reading partitions from an offset up to another, and topics to their end.

The consumer is a stand-in if it matters what comes when. A real one is read in test_recent.py and
in tests/integration.
"""

import uuid
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.rig.producers import ready_producer
from tests.streaming.standins import ReadMessage, StandInReaderCluster
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import (
    LogReader,
    ReadEnd,
    ReadError,
    RecordUnreadable,
    TopicReader,
    ask_each,
    raise_if_final,
    read_topic,
)
from workers.streaming.records import Record
from workers.streaming.topics import TopicPlan, create_topics


@pytest.fixture
def cluster() -> StandInReaderCluster:
    return StandInReaderCluster("127.0.0.1:1")


def offsets(events: list[Any], partition: int = 0) -> list[int]:
    """The offsets of the records of a partition."""
    return [e.offset for e in events if isinstance(e, Record) and e.partition == partition]


END = KafkaError._PARTITION_EOF
DAMAGED = KafkaError._BAD_MSG


def test_a_partition_is_read_up_to_its_stop_and_then_leaves_the_reader(
    cluster: StandInReaderCluster,
) -> None:
    reader = LogReader(cluster)
    reader.start("t", 0, 5, stop=8)
    reader.start("t", 1, 0, stop=1)
    cluster.consumer.messages = [
        ReadMessage(0, 5),
        ReadMessage(0, 6),
        ReadMessage(1, 0),
        ReadMessage(0, 9),
    ]
    events = reader.poll()
    assert offsets(events, 0) == [5, 6]
    assert offsets(events, 1) == [0]
    assert not reader.is_reading
    assert sorted(cluster.consumer.unassigned) == [0, 1]


def test_an_end_below_the_stop_is_reported_and_the_partition_is_read_on(
    cluster: StandInReaderCluster,
) -> None:
    reader = LogReader(cluster)
    reader.start("t", 0, 0, stop=3)
    cluster.consumer.messages = [ReadMessage(0, 0), ReadMessage(0, 1, END)]
    assert reader.poll()[-1] == ReadEnd("t", 0, 1)
    assert reader.is_reading_partition("t", 0)
    cluster.consumer.messages = [ReadMessage(0, 3, END)]
    reader.poll()
    assert not reader.is_reading


def test_a_partition_without_records_to_read_is_not_assigned(
    cluster: StandInReaderCluster,
) -> None:
    reader = LogReader(cluster)
    reader.start("t", 0, 3, stop=3)
    assert not reader.is_reading
    assert cluster.consumer.assigned == []


def test_behind_an_unreadable_record_nothing_comes_until_the_partition_is_started_again(
    cluster: StandInReaderCluster,
) -> None:
    reader = LogReader(cluster)
    reader.start("t", 0, 0, stop=10)
    cluster.consumer.messages = [
        ReadMessage(0, 0),
        ReadMessage(0, 1, DAMAGED),
        ReadMessage(0, 7),
        ReadMessage(0, 1, DAMAGED),
    ]
    events = reader.poll()
    assert offsets(events) == [0]
    errors = [event for event in events if isinstance(event, ReadError)]
    assert [(error.offset, error.is_unreadable) for error in errors] == [(1, True)]
    assert reader.is_reading_partition("t", 0)

    reader.drop("t", 0)
    reader.start("t", 0, 1, stop=10)
    cluster.consumer.messages = [ReadMessage(0, 1)]
    assert offsets(reader.poll()) == [1]


def test_an_unreadable_record_ends_a_tool_and_an_error_that_passes_does_not(
    cluster: StandInReaderCluster,
) -> None:
    transport = KafkaError(KafkaError._TRANSPORT, "connection refused")
    raise_if_final(cluster, "t", ReadError("t", 0, 1, transport, is_unreadable=False))
    damaged = KafkaError(DAMAGED, "a reason")
    with pytest.raises(RecordUnreadable, match="t/0@1: cannot be read: a reason"):
        raise_if_final(cluster, "t", ReadError("t", 0, 1, damaged, is_unreadable=True))


def test_an_offset_is_asked_for_again_while_the_leader_of_a_partition_moves() -> None:
    moved = KafkaException(KafkaError(KafkaError.UNKNOWN_LEADER_EPOCH))
    answers: list[Any] = [moved, SimpleNamespace(offset=7)]

    def ask(_admin: AdminClient, _where: TopicPartition) -> "Future[Any]":
        future: Future[Any] = Future()
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return future

    admin = cast(AdminClient, SimpleNamespace(poll=lambda _: 0))
    assert ask_each(admin, "t", [0], ask) == {0: 7}

    answers.append(KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)))
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        ask_each(admin, "t", [0], ask)


def sent_to(kafka: str, records: list[tuple[int, bytes]]) -> str:
    """A new topic of two partitions that holds these values, each in its partition."""
    topic = f"log_reader.{uuid.uuid4().hex[:8]}"
    create_topics(kafka, [TopicPlan(topic, 2)])
    producer = ready_producer(kafka)
    for partition, value in records:
        producer.produce(topic, value, partition=partition)
    assert producer.flush(30) == 0
    return topic


@pytest.mark.parametrize(("from_beginning", "expected"), [(True, [0, 0]), (False, [2, 1])])
def test_a_topic_is_assigned_at_numbers_and_never_at_logical_offsets(
    kafka: str, from_beginning: bool, expected: list[int]
) -> None:
    topic = sent_to(kafka, [(0, b"a"), (0, b"b"), (1, b"c")])
    cluster = StandInReaderCluster(kafka)
    TopicReader(cluster, topic, from_beginning=from_beginning)
    assert [place.offset for place in cluster.consumer.assigned] == expected


def test_read_topic_reads_every_partition_to_its_end(kafka: str) -> None:
    topic = sent_to(kafka, [(0, b"a"), (0, b"b"), (1, b"c")])
    values = [(record.partition, record.value) for record in read_topic(Cluster(kafka), topic)]
    assert sorted(values) == [(0, b"a"), (0, b"b"), (1, b"c")]
