"""Ranking a published feed again."""

import numpy as np
import pytest

from tests.builders import surface
from tests.ranking.building import feed_of, mix
from workers.codec.feeds import decode_feed, encode_feed
from workers.codec.formats import Format
from workers.ranking.diversify import Diversity
from workers.ranking.feed import FeedItem
from workers.ranking.rerank import ObjectivesDiffer, is_whole, rerank
from workers.ranking.weights import Weights

TABLE = {"a": (0.1, 0.9), "b": (0.9, 0.2), "c": (float("nan"), 1.0), "d": (0.3, 0.3)}


@pytest.mark.parametrize("form", Format)
def test_a_record_read_back_is_ranked_as_the_worker_would_have(form: Format) -> None:
    read = decode_feed(encode_feed(feed_of(TABLE, mix(0.7, 0.3)), form, 10_000))
    assert rerank(read, mix(-0.3, 1.7)) == feed_of(TABLE, mix(-0.3, 1.7))


def test_an_item_that_was_removed_stays_removed() -> None:
    feed = rerank(feed_of(TABLE, mix(0.7, 0.3)), mix(0, 1))
    assert [item.item_id for item in feed.items] == ["a", "d", "b"]
    assert [removal.item_id for removal in feed.removed] == ["c"]


def test_scores_are_weighted_by_name_in_the_order_of_the_set() -> None:
    turned = Weights.of({"engagement": 0.3, "quality": 0.7})
    feed = rerank(feed_of({"a": (0.1, 0.7), "b": (0.2, 0.3)}, mix(0.5, 0.5)), turned)
    first, second = (float(np.float32(score)) for score in (0.7, 0.1))
    assert feed.items[0] == FeedItem("a", 0.0 + 0.3 * first + 0.7 * second, (first, second))
    assert list(feed.weights.values) == ["engagement", "quality"]


@pytest.mark.parametrize(
    "values", [{"quality": 1.0}, {"quality": 1.0, "engagement": 1.0, "freshness": 1.0}]
)
def test_a_feed_of_other_objectives_is_refused_with_both_named(values: dict[str, float]) -> None:
    with pytest.raises(ObjectivesDiffer) as refused:
        rerank(feed_of(TABLE, mix(1, 1)), Weights.of(values))
    assert (
        str(refused.value)
        == f"feed 'r': got objectives ['quality', 'engagement'], expected {list(values)}"
    )


def test_an_empty_feed_stays_empty() -> None:
    assert rerank(feed_of({}, mix(1, 1)), mix(2, 1)) == feed_of({}, mix(2, 1))


def test_a_feed_is_whole_unless_items_were_cut_from_it() -> None:
    feed = feed_of(TABLE, mix(1, 1))
    assert is_whole(feed)
    assert not is_whole(feed._replace(truncated=1))
    assert not is_whole(feed_of(TABLE, mix(1, 1), surface=surface(top_k=1)))
    assert is_whole(feed_of(TABLE, mix(1, 1), surface=surface(top_k=3)))
    assert not is_whole(feed._replace(below_top_k=1))
    assert not is_whole(feed._replace(unlisted=1))


CROWD = {"a": (1.0, 0.0), "b": (0.75, 0.25), "c": (0.5, 0.5), "d": (0.25, 1.0)}
OF_S = {"a": "s", "b": "s", "c": "t", "d": "s"}


@pytest.mark.parametrize("form", Format)
def test_an_item_over_the_limit_of_its_source_comes_back_under_other_weights(
    form: Format,
) -> None:
    ruled = {"sources": OF_S, "surface": surface(max_per_source=1, diversity=Diversity(0.5))}
    feed = feed_of(CROWD, mix(1, 0), **ruled)
    assert [item.item_id for item in feed.items] == ["a", "c"]
    turned = rerank(decode_feed(encode_feed(feed, form, 10_000)), mix(0, 1))
    assert [item.item_id for item in turned.items] == ["d", "c"]
    assert turned == feed_of(CROWD, mix(0, 1), **ruled)


def test_a_feed_that_top_k_cut_keeps_its_length_and_its_account_whatever_comes_back_in() -> None:
    ruled = {"sources": OF_S, "surface": surface(max_per_source=2, top_k=1)}
    feed = feed_of(CROWD, mix(1, 0), **ruled)
    assert (
        [i.item_id for i in feed.items],
        [r.item_id for r in feed.removed],
        feed.below_top_k,
    ) == (["a"], ["d"], 2)
    assert rerank(feed, mix(1, 0)).items == feed.items
    turned = rerank(feed, mix(0, 1))
    assert [item.item_id for item in turned.items] == ["d"]
    assert (turned.removed, turned.below_top_k) == ([], 3)
