"""`trimtab produce`: what reaches the topic, record by record."""

import json
import random
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.commands.running import Ended, trimtab, write_lines
from tests.contract.golden import INDEX, value_of
from tests.rig.traffic import make_request
from workers.codec.generated.candidate_pb2 import CandidateEvent
from workers.commands import produce
from workers.commands.produce import Pace, Stamps
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import TopicReader
from workers.streaming.records import Record
from workers.streaming.topics import TopicPlan, create_topics

OLD = 1_500_000_000_000


class Topic:
    """A topic of the test's own on the shared stack."""

    def __init__(self, kafka: str) -> None:
        self.kafka = kafka
        self.name = f"produce-{uuid.uuid4().hex[:8]}"
        create_topics(kafka, [TopicPlan(self.name, 4, {"max.message.bytes": "100000"})])

    def produce(self, file: Path | str, *words: object, given: bytes = b"") -> Ended:
        settings = {"TRIMTAB_KAFKA": self.kafka, "TRIMTAB_TOPIC_CANDIDATES": self.name}
        return trimtab("produce", file, *words, given=given, **settings)

    def records(self) -> list[Record]:
        """Everything in it, oldest first within a partition."""
        reader = TopicReader(Cluster(self.kafka), self.name, from_beginning=True)
        try:
            return list(reader.records(follow=False))
        finally:
            reader.close()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(record.value or b"") for record in self.records()]


@pytest.fixture
def topic(kafka: str) -> Topic:
    return Topic(kafka)


def events_of(*request_ids: str, batch: int = 1) -> list[dict[str, Any]]:
    draw = random.Random(1)
    return [e for name in request_ids for e in make_request(name, 4, draw, batch, requested_at=OLD)]


def test_every_event_goes_out_once_under_its_request_id_with_its_content_type(
    topic: Topic, tmp_path: Path
) -> None:
    sent = events_of("a", "b", "c")
    ended = topic.produce(write_lines(tmp_path / "events.jsonl", sent), "--as-is")
    assert ended.code == 0

    records = topic.records()
    assert sorted(json.dumps(event) for event in sent) == sorted(
        (r.value or b"").decode() for r in records
    )

    for record in records:
        assert (record.key or b"").decode() == json.loads(record.value or b"")["request_id"]
        assert record.headers == [("content-type", b"application/json")]


def test_partitions_are_those_of_every_other_murmur2_producer(topic: Topic, tmp_path: Path) -> None:
    expected = INDEX["partitions"]
    topic.produce(write_lines(tmp_path / "events.jsonl", events_of(*expected["keys"], batch=4)))
    assert expected["of"] == 4
    assert {
        (record.key or b"").decode(): record.partition for record in topic.records()
    } == expected["keys"]


def test_all_events_of_a_request_get_one_new_time_and_change_in_nothing_else(
    topic: Topic, tmp_path: Path
) -> None:
    sent = events_of("a", "b")
    topic.produce(write_lines(tmp_path / "events.jsonl", sent))
    found = topic.events()
    for name in ("a", "b"):
        times = {event["requested_at"] for event in found if event["request_id"] == name}
        assert len(times) == 1
        assert times.pop() > OLD
    assert sorted(json.dumps(event | {"requested_at": OLD}) for event in found) == sorted(
        map(json.dumps, sent)
    )


def test_as_is_keeps_every_byte(topic: Topic, tmp_path: Path) -> None:
    line = '{ "requested_at":1.0, "request_id" : "\\u0061", "x": 1e2 }'
    topic.produce(write_lines(tmp_path / "events.jsonl", [line]), "--as-is")
    (record,) = topic.records()
    assert (record.key, record.value) == (b"a", line.encode())


def test_an_event_that_cannot_be_read_is_sent_as_it_is_without_a_key(
    topic: Topic, tmp_path: Path
) -> None:
    file = write_lines(
        tmp_path / "events.jsonl", ["nonsense", *events_of("a", batch=4), '{"request_id": 7}']
    )
    ended = topic.produce(file, "--json")
    assert ended.code == 0

    summary = json.loads(ended.out)
    assert (summary["events"], summary["requests"], summary["unreadable"]) == (3, 1, 2)

    unreadable = [record.value for record in topic.records() if record.key is None]
    assert sorted(unreadable, key=str) == [b"nonsense", b'{"request_id": 7}']


def test_an_event_with_one_unreadable_candidate_keeps_its_key(topic: Topic) -> None:
    entry = next(e for e in INDEX["refused"] if str(e["file"]).endswith("item-id-surrogate.json"))
    topic.produce("-", given=(value_of(entry) or b"") + b"\n")
    assert [record.key for record in topic.records()] == [b"r-1"]


def in_protobuf(*request_ids: str) -> bytes:
    found = b""
    for name in request_ids:
        event = CandidateEvent(
            request_id=name, surface="home", user_id="u", requested_at=OLD, last=True
        )
        event.candidates.add(item_id="x", features=[1.0])
        found += bytes([event.ByteSize()]) + event.SerializeToString()
    return found


def test_length_delimited_protobuf_is_detected_and_restamped(topic: Topic) -> None:
    ended = topic.produce("-", given=in_protobuf("a", "b"))
    assert ended.code == 0

    records = topic.records()
    assert {record.key for record in records} == {b"a", b"b"}

    for record in records:
        event = CandidateEvent.FromString(record.value or b"")
        assert record.headers == [("content-type", b"application/x-protobuf")]
        assert event.requested_at > OLD
        assert [candidate.item_id for candidate in event.candidates] == ["x"]


def test_the_summary_counts_events_and_requests(topic: Topic, tmp_path: Path) -> None:
    ended = topic.produce(write_lines(tmp_path / "events.jsonl", events_of("a", "b", "c")))
    assert ended.out.startswith(f"sent 12 events of 3 requests to {topic.name} in ")
    assert "unreadable" not in ended.out


def test_an_empty_file_sends_nothing(topic: Topic) -> None:
    ended = topic.produce("-", "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["events"] == 0
    assert topic.records() == []


def test_a_rate_of_nothing_is_wrong_use() -> None:
    assert trimtab("produce", "-", "--rate", "0").code == 2


def test_events_larger_than_the_topic_accepts_are_an_error_and_end_with_1(
    kafka: str, topic: Topic
) -> None:
    ended = topic.produce(
        "-", "--as-is", given=b'{"request_id": "a", "pad": "%s"}\n' % (b"x" * 200_000)
    )
    assert ended.code == 1
    assert "1 events were not taken by the broker" in ended.err


# What needs no broker


def test_a_request_keeps_its_stamp_and_the_oldest_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = iter(range(1, 10))
    monkeypatch.setattr(produce, "_REMEMBERED", 2)
    monkeypatch.setattr(produce, "time", SimpleNamespace(time_ns=lambda: next(times) * 1_000_000))
    stamps = Stamps()
    assert [stamps.of(name) for name in ("a", "b", "a", "c", "b", "a")] == [1, 2, 1, 3, 2, 4]
    assert stamps.requests == 2


def test_a_pace_waits_for_the_rest_of_each_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    clock = iter([100.0, 100.0, 100.1, 100.75, 105.0])
    monkeypatch.setattr(
        produce, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=slept.append)
    )
    pace = Pace(2.0)
    for _ in range(4):
        pace.wait()
    assert slept == pytest.approx([0.0, 0.4, 0.25, 0.0])


def test_without_a_rate_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(produce, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=slept.append))
    pace = Pace(None)
    for _ in range(3):
        pace.wait()
    assert slept == []
