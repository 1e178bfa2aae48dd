"""Laws of ranking that hold for every request."""

import sys
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import request, surface
from workers.codec.feeds import decode_feed, encode_feed
from workers.codec.formats import Format
from workers.ranking.feed import Feed
from workers.ranking.mix import Assignment
from workers.ranking.rank import RankJob, rank, rank_together
from workers.ranking.weights import Weights

numbers = st.floats(-1.0, 1.0, width=32)
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
anything = st.one_of(numbers, st.sampled_from([float("nan"), float("inf"), float("-inf")]))
# Few values: many ties.
coarse = st.sampled_from([-0.0, 0.0, 0.5])
mixes = st.tuples(st.floats(-2, 2), st.floats(-2, 2)).map(
    lambda pair: Weights.of({"quality": pair[0], "engagement": pair[1]})
)


def tables(score: Any) -> st.SearchStrategy[dict[str, tuple[float, float]]]:
    return st.dictionaries(ids, st.tuples(score, score), max_size=20)


def feed_of(table: dict[str, tuple[float, float]], mix: Weights, top_k: int = 0) -> Feed:
    scores = np.array(list(table.values()), np.float32).reshape(-1, 2)
    return rank(
        request(list(table), surface=surface(top_k=top_k)),
        scores,
        mix,
        {"quality": 1, "engagement": 1},
        0,
    )


@given(tables(numbers), mixes, st.randoms())
def test_ranking_does_not_depend_on_arrival_order(table: Any, mix: Weights, random: Any) -> None:
    shuffled = list(table.items())
    random.shuffle(shuffled)
    assert feed_of(dict(shuffled), mix).items == feed_of(table, mix).items


@given(tables(numbers), mixes, st.data())
def test_removing_an_item_keeps_the_order_of_the_rest(table: Any, mix: Weights, data: Any) -> None:
    gone = data.draw(st.sampled_from(sorted(table))) if table else None
    rest = {item: pair for item, pair in table.items() if item != gone}
    before = [item for item in feed_of(table, mix).items if item.item_id != gone]
    assert feed_of(rest, mix).items == before


@given(tables(anything), mixes)
def test_kept_and_removed_are_the_input(table: Any, mix: Weights) -> None:
    feed = feed_of(table, mix)
    assert sorted([i.item_id for i in feed.items] + [r.item_id for r in feed.removed]) == sorted(
        table
    )


@given(tables(anything), mixes, st.integers(1, 25))
def test_top_k_keeps_the_best_of_what_would_rank_and_counts_the_rest(
    table: Any, mix: Weights, top_k: int
) -> None:
    whole, feed = feed_of(table, mix), feed_of(table, mix, top_k)
    assert feed.items == whole.items[:top_k]
    assert (feed.below_top_k, feed.removed) == (len(whole.items) - len(feed.items), whole.removed)


@given(tables(anything), mixes, st.integers(0, 25), st.sampled_from(Format), st.integers(0, 1500))
def test_a_published_feed_accounts_for_every_candidate(
    table: Any, mix: Weights, top_k: int, form: Format, room: int
) -> None:
    ranked = feed_of(table, mix, top_k)
    without_items = encode_feed(
        ranked._replace(items=[], truncated=len(ranked.items)), form, sys.maxsize
    )
    feed = decode_feed(encode_feed(ranked, form, len(without_items) + room))
    assert len(feed.items) + feed.below_top_k + feed.truncated + len(feed.removed) == len(table)


@given(tables(anything), mixes)
def test_a_score_that_is_not_finite_never_ranks(table: Any, mix: Weights) -> None:
    assert all(
        np.isfinite(item.scores).all() and np.isfinite(item.final_score)
        for item in feed_of(table, mix).items
    )


@given(tables(numbers), mixes)
def test_contributions_sum_to_the_final_score_and_order_is_as_published(
    table: Any, mix: Weights
) -> None:
    items = feed_of(table, mix).items
    for item in items:
        total = 0.0
        for weight, score in zip(mix.values.values(), item.scores, strict=True):
            total += weight * score
        assert item.final_score == total
    assert items == sorted(
        items, key=lambda item: (-item.final_score, item.item_id.encode("utf-8", "surrogatepass"))
    )


crowds = st.lists(
    st.tuples(
        st.dictionaries(ids, st.tuples(anything, anything), max_size=8)
        | st.dictionaries(ids, st.tuples(coarse, coarse), max_size=8),
        mixes,
        st.integers(0, 5),
        st.sampled_from([{}, {"max_per_source": 1}]),
    ),
    max_size=5,
)


@settings(deadline=None)
@given(crowds, st.data())
def test_a_feed_does_not_depend_on_the_requests_that_are_ranked_with_it(
    crowd: Any, data: Any
) -> None:
    jobs = []
    tables = []
    failed = []
    for number, (table, weights, top_k, rules) in enumerate(crowd):
        ranked = request(
            list(table), request_id=f"r{number}", surface=surface(top_k=top_k, **rules)
        )
        jobs.append(RankJob(ranked, Assignment("control", weights), {"quality": 1}, number))
        tables.append(np.array(list(table.values()), np.float32).reshape(-1, 2))
        is_finite = np.isfinite(tables[-1]).all(axis=1)
        failed.append(~is_finite & data.draw(st.booleans()))

    together = []
    if jobs:
        together = rank_together(jobs, np.concatenate(tables), np.concatenate(failed))
    alone = []
    for job, scores, mask in zip(jobs, tables, failed, strict=True):
        alone += rank_together([job], scores, mask)
    assert repr(together) == repr(alone)
