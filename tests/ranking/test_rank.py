"""From scores to a feed."""

from typing import Any

import numpy as np
import pytest

from tests.builders import request, surface
from workers.ranking.diversify import Diversity
from workers.ranking.feed import Feed, FeedItem
from workers.ranking.rank import combine, rank
from workers.ranking.removal import Removal
from workers.ranking.weights import Weights

MIX = Weights.of({"quality": 0.7, "engagement": 0.3})
MODELS = {"quality": 1, "engagement": 2}


def scores(*rows: tuple[float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 2)


def test_the_final_score_is_the_weighted_sum_in_float64_in_the_order_of_objectives() -> None:
    given = scores((0.1, 0.2), (0.3, 0.9))
    expected = [0.7 * float(q) + 0.3 * float(e) for q, e in given]
    assert combine(given, MIX).tolist() == expected


def test_items_are_in_the_order_of_final_scores_and_have_every_score_as_the_model_gave_it() -> None:
    feed = rank(request(["low", "high"]), scores((0.1, 0.1), (0.9, 0.2)), MIX, MODELS, 5000)
    assert [item.item_id for item in feed.items] == ["high", "low"]
    assert feed.items[0].scores == (float(np.float32(0.9)), float(np.float32(0.2)))
    assert (feed.weights, feed.models, feed.ranked_at, feed.arm) == (MIX, MODELS, 5000, "control")


def test_ties_break_by_the_bytes_of_the_item_id() -> None:
    ids = ["b", "a", "é", "z", "A", "\U0001d4b3", "\uffff"]
    feed = rank(request(ids), np.full((7, 2), 0.5, np.float32), MIX, MODELS, 0)
    assert [item.item_id for item in feed.items] == sorted(ids, key=lambda i: i.encode())


def test_equal_and_negative_zero_final_scores_are_ties() -> None:
    feed = rank(request(["b", "a"]), scores((0.0, 0.0), (-0.0, -0.0)), MIX, MODELS, 0)
    assert [(i.item_id, str(i.final_score)) for i in feed.items] == [("a", "0.0"), ("b", "0.0")]


def test_top_k_keeps_the_best_and_the_feed_counts_the_rest() -> None:
    original = request(["a", "b", "c"], surface=surface(top_k=2))
    feed = rank(original, scores((0.1, 0), (0.3, 0), (0.2, 0)), MIX, MODELS, 0)
    assert [item.item_id for item in feed.items] == ["b", "c"]
    assert feed.below_top_k == 1


@pytest.mark.parametrize("top_k", [0, 2, 3])
def test_a_top_k_that_cuts_nothing_counts_nothing(top_k: int) -> None:
    original = request(["a", "b"], surface=surface(top_k=top_k))
    feed = rank(original, scores((0.1, 0), (0.3, 0)), MIX, MODELS, 0)
    assert (len(feed.items), feed.below_top_k) == (2, 0)


def test_a_removed_candidate_is_not_counted_below_top_k_too() -> None:
    original = request(["a", "b", "c"], surface=surface(top_k=1))
    feed = rank(original, scores((0.1, 0), (np.nan, 0), (0.2, 0)), MIX, MODELS, 0)
    assert (len(feed.items), len(feed.removed), feed.below_top_k) == (1, 1, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_removes_its_candidate_with_the_reason(bad: float) -> None:
    feed = rank(
        request(["a", "b", "c"]), scores((0.1, 0.1), (bad, 0.1), (0.2, 0.1)), MIX, MODELS, 0
    )
    assert [item.item_id for item in feed.items] == ["c", "a"]
    assert feed.removed == [Removal("b", "score-not-finite")]


def test_a_candidate_that_a_model_failed_on_is_removed_and_its_siblings_keep_their_scores() -> None:
    given = scores((0.1, 0.1), (np.nan, 0.1), (0.2, 0.1))
    feed = rank(
        request(["a", "b", "c"]), given, MIX, MODELS, 0, failed=np.array([False, True, False])
    )
    assert [(item.item_id, item.scores) for item in feed.items] == [
        ("c", tuple(given[2].tolist())),
        ("a", tuple(given[0].tolist())),
    ]
    assert feed.removed == [Removal("b", "model-error")]


def test_an_empty_request_gives_an_empty_feed() -> None:
    feed = rank(request([], refused=3), np.empty((0, 2), np.float32), MIX, MODELS, 0)
    assert (feed.items, feed.removed, feed.refused) == ([], [], 3)


ONE = Weights.of({"quality": 1.0, "engagement": 0.0})
TABLE = (
    ("a", "s", 1.0),
    ("b", "s", 0.75),
    ("c", "t", 0.5),
    ("d", "s", 0.625),
    ("e", None, 0.25),
    ("f", None, 0.125),
)


def ruled(**rules: Any) -> Feed:
    """Six items, three of them of the source s, under one objective's weight."""
    original = request(
        [i for i, _, _ in TABLE], sources=tuple(s for _, s, _ in TABLE), surface=surface(**rules)
    )
    return rank(original, scores(*((score, 0.0) for _, _, score in TABLE)), ONE, MODELS, 0)


def of_one_source(*item_ids: str, given: np.ndarray) -> Feed:
    """Items of the source s, under both rules."""
    both = surface(diversity=Diversity(0.5), max_per_source=1)
    return rank(
        request(item_ids, sources=("s",) * len(item_ids), surface=both), given, ONE, MODELS, 0
    )


def test_without_rules_on_sources_a_feed_does_not_name_sources() -> None:
    feed = ruled()
    assert [item.item_id for item in feed.items] == ["a", "b", "d", "c", "e", "f"]
    assert {(item.source, tuple(item.adjustments)) for item in feed.items} == {(None, ())}
    assert (feed.diversity, feed.max_per_source, feed.has_source_rules) == (None, 0, False)


def test_diversity_lowers_further_items_of_a_source_and_records_by_how_much() -> None:
    feed = ruled(diversity=Diversity(0.5))
    assert feed.items == [
        FeedItem("a", 1.0, (1.0, 0.0), "s"),
        FeedItem("c", 0.5, (0.5, 0.0), "t"),
        FeedItem("b", 0.375, (0.75, 0.0), "s", {"diversity": -0.375}),
        FeedItem("e", 0.25, (0.25, 0.0)),
        FeedItem("d", 0.15625, (0.625, 0.0), "s", {"diversity": -0.46875}),
        FeedItem("f", 0.125, (0.125, 0.0)),
    ]
    assert (feed.diversity, feed.removed) == (Diversity(0.5), [])


def test_items_over_the_limit_of_their_source_are_removed_with_their_source_and_scores() -> None:
    feed = ruled(max_per_source=2)
    kept = [(item.item_id, item.source) for item in feed.items]
    assert kept == [("a", "s"), ("b", "s"), ("c", "t"), ("e", None), ("f", None)]
    assert feed.removed == [Removal("d", "source-limit", "s", (0.625, 0.0))]
    assert (feed.max_per_source, feed.below_top_k) == (2, 0)


def test_the_limit_comes_before_top_k_which_counts_what_is_left() -> None:
    feed = ruled(max_per_source=1, top_k=2)
    assert [item.item_id for item in feed.items] == ["a", "c"]
    assert ([removal.item_id for removal in feed.removed], feed.below_top_k) == (["b", "d"], 2)


def test_of_tied_items_of_a_source_the_first_by_item_id_is_its_first() -> None:
    feed = of_one_source("z", "y", given=scores((1, 0), (1, 0)))
    assert feed.items == [FeedItem("y", 1.0, (1.0, 0.0), "s")]
    assert [removal.item_id for removal in feed.removed] == ["z"]


def test_a_score_that_is_not_finite_does_not_count_as_an_item_of_its_source() -> None:
    feed = of_one_source("a", "b", "c", given=scores((np.nan, 0), (0.5, 0), (0.25, 0)))
    assert feed.items == [FeedItem("b", 0.5, (0.5, 0.0), "s")]
    gone = [(removal.item_id, removal.reason) for removal in feed.removed]
    assert gone == [("a", "score-not-finite"), ("c", "source-limit")]
