"""Feeds are decoded as they were encoded, in both formats, and fit into their topic."""

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.codec import protobuf_feeds
from workers.codec.feeds import (
    FeedUnreadable,
    decode_feed,
    encode_feed,
    feed_headers,
    read_feed_identity,
)
from workers.codec.formats import Format, Headers
from workers.codec.generated.feed_pb2 import RankedFeed
from workers.ranking.diversify import Diversity
from workers.ranking.feed import Feed, FeedItem
from workers.ranking.removal import Removal
from workers.ranking.request import Completion
from workers.ranking.weights import Weights

ROOMY = 1_000_000
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
_FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
_FLOAT64 = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def feeds(draw: st.DrawFn) -> Feed:
    objectives = draw(st.lists(_TEXTS, min_size=1, max_size=3, unique=True))
    scores, sources = st.tuples(*(_FLOAT32 for _ in objectives)), st.none() | _TEXTS
    items = st.builds(
        FeedItem, _TEXTS, _FLOAT64, scores, sources, st.dictionaries(_TEXTS, _FLOAT64, max_size=2)
    )
    removals = st.builds(Removal, _TEXTS, _TEXTS, sources, st.just(()) | scores)
    values = {name: draw(_FLOAT64) for name in objectives}
    return Feed(
        request_id=draw(_TEXTS),
        surface=draw(_TEXTS),
        user_id=draw(_TEXTS),
        requested_at=draw(st.integers(0, 2**50)),
        ranked_at=draw(st.integers(0, 2**50)),
        completion=draw(st.sampled_from(Completion)),
        refused=draw(st.integers(0, 1000)),
        arm=draw(_TEXTS),
        weights=Weights.of(values),
        models={name: draw(st.integers(1, 99)) for name in objectives},
        items=draw(st.lists(items, max_size=4)),
        removed=draw(st.lists(removals, max_size=3)),
        truncated=draw(st.integers(0, 3)),
        below_top_k=draw(st.integers(0, 3)),
        unlisted=draw(st.integers(0, 3)),
        diversity=draw(st.none() | st.builds(Diversity, st.floats(0, 1), st.floats(0, 1))),
        max_per_source=draw(st.integers(0, 3)),
        skipped=draw(st.lists(_TEXTS, max_size=2)),
        experiment=draw(st.none() | st.just("0123456789ab")),
        defaulted=draw(st.lists(_TEXTS, max_size=2)),
    )


def _feed(items: int, removed: int = 0) -> Feed:
    score = struct.unpack("<f", struct.pack("<f", 0.3))[0]
    return Feed(
        request_id="r-1",
        surface="home",
        user_id="u",
        requested_at=1000,
        ranked_at=1057,
        completion=Completion.FULL,
        refused=0,
        arm="control",
        weights=Weights.of({"quality": 0.5, "engagement": 0.25}),
        models={"quality": 1, "engagement": 7},
        items=[FeedItem(f"item-{place}", 0.75 * score, (score, score)) for place in range(items)],
        removed=[Removal(f"gone-{place}", "score-not-finite") for place in range(removed)],
    )


@pytest.mark.parametrize("form", Format)
@given(feed=feeds())
def test_a_feed_is_decoded_as_it_was_encoded(form: Format, feed: Feed) -> None:
    value = encode_feed(feed, form, ROOMY)
    assert repr(decode_feed(value, feed_headers(form))) == repr(feed)
    assert decode_feed(value) == feed
    assert read_feed_identity(value, feed_headers(form)) == (
        feed.requested_at,
        feed.surface,
        feed.request_id,
    )
    assert read_feed_identity(value) == (feed.requested_at, feed.surface, feed.request_id)


def _in_protobuf(feed: Feed) -> bytes:
    """A feed as the Protobuf library writes it."""
    wire = RankedFeed(
        request_id=feed.request_id,
        surface=feed.surface,
        user_id=feed.user_id,
        requested_at=feed.requested_at,
        ranked_at=feed.ranked_at,
        completion=feed.completion,
        refused=feed.refused,
        arm=feed.arm,
        experiment=feed.experiment or "",
        weights_version=feed.weights.version,
        truncated=feed.truncated,
        below_top_k=feed.below_top_k,
        unlisted=feed.unlisted,
        max_per_source=feed.max_per_source,
        skipped=feed.skipped,
        defaulted=feed.defaulted,
    )
    if feed.diversity is not None:
        wire.diversity.decay = feed.diversity.decay
        wire.diversity.floor = feed.diversity.floor
        wire.diversity.SetInParent()
    for name, weight in feed.weights.values.items():
        wire.objectives.add(name=name, weight=weight, model_version=feed.models.get(name))
    for position, item in enumerate(feed.items):
        wire.items.add(
            item_id=item.item_id,
            position=position,
            final_score=item.final_score,
            scores=item.scores,
            source=item.source,
            adjustments=[
                RankedFeed.Adjustment(name=name, value=value)
                for name, value in item.adjustments.items()
            ],
        )
    for removal in feed.removed:
        wire.removed.add(
            item_id=removal.item_id,
            reason=removal.reason,
            source=removal.source,
            scores=removal.scores,
        )
    value: bytes = wire.SerializeToString()
    return value


@st.composite
def long_feeds(draw: st.DrawFn) -> Feed:
    """Feeds without sources, with up to 400 items, long ids, and up to 40 objectives."""
    feed = draw(feeds())
    objectives = draw(st.sampled_from([1, 2, 31, 32, 40]))
    count = draw(st.sampled_from([1, 2, 127, 128, 129, 400]))
    item_id = draw(st.sampled_from(["i", "i" * 127, "i" * 128, "日" * 85, "x" * 256]))
    finals = draw(st.sampled_from([(0.5,), (0.5, 0.0), (-0.0, 1.5), (math.ulp(0.0),)]))
    score = draw(_FLOAT32)
    items = [
        FeedItem(item_id, finals[place % len(finals)], (score,) * objectives)
        for place in range(count)
    ]
    weights = Weights.of({f"objective-{number}": 0.5 for number in range(objectives)})
    return feed._replace(items=items, weights=weights, models={})


@settings(deadline=None)
@given(st.one_of(feeds(), long_feeds()))
def test_a_feed_in_protobuf_has_the_bytes_that_the_library_writes(feed: Feed) -> None:
    assert protobuf_feeds.encode(feed) == _in_protobuf(feed)


@pytest.mark.parametrize("length", [9, 10, 13, 32, 123])
def test_a_feed_in_protobuf_that_looks_like_json_after_whitespace_is_read_as_what_it_is(
    length: int,
) -> None:
    feed = _feed(2)._replace(request_id="{".ljust(length, "}"))
    value = encode_feed(feed, Format.PROTOBUF, ROOMY)
    assert value.lstrip()[:1] == b"{"
    assert decode_feed(value) == feed


@pytest.mark.parametrize("space", ["\n", "\r\n\t ", " " * 300])
def test_a_feed_in_json_after_whitespace_is_read_without_a_header(space: str) -> None:
    feed = _feed(2)
    value = space.encode() + encode_feed(feed, Format.JSON, ROOMY)
    assert decode_feed(value) == feed
    assert read_feed_identity(value) == (feed.requested_at, feed.surface, feed.request_id)


def test_the_json_record_has_the_keys_of_the_contract_in_its_order() -> None:
    record = json.loads(encode_feed(_feed(1), Format.JSON, ROOMY))
    contract = "request_id surface user_id requested_at ranked_at completion refused arm weights models items"
    assert list(record) == contract.split()
    assert record["weights"] == {
        "version": _feed(1).weights.version,
        "values": {"quality": 0.5, "engagement": 0.25},
    }
    assert list(record["items"][0]) == ["item_id", "position", "final_score", "scores"]
    full = json.loads(
        encode_feed(_feed(1, removed=1)._replace(truncated=2, below_top_k=3), Format.JSON, ROOMY)
    )
    assert list(full) == [*contract.split(), "removed", "truncated", "below_top_k"]
    assert (full["truncated"], full["below_top_k"]) == (2, 3)
    assert full["removed"] == [{"item_id": "gone-0", "reason": "score-not-finite"}]


def test_what_the_rules_on_sources_and_the_look_ups_did_is_at_the_end_and_only_if_they_did_something() -> (
    None
):
    ruled = _feed(0)._replace(
        items=[
            FeedItem("a", 0.5, (1.0, 0.5), "worldnews", {"diversity": -0.125}),
            FeedItem("b", 0.25, (0.5, 0.0)),
        ],
        removed=[Removal("c", "source-limit", "worldnews", (0.25, 0.5)), Removal("d", "seen")],
        diversity=Diversity(0.8, 0.3),
        max_per_source=1,
        skipped=["blocked", "features"],
        defaulted=["b"],
        unlisted=1,
    )
    record = json.loads(encode_feed(ruled, Format.JSON, ROOMY))
    assert list(record)[-6:] == [
        "removed",
        "unlisted",
        "diversity",
        "max_per_source",
        "skipped",
        "defaulted",
    ]
    assert [list(item)[4:] for item in record["items"]] == [["source", "adjustments"], []]
    assert record["items"][0]["adjustments"] == {"diversity": -0.125}
    assert record["removed"] == [
        {
            "item_id": "c",
            "reason": "source-limit",
            "source": "worldnews",
            "scores": {"quality": 0.25, "engagement": 0.5},
        },
        {"item_id": "d", "reason": "seen"},
    ]
    assert (record["diversity"], record["max_per_source"]) == ({"decay": 0.8, "floor": 0.3}, 1)
    assert (record["skipped"], record["defaulted"], record["unlisted"]) == (
        ["blocked", "features"],
        ["b"],
        1,
    )


def test_numbers_are_written_in_full_precision() -> None:
    record = json.loads(encode_feed(_feed(3), Format.JSON, ROOMY))
    assert record["items"][2] == {
        "item_id": "item-2",
        "position": 2,
        "final_score": 0.75 * 0.30000001192092896,
        "scores": {"quality": 0.30000001192092896, "engagement": 0.30000001192092896},
    }


@pytest.mark.parametrize("form", Format)
@given(count=st.integers(0, 40), removed=st.integers(0, 5), limit=st.integers(400, 6000))
def test_a_feed_too_large_keeps_as_many_of_its_best_items_as_fit(
    form: Format, count: int, removed: int, limit: int
) -> None:
    feed = _feed(count, removed)
    value = encode_feed(feed, form, limit)
    cut = decode_feed(value)
    kept = len(cut.items)
    assert len(value) <= limit
    assert cut.items == feed.items[:kept]
    assert cut.truncated == count - kept
    if kept < count and cut.removed == feed.removed:
        one_more = feed._replace(items=feed.items[: kept + 1], truncated=count - kept - 1)
        assert len(encode_feed(one_more, form, ROOMY)) > limit


@pytest.mark.parametrize("form", Format)
def test_a_feed_keeps_its_below_top_k_when_it_is_cut_for_its_size(
    form: Format,
) -> None:
    cut = decode_feed(encode_feed(_feed(40)._replace(below_top_k=7), form, 1000))
    assert cut.truncated == 40 - len(cut.items) > 0
    assert cut.below_top_k == 7


@pytest.mark.parametrize("form", Format)
def test_removed_items_that_leave_no_room_are_left_out_before_the_feed_is_lost(
    form: Format,
) -> None:
    feed = _feed(5, removed=500)
    assert decode_feed(encode_feed(feed, form, 2000)) == feed._replace(removed=[], unlisted=500)


@pytest.mark.parametrize("form", Format)
def test_defaulted_items_that_leave_no_room_are_left_out_too_and_the_feed_says_that_it_is_cut(
    form: Format,
) -> None:
    feed = _feed(500)._replace(defaulted=[f"item-{place}" for place in range(500)])
    cut = decode_feed(encode_feed(feed, form, 3000))
    assert cut == feed._replace(
        items=feed.items[: len(cut.items)], truncated=500 - len(cut.items), defaulted=[]
    )
    assert 0 < len(cut.items) < 500


@pytest.mark.parametrize("form", Format)
def test_a_limit_too_small_for_a_feed_without_items_is_named(form: Format) -> None:
    with pytest.raises(ValueError, match=r"^limit_bytes: got 20, expected room"):
        encode_feed(_feed(3), form, 20)


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (None, None),
        (b"", None),
        (b"not a feed", None),
        (b"[]", None),
        (b"{}", None),
        (b'{"request_id":"r","surface":"home"}', None),
        (b"{" * 5000, None),
        (b'{"x":' + b"[" * 5000, None),
        (b'{"request_id":"\xff","surface":"home","requested_at":1}', None),
        (b'{"request_id":"r","surface":"home","requested_at":1}', [("content-type", b"text/csv")]),
        (b"\x0a\x05", [("content-type", b"application/x-protobuf")]),
    ],
)
def test_a_foreign_record_is_not_a_feed(value: bytes | None, headers: Headers | None) -> None:
    assert read_feed_identity(value, headers) is None
    with pytest.raises(FeedUnreadable, match=r"^feed: "):
        decode_feed(value, headers)


@pytest.mark.parametrize(
    ("valid", "broken"),
    [
        (b'"completion":"full"', b'"completion":"sideways"'),
        (b'"scores":{"quality"', b'"scores":{"beauty"'),
        (b'"position":0', b'"position":"first"'),
        (b'"decay":0.5', b'"decay":1.5'),
        (
            b'"reason":"source-limit","scores":{"quality"',
            b'"reason":"source-limit","scores":{"beauty"',
        ),
    ],
)
def test_a_feed_that_contradicts_itself_is_unreadable_but_still_counts_as_published(
    valid: bytes, broken: bytes
) -> None:
    limited = [Removal("x", "source-limit", None, (0.5, 0.5))]
    feed = _feed(1)._replace(removed=limited, diversity=Diversity(0.5))
    value = encode_feed(feed, Format.JSON, ROOMY)
    assert valid in value
    value = value.replace(valid, broken)
    with pytest.raises(FeedUnreadable):
        decode_feed(value)
    assert read_feed_identity(value) == (1000, "home", "r-1")


@pytest.mark.parametrize(
    "wrong",
    [{"items": [FeedItem("x", 0.0, (0.5,))]}, {"removed": [Removal("x", "y", "z", (0.5,))]}],
)
def test_scores_that_do_not_match_their_objectives_are_unreadable(wrong: dict[str, Any]) -> None:
    feed = _feed(0)._replace(**wrong)
    with pytest.raises(FeedUnreadable, match="item 'x': got 1 scores, expected 2"):
        decode_feed(encode_feed(feed, Format.PROTOBUF, ROOMY))


def test_a_key_that_a_later_version_adds_is_ignored() -> None:
    value = encode_feed(_feed(1), Format.JSON, ROOMY).replace(
        b'{"item_id"', b'{"explanations":[],"item_id"'
    )
    assert decode_feed(value) == _feed(1)


@given(st.lists(_FLOAT32, min_size=2, max_size=2))
def test_anyone_can_recompute_the_final_score_from_the_json_record(scores: list[float]) -> None:
    weights = Weights.of({"quality": 0.1, "engagement": 0.7})
    final = 0.0
    for weight, score in zip(weights.values.values(), scores, strict=True):
        final += weight * score
    feed = _feed(0)._replace(weights=weights, items=[FeedItem("x", final, (scores[0], scores[1]))])
    (item,) = json.loads(encode_feed(feed, Format.JSON, ROOMY))["items"]
    assert (
        0.0 + 0.1 * item["scores"]["quality"] + 0.7 * item["scores"]["engagement"]
        == item["final_score"]
    )
    assert math.isfinite(item["final_score"])
