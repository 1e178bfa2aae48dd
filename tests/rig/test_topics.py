"""The rig's own reader of topics, on a real Kafka."""

import uuid
from collections import Counter

import pytest
from confluent_kafka import Producer

from tests.rig.process import until
from tests.rig.topics import RecordReader, read_records, read_to_end
from workers.streaming.clients import Cluster
from workers.streaming.topics import TopicPlan, create_topics


@pytest.fixture
def topic(kafka: str) -> str:
    name = f"rig-{uuid.uuid4().hex[:8]}"
    create_topics(kafka, [TopicPlan(name, 2)])
    return name


def transactional(kafka: str, topic: str) -> Producer:
    producer = Cluster(kafka).transactional(f"{topic}-writer", 60_000)
    producer.init_transactions(30)
    return producer


def write(producer: Producer, topic: str, *values: str) -> None:
    """Write each value to both partitions, in a transaction that stays open."""
    producer.begin_transaction()
    for value in values:
        for partition in (0, 1):
            producer.produce(topic, value.encode(), partition=partition)
    producer.flush(30)


def test_what_is_committed_is_read_to_its_end_and_what_is_aborted_is_not(
    kafka: str, topic: str
) -> None:
    producer = transactional(kafka, topic)
    write(producer, topic, "a", "b")
    producer.commit_transaction(30)
    write(producer, topic, "aborted")
    producer.abort_transaction(30)

    values = [record.value() for record in read_to_end(kafka, topic)]
    assert Counter(values) == {b"a": 2, b"b": 2}
    assert read_to_end(kafka, topic)[0].offset() == 0


def test_what_an_open_transaction_holds_back_is_behind_the_end_until_it_is_committed(
    kafka: str, topic: str
) -> None:
    producer = transactional(kafka, topic)
    with RecordReader(kafka, topic) as reader:
        write(producer, topic, "a")
        assert reader.ends() == {0: 0, 1: 0}
        assert reader.has_reached(reader.ends())
        assert read_to_end(kafka, topic) == []

        producer.commit_transaction(30)
        until(lambda: reader.ends() == {0: 2, 1: 2})  # the record, and the end of its transaction
        values = []
        while not reader.has_reached(reader.ends()):
            record = reader.poll(0.1)
            if record is not None:
                values.append(record.value())
        assert values == [b"a", b"a"]


def test_records_that_are_too_many_are_read_too_and_missing_ones_are_not_waited_for_longer_than_asked(
    kafka: str, topic: str
) -> None:
    producer = transactional(kafka, topic)
    write(producer, topic, "a")
    producer.commit_transaction(30)
    assert len(read_records(kafka, topic, count=1, patience=30.0, settle=0.5)) == 2
    assert len(read_records(kafka, topic, count=3, patience=1.0, settle=0.1)) == 2
