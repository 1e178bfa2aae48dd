"""What the join publishes, as the schemas describe it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.contract.golden import SCHEMAS
from workers.codec.formats import Format, Headers
from workers.codec.generated.feed_outcomes_pb2 import FeedOutcomes as WireFeedOutcomes
from workers.codec.generated.request_outcomes_pb2 import RequestOutcomes as WireRequestOutcomes
from workers.codec.outcomes import (
    decode_feed_outcomes,
    decode_feed_outcomes_head,
    decode_request_outcomes,
    encode_feed_outcomes,
    encode_request_outcomes,
    encode_sums_key,
    outcome_headers,
)
from workers.outcomes.records import ClosedFeed, SumsKey
from workers.outcomes.sums import Sums, cluster_of
from workers.ranking.outcome_rules import SEEN_BIT
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


@st.composite
def closed_feeds(draw: st.DrawFn) -> ClosedFeed:
    """A closed feed with any outcomes, of a surface with `seen`, `take` and up to two others. An
    item with an outcome is seen.
    """
    texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
    item_ids = draw(st.lists(texts, max_size=60, unique=True))
    names = ("seen", "take", *draw(st.lists(texts, max_size=2, unique=True)))
    all_marks = [bits for bits in range(2 ** len(names)) if bits == 0 or bits & SEEN_BIT]
    marks = bytes(draw(st.sampled_from(all_marks)) for _ in item_ids)
    scores = st.floats(-1e9, 1e9)
    versions = st.integers(1, 2**63 - 1)
    models = draw(st.dictionaries(texts, versions, max_size=3))
    return FEED._replace(
        user_id=draw(texts),
        key=KEY._replace(
            experiment=draw(st.sampled_from([None, "0123456789ab"])),
            models=tuple(sorted(models.items())),
        ),
        completion=draw(st.sampled_from(Completion)),
        item_ids=tuple(item_ids),
        first_position=draw(st.integers(0, 100)),
        marks=draw(st.sampled_from([marks, b""])),
        names=names,
        score_sums=draw(st.dictionaries(texts, scores, max_size=3)),
    )


def checked(name: str, value: bytes) -> dict[str, Any]:
    """The record, after it was validated by its schema."""
    schema = json.loads((Path(SCHEMAS) / f"{name}.schema.json").read_text(encoding="utf-8"))
    record: dict[str, Any] = json.loads(value)
    Draft202012Validator(schema).validate(record)
    return record


def test_the_outcomes_of_a_request_name_each_item_that_had_one() -> None:
    record = checked("request-outcomes", encode_request_outcomes(FEED, Format.JSON))
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
    record = checked("request-outcomes", encode_request_outcomes(bare, Format.JSON))
    assert (record["seen"], record["takes"], record["outcomes"]) == (0, 0, [])
    assert "experiment" not in record


def test_a_part_of_a_page_keeps_its_position() -> None:
    part = FEED._replace(item_ids=("t3_a",), marks=b"\x03", first_position=2)
    record = checked("request-outcomes", encode_request_outcomes(part, Format.JSON))
    assert [item["position"] for item in record["outcomes"]] == [2]
    sums = Sums()
    sums.add(part)
    assert sums.positions == {2: [1, 1]}


def test_sums_read_back_as_they_were_written() -> None:
    sums = Sums()
    sums.add(FEED)
    sums.add(FEED._replace(user_id="u-7", marks=b"", score_sums={"quality": 2.0}))
    value = encode_feed_outcomes(KEY, 3, 17, sums, Format.JSON)
    record = checked("feed-outcomes", value)
    assert (record["feeds"], record["deadline_feeds"], record["items"]) == (2, 2, 6)
    assert record["positions"] == {"seen": [1, 0, 1], "takes": [1, 0, 0]}
    assert record["clusters"]["cluster"] == sorted([cluster_of("u-42"), cluster_of("u-7")])

    read = decode_feed_outcomes(value, outcome_headers(Format.JSON))
    assert (read.key, read.partition, read.closed_until) == (KEY, 3, 17)
    assert encode_feed_outcomes(KEY, 3, 17, read.sums, Format.JSON) == value


@given(closed_feeds())
def test_the_outcomes_of_a_request_are_the_same_in_both_formats(feed: ClosedFeed) -> None:
    for limit in (sys.maxsize, 0):
        read = []
        for form in Format:
            value = encode_request_outcomes(feed, form, limit)
            read.append(decode_request_outcomes(value, outcome_headers(form)))
        assert read[0] == read[1]


@given(st.lists(closed_feeds(), max_size=8), st.integers(-1, 2**50))
def test_sums_are_the_same_in_both_formats(feeds: list[ClosedFeed], closed_until: int) -> None:
    sums = Sums()
    for feed in feeds:
        sums.add(feed)
    key = feeds[0].key if feeds else KEY
    in_json = encode_feed_outcomes(key, 3, closed_until, sums, Format.JSON)
    in_protobuf = encode_feed_outcomes(key, 3, closed_until, sums, Format.PROTOBUF)

    read = decode_feed_outcomes(in_protobuf, outcome_headers(Format.PROTOBUF))
    assert read == decode_feed_outcomes(in_json, outcome_headers(Format.JSON))
    assert (read.key, read.partition, read.closed_until) == (key, 3, closed_until)
    assert encode_feed_outcomes(key, 3, closed_until, read.sums, Format.PROTOBUF) == in_protobuf
    for value, form in ((in_json, Format.JSON), (in_protobuf, Format.PROTOBUF)):
        head = decode_feed_outcomes_head(value, outcome_headers(form))
        assert head == (key, 3, closed_until)


def test_every_field_of_a_record_has_the_same_name_and_value_in_protobuf() -> None:
    sums = Sums()
    sums.add(FEED)
    in_json = json.loads(encode_feed_outcomes(KEY, 3, 17, sums, Format.JSON))
    wire = WireFeedOutcomes.FromString(encode_feed_outcomes(KEY, 3, 17, sums, Format.PROTOBUF))
    for name in ("cluster", "feeds", "deadline_feeds", "items", "seen", "takes"):
        assert list(getattr(wire.clusters, name)) == in_json["clusters"].pop(name)
    for name in ("others", "scores"):
        columns = {key: list(each.values) for key, each in getattr(wire.clusters, name).items()}
        assert columns == in_json["clusters"].pop(name)
    for name in ("seen", "takes"):
        assert list(getattr(wire.positions, name)) == in_json["positions"].pop(name)
    assert (in_json.pop("clusters"), in_json.pop("positions")) == ({}, {})
    assert {name: getattr(wire, name) for name in in_json} == in_json

    request = json.loads(encode_request_outcomes(FEED, Format.JSON))
    wire_request = WireRequestOutcomes.FromString(encode_request_outcomes(FEED, Format.PROTOBUF))
    items = [(each.item_id, each.position, list(each.outcomes)) for each in wire_request.outcomes]
    assert items == [tuple(each.values()) for each in request.pop("outcomes")]
    assert {name: getattr(wire_request, name) for name in request} == request


def test_without_a_content_type_a_record_is_json() -> None:
    value = encode_request_outcomes(FEED, Format.JSON)
    stated = decode_request_outcomes(value, outcome_headers(Format.JSON))
    assert decode_request_outcomes(value, []) == stated
    assert decode_request_outcomes(value, None) == stated


@pytest.mark.parametrize(
    "decode", [decode_request_outcomes, decode_feed_outcomes, decode_feed_outcomes_head]
)
@pytest.mark.parametrize("form", list(Format))
@pytest.mark.parametrize("value", [None, b"", b"{}", b"\xff", b"\x12\x04home"])
def test_what_is_no_record_is_a_value_error(
    decode: Callable[[bytes | None, Headers], object], form: Format, value: bytes | None
) -> None:
    with pytest.raises(ValueError, match=r"JSON|truncated|missing|empty|Protobuf"):
        decode(value, outcome_headers(form))


def test_a_record_of_another_kind_or_format_is_a_value_error() -> None:
    headers = outcome_headers(Format.PROTOBUF)
    with pytest.raises(ValueError, match="request_id: got an empty text"):
        decode_request_outcomes(encode_feed_outcomes(KEY, 3, 17, Sums(), Format.PROTOBUF), headers)
    with pytest.raises(ValueError, match=r"expected trimtab\.v1\.FeedOutcomes"):
        decode_feed_outcomes(encode_request_outcomes(FEED, Format.PROTOBUF), headers)
    with pytest.raises(ValueError, match="content-type: got 'text/plain'"):
        decode_feed_outcomes(b"", [("content-type", b"text/plain")])


def test_columns_of_different_lengths_are_a_value_error_in_json() -> None:
    sums = Sums()
    sums.add(FEED)
    record = json.loads(encode_feed_outcomes(KEY, 3, 17, sums, Format.JSON))
    columns = record["clusters"]
    for name, column in (
        ("takes", columns["takes"]),
        ("others.hide", columns["others"]["hide"]),
        ("scores.quality", columns["scores"]["quality"]),
    ):
        added = column.pop()
        with pytest.raises(ValueError, match=f"clusters.{name}: got 0 entries, expected 1"):
            decode_feed_outcomes(json.dumps(record).encode(), outcome_headers(Format.JSON))
        column.append(added)


def test_columns_of_different_lengths_are_a_value_error_in_protobuf() -> None:
    sums = Sums()
    sums.add(FEED)
    value = encode_feed_outcomes(KEY, 3, 17, sums, Format.PROTOBUF)
    wire = WireFeedOutcomes.FromString(value)
    wire.clusters.scores["quality"].values.append(1.0)
    with pytest.raises(ValueError, match=r"clusters\.scores\.quality: got 2 entries, expected 1"):
        decode_feed_outcomes(wire.SerializeToString(), outcome_headers(Format.PROTOBUF))


def test_a_key_has_the_same_bytes_whatever_the_order_of_its_models() -> None:
    assert encode_sums_key(KEY) == (
        b'{"hour":1763899200000,"surface":"home","arm":"canary","weights":"9f86d081884c",'
        b'"models":{"engagement":12,"quality":3},"experiment":"0123456789ab"}'
    )


def test_the_clusters_of_users_are_the_published_hash() -> None:
    assert (cluster_of("u-42"), cluster_of("日本")) == (125, 90)
