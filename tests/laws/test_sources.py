"""Laws of diversity and of limits on sources that hold for every request."""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.builders import surface
from tests.ranking.building import feed_of, mix
from workers.codec.feeds import decode_feed, encode_feed
from workers.codec.formats import Format
from workers.ranking.diversify import Diversity
from workers.ranking.feed import Feed, FeedItem
from workers.ranking.margin import Margin, feed_margins
from workers.ranking.preview import preview
from workers.ranking.rerank import rerank
from workers.ranking.weights import Weights

anything = st.floats(width=32)
numbers = st.floats(-1.0, 1.0, width=32)
# Few values: many ties, and sums that are exact.
coarse = st.integers(-8, 8).map(lambda eighths: eighths / 8)
mixes = st.one_of(
    st.builds(mix, st.floats(-2, 2), st.floats(-2, 2)), st.builds(mix, coarse, coarse)
)
shares = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
diversities = st.builds(Diversity, shares, shares)

Crowd = dict[str, tuple[str | None, tuple[float, float]]]
"""Item id to its source and its scores."""


def crowds(score: Any) -> st.SearchStrategy[Crowd]:
    ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3)
    sources = st.sampled_from([None, "s", "t", "u"])
    return st.dictionaries(ids, st.tuples(sources, st.tuples(score, score)), max_size=20)


def ranked(crowd: Crowd, weights: Weights, **rules: Any) -> Feed:
    """The feed of a surface with these rules."""
    sources, table = ({item: pair[place] for item, pair in crowd.items()} for place in (0, 1))
    feed: Feed = feed_of(table, weights, sources=sources, surface=surface(**rules))  # type: ignore[arg-type]
    return feed


rules = st.fixed_dictionaries(
    {
        "diversity": st.none() | diversities,
        "max_per_source": st.integers(0, 3),
        "top_k": st.integers(0, 12),
    }
)
crowded = st.one_of(crowds(numbers), crowds(coarse))


def combined(item: FeedItem, weights: Weights) -> float:
    total = 0.0
    for weight, score in zip(weights.values.values(), item.scores, strict=True):
        total += weight * score
    return total


def by_combined(item: FeedItem, weights: Weights) -> tuple[float, bytes]:
    return -combined(item, weights), item.item_id.encode()


@given(crowds(anything), mixes, rules, st.randoms(), st.sampled_from(Format))
def test_the_same_candidates_give_the_same_bytes_in_whatever_order_they_came(
    crowd: Crowd, weights: Weights, rule: Any, random: Any, form: Format
) -> None:
    shuffled = list(crowd.items())
    random.shuffle(shuffled)
    first, second = (
        encode_feed(ranked(c, weights, **rule), form, sys.maxsize) for c in (crowd, dict(shuffled))
    )
    assert first == second


@given(crowds(anything), mixes, rules, st.sampled_from(Format), st.integers(0, 1500), st.booleans())
def test_items_removed_and_what_is_counted_account_for_every_candidate(
    crowd: Crowd, weights: Weights, rule: Any, form: Format, room: int, listed: bool
) -> None:
    whole = ranked(crowd, weights, **rule)
    bare = whole._replace(
        items=[], truncated=20, removed=whole.removed if listed else [], unlisted=20
    )
    feed = decode_feed(encode_feed(whole, form, len(encode_feed(bare, form, sys.maxsize)) + room))
    named = [*(item.item_id for item in feed.items), *(removal.item_id for removal in feed.removed)]
    assert len(named) + feed.below_top_k + feed.truncated + feed.unlisted == len(crowd)
    assert len(set(named)) == len(named)
    assert set(named) <= set(crowd)


@given(crowded, mixes, rules)
def test_the_sum_and_its_adjustments_are_the_final_score_exactly_and_the_feed_is_in_its_order(
    crowd: Crowd, weights: Weights, rule: Any
) -> None:
    items = ranked(crowd, weights, **rule).items
    for item in items:
        total = combined(item, weights)
        for adjustment in item.adjustments.values():
            total += adjustment
        assert item.final_score == total
    assert items == sorted(items, key=lambda item: (-item.final_score, item.item_id.encode()))


@given(crowded, mixes, diversities)
def test_a_penalty_never_promotes(crowd: Crowd, weights: Weights, diversity: Diversity) -> None:
    items = ranked(crowd, weights, diversity=diversity).items
    assert all(value < 0 for item in items for value in item.adjustments.values())
    untouched = [item for item in items if not item.adjustments]
    assert untouched == sorted(untouched, key=lambda item: by_combined(item, weights))
    for place, item in enumerate(items):
        if item.adjustments:
            ahead = {other.item_id for other in items[:place]}
            before = [o for o in untouched if by_combined(o, weights) < by_combined(item, weights)]
            assert {other.item_id for other in before} <= ahead


@given(crowded, mixes, diversities)
def test_nothing_is_taken_off_what_is_not_positive_has_no_source_or_is_the_first_of_its_source(
    crowd: Crowd, weights: Weights, diversity: Diversity
) -> None:
    seen: set[str] = set()
    for item in sorted(
        ranked(crowd, weights, diversity=diversity).items,
        key=lambda item: by_combined(item, weights),
    ):
        score = combined(item, weights)
        if score <= 0 or item.source is None or item.source not in seen:
            assert item.adjustments == {}
        else:
            assert score * (diversity.floor - 1) * (1 + 1e-15) <= sum(item.adjustments.values())
        seen |= {item.source} if item.source else set()


@given(
    crowds(coarse),
    st.builds(mix, coarse, coarse),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.0, 0.5]),
)
def test_along_the_items_of_a_source_final_scores_never_rise(
    crowd: Crowd, weights: Weights, decay: float, floor: float
) -> None:
    items = ranked(crowd, weights, diversity=Diversity(decay, floor)).items
    for source in ("s", "t", "u"):
        own = sorted(
            (i for i in items if i.source == source), key=lambda item: by_combined(item, weights)
        )
        finals = [item.final_score for item in own]
        assert finals == sorted(finals, reverse=True)


@given(crowded, mixes, diversities, st.integers(0, 3), st.data())
def test_removing_a_candidate_changes_nothing_for_other_sources_and_lowers_nothing_in_its_own(
    crowd: Crowd, weights: Weights, diversity: Diversity, limit: int, data: Any
) -> None:
    gone = data.draw(st.sampled_from(sorted(crowd or {"nobody"})))
    rest = {item: pair for item, pair in crowd.items() if item != gone}
    before, after = (
        ranked(c, weights, diversity=diversity, max_per_source=limit).items for c in (crowd, rest)
    )
    source = crowd[gone][0] if crowd else None

    def others(items: Sequence[FeedItem]) -> list[FeedItem]:
        return [
            item
            for item in items
            if item.item_id != gone and (source is None or item.source != source)
        ]

    assert others(before) == others(after)
    finals = {item.item_id: item.final_score for item in after}
    assert all(finals.get(item.item_id, item.final_score) >= item.final_score for item in before)


@given(crowded, mixes, st.none() | diversities, st.integers(1, 3))
def test_a_source_has_at_most_its_limit_and_keeps_its_best_items(
    crowd: Crowd, weights: Weights, diversity: Diversity | None, limit: int
) -> None:
    free, feed = (
        ranked(crowd, weights, diversity=diversity, max_per_source=most) for most in (0, limit)
    )
    counts, kept = Counter[str | None](), []
    for item in free.items:
        source = crowd[item.item_id][0]
        counts[source] += 1
        if source is None or counts[source] <= limit:
            kept.append(item.item_id)
    assert [item.item_id for item in feed.items] == kept
    assert {removal.item_id for removal in feed.removed} == set(crowd) - set(kept)


def first_places(feed: Feed, weights: Weights) -> dict[str, Margin]:
    """The margins of the first place, by objective."""
    objectives = feed_margins(feed, weights).objectives
    return {objective: margins.first_place for objective, margins in objectives.items()}


@given(crowded, mixes, diversities, st.integers(0, 3))
def test_rules_on_sources_never_change_the_first_place(
    crowd: Crowd, weights: Weights, diversity: Diversity, limit: int
) -> None:
    plain, ruled = (
        ranked(crowd, weights),
        ranked(crowd, weights, diversity=diversity, max_per_source=limit),
    )
    assert [item.item_id for item in ruled.items[:1]] == [item.item_id for item in plain.items[:1]]
    assert first_places(plain, weights) == first_places(ruled, weights)


@given(
    st.one_of(crowds(anything), crowded),
    mixes,
    mixes,
    st.none() | diversities,
    st.integers(0, 3),
    st.sampled_from(Format),
)
def test_the_record_alone_is_enough_to_rank_it_again_with_its_rules(
    crowd: Crowd,
    own: Weights,
    other: Weights,
    diversity: Diversity | None,
    limit: int,
    form: Format,
) -> None:
    rule: dict[str, Any] = {"diversity": diversity, "max_per_source": limit}
    read = decode_feed(encode_feed(ranked(crowd, own, **rule), form, sys.maxsize))
    assert rerank(read, other) == ranked(crowd, other, **rule)
    assert rerank(rerank(read, other), own) == read


@given(crowded, mixes, mixes, rules)
def test_a_feed_that_is_cut_keeps_its_length_its_account_and_under_its_own_set_its_items(
    crowd: Crowd, own: Weights, other: Weights, rule: Any
) -> None:
    feed = ranked(crowd, own, **rule)
    turned = rerank(feed, other)
    assert len(turned.items) == len(feed.items)
    assert len(turned.items) + len(turned.removed) + turned.below_top_k == len(crowd)
    assert [item.item_id for item in rerank(feed, own).items] == [
        item.item_id for item in feed.items
    ]


@given(crowded, mixes, mixes, diversities, st.integers(0, 3))
def test_a_preview_of_one_feed_agrees_with_a_comparison_of_both_feeds(
    crowd: Crowd, before: Weights, after: Weights, diversity: Diversity, limit: int
) -> None:
    feeds = [
        ranked(crowd, weights, diversity=diversity, max_per_source=limit)
        for weights in (before, after)
    ]
    result = preview([feeds[0]], before, after)
    old, new = ([item.item_id for item in feed.items] for feed in feeds)
    assert result.changed == (
        old != new,
        old[:1] != new[:1],
        set(old[:10]) != set(new[:10]),
        old[:10] != new[:10],
    )
    places = [{item: place for place, item in enumerate(items)} for items in (old, new)]
    moves = {
        item: places[0].get(item, len(old)) - places[1].get(item, len(new)) for item in {*old, *new}
    }
    largest = sorted(
        (item for item in moves if moves[item]), key=lambda item: (-abs(moves[item]), item)
    )[:10]
    assert [(mover.item_id, mover.mean_move) for mover in result.movers] == [
        (item, moves[item]) for item in largest
    ]
