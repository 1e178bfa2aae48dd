"""What the join publishes, as the schemas describe it."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from tests.contract.golden import SCHEMAS
from workers.codec.outcomes import (
    decode_feed_outcomes,
    encode_feed_outcomes,
    encode_request_outcomes,
    encode_sums_key,
)
from workers.outcomes.records import ClosedFeed, SumsKey
from workers.outcomes.sums import Sums, cluster_of
from workers.ranking.request import Completion

KEY = SumsKey(
    hour=489_972,
    surface="home",
    arm="canary",
    experiment="0123456789ab",
    weights="9f86d081884c",
    models=(("engagement", 12), ("quality", 3)),
)
FEED = ClosedFeed(
    offset=7,
    time=489_972 * 3_600_000 + 5,
    due=489_972 * 3_600_000 + 1_800_005,
    request_id="r-1",
    user_id="u-42",
    key=KEY,
    completion=Completion.DEADLINE,
    item_ids=("t3_a", "t3_b", "t3_c"),
    first_position=0,
    marks=bytes([0b111, 0, 0b001]),
    names=("seen", "take", "hide"),
    score_sums={"engagement": 0.1 + 0.2, "quality": -1.5},
)


def checked(name: str, value: bytes) -> dict[str, Any]:
    """The record, after it was validated by its schema."""
    schema = json.loads((Path(SCHEMAS) / f"{name}.schema.json").read_text(encoding="utf-8"))
    record: dict[str, Any] = json.loads(value)
    Draft202012Validator(schema).validate(record)
    return record


def test_the_outcomes_of_a_request_name_each_item_that_had_one() -> None:
    record = checked("request-outcomes", encode_request_outcomes(FEED))
    assert record["outcomes"] == [
        {"item_id": "t3_a", "position": 0, "outcomes": ["seen", "take", "hide"]},
        {"item_id": "t3_c", "position": 2, "outcomes": ["seen"]},
    ]
    assert (record["items"], record["seen"], record["takes"], record["others"]) == (
        *(3, 2, 1),
        {"hide": 1},
    )
    assert record["closed_at"] - record["published_at"] == 1_800_000


def test_a_feed_without_outcomes_is_a_record_too() -> None:
    bare = FEED._replace(marks=b"", names=(), key=KEY._replace(experiment=None))
    record = checked("request-outcomes", encode_request_outcomes(bare))
    assert (record["seen"], record["takes"], record["outcomes"]) == (0, 0, [])
    assert "experiment" not in record


def test_a_part_of_a_page_keeps_its_position() -> None:
    part = FEED._replace(item_ids=("t3_a",), marks=b"\x03", first_position=2)
    record = checked("request-outcomes", encode_request_outcomes(part))
    assert [item["position"] for item in record["outcomes"]] == [2]
    sums = Sums()
    sums.add(part)
    assert sums.positions == {2: [1, 1]}


def test_sums_read_back_as_they_were_written() -> None:
    sums = Sums()
    sums.add(FEED)
    sums.add(FEED._replace(user_id="u-7", marks=b"", score_sums={"quality": 2.0}))
    value = encode_feed_outcomes(KEY, partition=3, closed_until=17, sums=sums)
    record = checked("feed-outcomes", value)
    assert (record["feeds"], record["deadline_feeds"], record["items"]) == (2, 2, 6)
    assert record["positions"] == {"seen": [1, 0, 1], "takes": [1, 0, 0]}
    assert record["clusters"]["cluster"] == sorted([cluster_of("u-42"), cluster_of("u-7")])

    read = decode_feed_outcomes(value)
    assert (read.key, read.partition, read.closed_until) == (KEY, 3, 17)
    assert encode_feed_outcomes(KEY, partition=3, closed_until=17, sums=read.sums) == value


def test_a_key_has_the_same_bytes_whatever_the_order_of_its_models() -> None:
    assert encode_sums_key(KEY) == (
        b'{"hour":1763899200000,"surface":"home","arm":"canary","weights":"9f86d081884c",'
        b'"models":{"engagement":12,"quality":3},"experiment":"0123456789ab"}'
    )


def test_the_clusters_of_users_are_the_published_hash() -> None:
    assert (cluster_of("u-42"), cluster_of("日本")) == (125, 90)
