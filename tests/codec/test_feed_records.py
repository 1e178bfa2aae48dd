"""Feed records: what a worker says about its feeds in `interactions`."""

import json
from typing import Any

import pytest

from workers.codec.feed_records import (
    decode_feed_record,
    encode_feed_record,
    feed_record_headers,
    is_feed_record,
)
from workers.codec.formats import Format
from workers.outcomes.records import FeedRecord
from workers.ranking.refusal import EventRefused, Reason
from workers.ranking.request import Completion

RECORD = FeedRecord(
    request_id="r-1",
    surface="home",
    user_id="ü",
    arm="canary",
    experiment="0123456789ab",
    weights="9f86d081884c",
    models={"quality": 2**63 - 1, "engagement": 1},
    completion=Completion.DEADLINE,
    window_s=1800,
    item_ids=("t3_a", "t3_ü"),
    score_sums={"quality": 0.1 + 0.2, "engagement": -1e-9},
)
FORMATS = pytest.mark.parametrize("form", list(Format))


@FORMATS
@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        RECORD._replace(experiment=None, first_position=2),
        RECORD._replace(item_ids=(), models={}, score_sums={}),
    ],
)
def test_a_feed_record_reads_back_as_it_was_written(form: Format, record: FeedRecord) -> None:
    value = encode_feed_record(record, form)
    assert decode_feed_record(value, b"r-1", feed_record_headers(form)) == record


@FORMATS
def test_its_header_tells_it_from_an_interaction(form: Format) -> None:
    assert is_feed_record(feed_record_headers(form))
    assert not is_feed_record([("content-type", form.content_type)])
    assert not is_feed_record(None)


def refusal(changes: dict[str, Any], key: bytes | None = b"r-1") -> tuple[Reason, str]:
    fields = json.loads(encode_feed_record(RECORD, Format.JSON)) | changes
    with pytest.raises(EventRefused) as refused:
        decode_feed_record(json.dumps(fields).encode(), key, feed_record_headers(Format.JSON))
    return refused.value.reason, refused.value.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"request_id": ""}, "request_id: got ''"),
        ({"user_id": "u" * 257}, "user_id: got"),
        ({"item_ids": ["a", "a"]}, "item_ids: got"),
        ({"item_ids": [""]}, "item_ids: got"),
        ({"window_s": 0}, "window_s: got 0"),
        ({"window_s": 604_801}, "window_s: got 604801"),
        ({"first_position": -1}, "first_position: got -1"),
        ({"models": {"quality": 0}}, "models: got"),
        ({"completion": "never"}, "completion: "),
        ({"arm": 1}, "feed record: "),
        ({"score_sums": {"quality": "1"}}, "feed record: "),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, object], message: str) -> None:
    reason, said = refusal(changes)
    assert reason is Reason.INVALID
    assert said.startswith(message)


def test_a_key_that_is_not_the_request_is_refused() -> None:
    assert refusal({}, key=b"other")[0] is Reason.KEY


@FORMATS
def test_bytes_that_are_no_feed_record_are_malformed(form: Format) -> None:
    with pytest.raises(EventRefused) as refused:
        decode_feed_record(b"\xff\xff", b"r-1", feed_record_headers(form))
    assert refused.value.reason is Reason.MALFORMED
    with pytest.raises(EventRefused) as refused:
        decode_feed_record(None, b"r-1", feed_record_headers(form))
    assert refused.value.reason is Reason.NULL_VALUE
