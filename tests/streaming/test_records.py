"""Headers as any producer may write them, read from a real Kafka."""

import uuid
from collections.abc import Sequence
from contextlib import closing

from confluent_kafka import TopicPartition

from tests.streaming.raw import RawHeaders, send_raw
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import TopicReader
from workers.streaming.records import Headers, Record, fetched, read_headers
from workers.streaming.topics import TopicPlan, create_topics

NOT_UTF8 = [b"x-\xe9tat", b"\xff", b"\xed\xa0\x80", b"caf\xc3", b"\xff" * 3000]


def read_back(kafka: str, written: Sequence[RawHeaders]) -> list[Record]:
    """Write one record for each list of headers to a topic of its own, and read them all."""
    topic = f"headers.{uuid.uuid4().hex[:8]}"
    create_topics(kafka, [TopicPlan(topic, 1)])
    for place, headers in enumerate(written):
        send_raw(kafka, topic, 0, b"\xff%d" % place, b"value %d" % place, headers)
    with closing(TopicReader(Cluster(kafka), topic, from_beginning=True)) as reader:
        return list(reader.records(follow=False))


def test_headers_with_a_name_that_is_not_utf8_cannot_be_read_and_the_rest_of_their_record_can(
    kafka: str,
) -> None:
    written: list[RawHeaders] = []
    for name in NOT_UTF8:
        written.append([(name, b"1")])
        written.append([(b"content-type", b"application/json"), (name, None), (b"trace", b"2")])
    written.append([(name, b"3") for name in NOT_UTF8])
    records = read_back(kafka, written)
    assert [record.headers for record in records] == [None] * len(written)
    assert [(record.offset, record.key, record.value) for record in records] == [
        (place, b"\xff%d" % place, b"value %d" % place) for place in range(len(written))
    ]


def test_odd_headers_whose_names_are_utf8_are_read_as_they_are(kafka: str) -> None:
    odd: list[Headers] = [
        [],
        [("trace", None)],
        [("", b"no name")],
        [("état", b"\xff\xfe"), ("日本", b"")],
        [("content-type", b"\xff"), ("content-type", b"application/json")],
        [(f"h{number}", b"%d" % number) for number in range(4000)],
    ]
    records = read_back(
        kafka, [[(name.encode(), value) for name, value in headers] for headers in odd]
    )
    assert [record.headers for record in records] == odd


def test_in_a_hot_loop_a_failure_is_that_of_its_own_message_and_of_no_later_call(
    kafka: str,
) -> None:
    topic = f"headers.{uuid.uuid4().hex[:8]}"
    create_topics(kafka, [TopicPlan(topic, 1)])
    cluster = Cluster(kafka)
    producer = cluster.producer()
    for _ in range(3000):
        producer.produce(topic, b"v", headers=[("content-type", b"application/json")])
    assert producer.flush(30) == 0
    send_raw(kafka, topic, 0, b"k", b"v", [(b"x-\xe9tat", b"1")])
    for _ in range(100):
        producer.produce(topic, b"v")
    assert producer.flush(30) == 0

    found: list[Headers | None] = []
    with closing(cluster.reader()) as consumer:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while len(found) < 3101:
            for message in fetched(consumer.consume(1000, 1.0)):
                if message.error() is None:
                    found.append(read_headers(message))
                    assert len(message.value() or b"") == 1

    assert found == [[("content-type", b"application/json")]] * 3000 + [None] + [[]] * 100
