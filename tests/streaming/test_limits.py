"""The smallest limit counts, whoever sets it."""

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

MEGABYTE = 1_000_000


def test_without_properties_the_producer_takes_what_the_larger_topic_takes() -> None:
    limits = limits_of(MEGABYTE, 20 * MEGABYTE, {})
    assert limits.message_bytes == 20 * MEGABYTE
    assert limits.feed_bytes == MEGABYTE - RECORD_OVERHEAD
    assert limits.letter_bytes == 20 * MEGABYTE - RECORD_OVERHEAD
    assert limits.batch_bytes == 500_000 - RECORD_OVERHEAD


@pytest.mark.parametrize(
    ("properties", "bytes_out"),
    [
        ({"message.max.bytes": "1000000"}, MEGABYTE),
        ({"queue.buffering.max.kbytes": "500"}, 512_000),
        ({"queue.buffering.max.kbytes": "500", "message.max.bytes": "300000"}, 300_000),
    ],
)
def test_a_smaller_limit_of_the_producer_counts(properties: dict[str, str], bytes_out: int) -> None:
    limits = limits_of(20 * MEGABYTE, 20 * MEGABYTE, properties)
    assert limits.feed_bytes == limits.letter_bytes == bytes_out - RECORD_OVERHEAD


@pytest.mark.parametrize(
    ("feeds", "letters", "properties", "batch"),
    [
        (MEGABYTE, MEGABYTE, {"batch.size": "2000000"}, MEGABYTE),
        (MEGABYTE, 50_000, {}, 50_000),
        (MEGABYTE, MEGABYTE, {"batch.size": "16384"}, 16_384),
        (MEGABYTE, MEGABYTE, {"message.max.bytes": "100000"}, 100_000),
    ],
)
def test_a_batch_stays_below_every_limit(
    feeds: int, letters: int, properties: dict[str, str], batch: int
) -> None:
    assert limits_of(feeds, letters, properties).batch_bytes == batch - RECORD_OVERHEAD


@pytest.mark.parametrize(("feeds", "letters"), [(LEAST_BYTES - 1, MEGABYTE), (MEGABYTE, 100)])
def test_a_topic_that_takes_next_to_nothing_is_refused_with_what_is_needed(
    feeds: int, letters: int
) -> None:
    with pytest.raises(
        LimitTooSmall, match=f"take {min(feeds, letters)} bytes, expected at least {LEAST_BYTES}"
    ):
        limits_of(feeds, letters, {})


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
    smaller = replace(LIMITS, feed_bytes=50_000)
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
