"""Laws of ranking again, of previews and of margins."""

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.ranking.building import feed_of, mix
from workers.codec.feeds import decode_feed, encode_feed
from workers.codec.formats import Format
from workers.ranking.feed import Feed
from workers.ranking.margin import Crossing, feed_margins
from workers.ranking.preview import kendall_tau, preview
from workers.ranking.rerank import rerank
from workers.ranking.weights import Weights

anything = st.floats(width=32)
numbers = st.floats(-1.0, 1.0, width=32)
# Few values: many ties, and lines that are never nearly parallel.
coarse = st.integers(-8, 8).map(lambda eighths: eighths / 8)
mixes = st.builds(mix, st.floats(-2, 2), st.floats(-2, 2))
coarse_mixes = st.builds(mix, coarse, coarse)
# Fine, yet never so near to each other that a sum rounds the difference away.
fine = st.integers(-(2**21), 2**21).map(lambda steps: steps / 2**20)
fine_mixes = st.builds(mix, fine, fine)

Table = dict[str, tuple[float, float]]


def tables(score: Any, least: int = 0) -> st.SearchStrategy[Table]:
    return st.dictionaries(
        st.text(min_size=1, max_size=3), st.tuples(score, score), min_size=least, max_size=25
    )


feeds = st.builds(feed_of, st.one_of(tables(coarse), tables(coarse, least=11)), coarse_mixes)


def item_ids(feed: Feed) -> list[str]:
    return [item.item_id for item in feed.items]


@given(st.one_of(tables(anything), tables(coarse)), st.one_of(mixes, coarse_mixes))
def test_under_its_own_set_a_feed_is_ranked_as_it_was_published(table: Table, own: Weights) -> None:
    feed = feed_of(table, own)
    assert rerank(feed, own) == feed


@given(
    st.one_of(tables(anything), tables(coarse)),
    st.one_of(mixes, coarse_mixes),
    st.one_of(mixes, coarse_mixes),
)
def test_under_another_set_a_feed_is_ranked_as_a_worker_ranks_its_request(
    table: Table, own: Weights, other: Weights
) -> None:
    feed = feed_of(table, own)
    assert rerank(feed, other) == feed_of(table, other)


@given(tables(numbers), mixes, mixes, st.sampled_from(Format))
def test_the_record_alone_is_enough_to_rank_it_again(
    table: Table, own: Weights, other: Weights, form: Format
) -> None:
    read = decode_feed(encode_feed(feed_of(table, own), form, 100_000))
    assert rerank(read, other) == feed_of(table, other)


@given(st.lists(feeds, max_size=4), st.one_of(mixes, coarse_mixes))
def test_the_same_set_changes_nothing(given_feeds: list[Feed], same: Weights) -> None:
    result = preview(given_feeds, same, same)
    assert (result.changed, result.movers) == ((0, 0, 0, 0), ())
    assert result.kendall_tau in (None, 1)
    assert result.overlap_at_10 in (None, 1)
    assert all(shift.before == shift.after for shift in result.objectives.values())


@given(feeds, coarse_mixes, coarse_mixes)
def test_a_preview_of_one_feed_agrees_with_a_comparison_of_both_orders(
    feed: Feed, before: Weights, after: Weights
) -> None:
    result = preview([feed], before, after)
    old, new = item_ids(rerank(feed, before)), item_ids(rerank(feed, after))
    assert result.changed == (
        old != new,
        old[:1] != new[:1],
        set(old[:10]) != set(new[:10]),
        old[:10] != new[:10],
    )
    if old:
        assert result.overlap_at_10 == len(set(old[:10]) & set(new[:10])) / min(10, len(old))
    moves = {
        item: old.index(item) - new.index(item)
        for item in old
        if old.index(item) != new.index(item)
    }
    largest = sorted(moves, key=lambda item: (-abs(moves[item]), item))[:10]
    assert [(m.item_id, m.feeds, m.mean_move, m.largest_move) for m in result.movers] == [
        (item, 1, moves[item], moves[item]) for item in largest
    ]


@given(st.lists(feeds, max_size=5), coarse_mixes, coarse_mixes, st.randoms())
def test_a_preview_does_not_depend_on_the_order_of_the_feeds(
    given_feeds: list[Feed], before: Weights, after: Weights, random: Any
) -> None:
    shuffled = list(given_feeds)
    random.shuffle(shuffled)
    first, second = (preview(several, before, after) for several in (given_feeds, shuffled))
    assert second.kendall_tau == pytest.approx(first.kendall_tau)
    assert second.overlap_at_10 == pytest.approx(first.overlap_at_10)
    assert replace(second, kendall_tau=None, overlap_at_10=None) == replace(
        first, kendall_tau=None, overlap_at_10=None
    )


@given(st.permutations(range(12)), st.integers(2, 12))
def test_tau_is_what_counting_every_pair_gives(permutation: list[int], count: int) -> None:
    places = permutation[:count]
    pairs = list(combinations(places, 2))
    agreement = sum(1 if first < second else -1 for first, second in pairs)
    assert kendall_tau(places) == pytest.approx(agreement / len(pairs))


@given(tables(coarse), st.integers(-8, 8))
def test_negating_every_weight_reverses_a_feed_without_ties(table: Table, eighths: int) -> None:
    before = mix(1, eighths / 8)
    feed = feed_of(table, before)
    assume(len({item.final_score for item in feed.items}) == len(feed.items) >= 2)
    after = mix(-1, -eighths / 8)
    assert preview([feed], before, after).kendall_tau == -1


SHORT = 1e-9


def moved(weights: Weights, objective: str, move: float) -> Weights:
    return Weights.of({**weights.values, objective: weights.values[objective] + move})


def first_of(feed: Feed, weights: Weights, count: int) -> set[str]:
    return set(item_ids(rerank(feed, weights))[:count])


@settings(max_examples=400, deadline=None)
@given(
    feed=feeds,
    weights=st.one_of(coarse_mixes, fine_mixes),
    objective=st.sampled_from(["quality", "engagement"]),
    count=st.sampled_from([1, 10]),
    side=st.sampled_from([1, -1]),
)
def test_short_of_a_margin_nothing_changes_and_past_it_something_does(
    feed: Feed, weights: Weights, objective: str, count: int, side: int
) -> None:
    crossing = nearest(feed, weights, objective, count, side)
    now = first_of(feed, weights, count)
    if crossing is None:
        for move in (SHORT, 0.3, 1.0, 1e6):
            assert first_of(feed, moved(weights, objective, side * move), count) == now
        return
    assert crossing.move * side >= 0
    for part in (0, 0.3, 0.9, 1):
        short = max(abs(crossing.move) * part - SHORT, 0)
        assert first_of(feed, moved(weights, objective, side * short), count) == now
    for past in (SHORT, 0.3, 1e6):
        assert first_of(feed, moved(weights, objective, crossing.move + side * past), count) != now


def nearest(feed: Feed, weights: Weights, objective: str, count: int, side: int) -> Crossing | None:
    margins = feed_margins(feed, weights).objectives[objective]
    margin = margins.first_place if count == 1 else margins.first_10
    return margin.up if side == 1 else margin.down


@settings(max_examples=400, deadline=None)
@given(
    feed=feeds,
    weights=coarse_mixes,
    objective=st.sampled_from(["quality", "engagement"]),
    count=st.sampled_from([1, 10]),
    side=st.sampled_from([1, -1]),
)
def test_the_item_that_rises_is_new_at_the_margin_or_else_just_past_it(
    feed: Feed, weights: Weights, objective: str, count: int, side: int
) -> None:
    crossing = nearest(feed, weights, objective, count, side)
    assume(crossing is not None and (crossing.move * 4096).is_integer())  # where every sum is exact
    assert crossing is not None
    now = first_of(feed, weights, count)
    past = first_of(feed, moved(weights, objective, crossing.move + side * SHORT), count)
    at_margin = first_of(feed, moved(weights, objective, crossing.move), count)
    changed = at_margin if at_margin != now else past
    assert crossing.rising in changed - now
    assert crossing.falling in now - changed
