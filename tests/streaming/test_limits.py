"""The smallest limit counts, whoever sets it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from tests.streaming.standins import LIMITS, TOPICS, StandInCluster
from workers.errors import Failure
from workers.streaming import limits as limits_module
from workers.streaming.limits import (
    LEAST_BYTES,
    RECORD_OVERHEAD,
    LimitTooSmall,
    OutputLimits,
    RecordLimits,
    limits_of,
)
from workers.streaming.topics import JoinTopics, WorkerTopics

MEGABYTE = 1_000_000


def test_without_properties_the_producer_takes_what_the_largest_topic_takes() -> None:
    limits = limits_of({"feeds": MEGABYTE, "letters": 20 * MEGABYTE, "records": 2 * MEGABYTE}, {})
    assert limits.message_bytes == 20 * MEGABYTE
    assert limits.record_bytes == {
        "feeds": MEGABYTE - RECORD_OVERHEAD,
        "letters": 20 * MEGABYTE - RECORD_OVERHEAD,
        "records": 2 * MEGABYTE - RECORD_OVERHEAD,
    }
    assert limits.batch_bytes == 1_000_000 - RECORD_OVERHEAD


@pytest.mark.parametrize(
    ("properties", "bytes_out"),
    [
        ({"message.max.bytes": "1000000"}, MEGABYTE),
        ({"queue.buffering.max.kbytes": "500"}, 512_000),
        ({"queue.buffering.max.kbytes": "500", "message.max.bytes": "300000"}, 300_000),
    ],
)
def test_a_smaller_limit_of_the_producer_counts(properties: dict[str, str], bytes_out: int) -> None:
    limits = limits_of(dict.fromkeys(("feeds", "letters"), 20 * MEGABYTE), properties)
    assert limits.record_bytes == dict.fromkeys(("feeds", "letters"), bytes_out - RECORD_OVERHEAD)


@pytest.mark.parametrize(
    ("sizes", "properties", "batch"),
    [
        ((MEGABYTE, MEGABYTE, MEGABYTE), {"batch.size": "2000000"}, MEGABYTE),
        ((MEGABYTE, 50_000, MEGABYTE), {}, 50_000),
        ((MEGABYTE, MEGABYTE, 30_000), {}, 30_000),
        ((MEGABYTE, MEGABYTE, MEGABYTE), {"batch.size": "16384"}, 16_384),
        ((MEGABYTE, MEGABYTE, MEGABYTE), {"message.max.bytes": "100000"}, 100_000),
    ],
)
def test_a_batch_stays_below_every_limit(
    sizes: tuple[int, int, int], properties: dict[str, str], batch: int
) -> None:
    topic_bytes = dict(zip(("feeds", "letters", "records"), sizes, strict=True))
    assert limits_of(topic_bytes, properties).batch_bytes == batch - RECORD_OVERHEAD


@pytest.mark.parametrize(("feeds", "letters"), [(LEAST_BYTES - 1, MEGABYTE), (MEGABYTE, 100)])
def test_a_topic_that_takes_next_to_nothing_is_refused_with_what_is_needed(
    feeds: int, letters: int
) -> None:
    topic = "feeds" if feeds < letters else "letters"
    with pytest.raises(
        LimitTooSmall,
        match=f"topic '{topic}': .* take {min(feeds, letters)} bytes, expected at least {LEAST_BYTES}",
    ):
        limits_of({"feeds": feeds, "letters": letters}, {})


def test_limits_that_stay_unknown_are_logged_once_however_often_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[RecordLimits | Failure] = []

    def read(*_: object) -> RecordLimits:
        answer = answers.pop(0)
        if isinstance(answer, Failure):
            raise answer
        return answer

    monkeypatch.setattr(limits_module, "read_limits", read)
    smaller = replace(LIMITS, record_bytes={TOPICS.feeds: 50_000, TOPICS.dead_letters: 200_000})
    answers += [LimitTooSmall("3000 bytes")] * 3 + [smaller] + [LimitTooSmall("3000 bytes")] * 2
    limits = OutputLimits(StandInCluster("127.0.0.1:1"), TOPICS, LIMITS)
    with capture_logs() as logged:
        changed = [limits.read_again() for _ in range(6)]
    assert changed == [False, False, False, True, False, False]
    assert [line["event"] for line in logged] == [
        "limits_unknown",
        "limits_changed",
        "limits_unknown",
    ]


JOIN_TOPICS = JoinTopics("interactions", "letters", "requests", "sums")


@pytest.mark.parametrize(
    ("topics", "logged_fields"),
    [
        (TOPICS, ["feed_bytes", "dead_letter_bytes"]),
        (
            replace(TOPICS, interactions="interactions"),
            ["feed_bytes", "dead_letter_bytes", "feed_record_bytes"],
        ),
        (JOIN_TOPICS, ["dead_letter_bytes", "request_outcome_bytes", "feed_outcome_bytes"]),
    ],
    ids=["worker", "worker with outcomes", "join"],
)
def test_limits_that_the_broker_still_names_are_halved_for_every_topic_of_the_stage(
    topics: WorkerTopics | JoinTopics,
    logged_fields: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs = tuple(topics.outputs.values())
    first = limits_of(dict.fromkeys(outputs, MEGABYTE), {})
    monkeypatch.setattr(limits_module, "read_limits", lambda *_: first)
    limits = OutputLimits(StandInCluster("127.0.0.1:1"), topics, first)
    with capture_logs() as logged:
        assert limits.read_again()
    half = (MEGABYTE - RECORD_OVERHEAD) // 2
    assert [limits.record_bytes(topic) for topic in outputs] == [half] * len(outputs)
    assert limits.batch_bytes == first.batch_bytes // 2
    (line,) = logged
    assert {key: line[key] for key in logged_fields} == dict.fromkeys(logged_fields, half)
    assert sorted(line) == sorted([*logged_fields, "event", "log_level"])


def test_one_topic_that_takes_less_changes_the_limits_to_what_the_broker_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs = tuple(JOIN_TOPICS.outputs.values())
    first = limits_of(dict.fromkeys(outputs, MEGABYTE), {})
    smaller = limits_of(dict.fromkeys(outputs, MEGABYTE) | {"sums": 70_000}, {})
    monkeypatch.setattr(limits_module, "read_limits", lambda *_: smaller)
    limits = OutputLimits(StandInCluster("127.0.0.1:1"), JOIN_TOPICS, first)
    assert limits.read_again()
    assert limits.record_bytes("sums") == 70_000 - RECORD_OVERHEAD
    assert limits.record_bytes("requests") == MEGABYTE - RECORD_OVERHEAD
    assert limits.batch_bytes == 70_000 - RECORD_OVERHEAD
