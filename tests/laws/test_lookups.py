"""Laws of look-ups, that hold for every request and whatever their results are."""

import struct
import sys
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import request, surface
from tests.ranking.building import MODELS, mix
from workers.codec.feeds import decode_feed, encode_feed
from workers.codec.formats import Format
from workers.ranking.diversify import Diversity
from workers.ranking.feed import Feed
from workers.ranking.lookup import LookupResult, SetKey, hydrate, query_for
from workers.ranking.preview import preview
from workers.ranking.rank import rank
from workers.ranking.request import Request
from workers.ranking.rerank import rerank
from workers.ranking.surface import DropSet, SetOwner
from workers.ranking.weights import Weights

SETS = (
    DropSet("seen", SetOwner.USER),
    DropSet("blocked", SetOwner.SURFACE),
    DropSet("muted", SetOwner.USER),
)
ITEMS = "abcdefghij"
numbers = st.floats(-2, 2, width=32)
rows = st.none() | st.tuples(numbers, numbers)
mixes = st.builds(mix, numbers, numbers)
values = st.dictionaries(
    st.sampled_from(ITEMS), st.tuples(numbers, numbers).map(lambda p: struct.pack("<2f", *p))
)
junk = st.dictionaries(
    st.sampled_from(ITEMS), st.binary(max_size=9) | st.just(struct.pack("<2f", 1, float("nan")))
)
owners = st.sampled_from(
    [SetKey("seen", "u"), SetKey("seen", "v"), SetKey("blocked", "home"), SetKey("muted", "u")]
)
results = st.builds(
    LookupResult,
    st.dictionaries(owners, st.frozensets(st.sampled_from([*ITEMS, "elsewhere"]))),
    st.just({}) | st.fixed_dictionaries({"pair": st.one_of(values, junk)}),
)
surfaces = st.builds(
    lambda drop, looking, diversity, limit, top: surface(
        drop=tuple(drop),
        lookup_features=looking,
        diversity=diversity,
        max_per_source=limit,
        top_k=top,
    ),
    st.lists(st.sampled_from(SETS), unique=True),
    st.booleans(),
    st.none() | st.just(Diversity(0.5)),
    st.integers(0, 2),
    st.just(0) | st.integers(0, 5),
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    on = draw(surfaces)
    items = draw(st.lists(st.sampled_from(ITEMS), unique=True))
    given_rows = [draw(rows if on.lookup_features else st.tuples(numbers, numbers)) for _ in items]
    packed = [
        on.feature_set.absent_row if row is None else struct.pack("<2f", *row) for row in given_rows
    ]
    sources = tuple(draw(st.sampled_from([None, "s", "t"])) for _ in items)
    return request(
        items,
        surface=on,
        rows=b"".join(packed),
        sources=sources,
        user_id=draw(st.sampled_from("uv")),
    )


def feed_of(original: Request, result: LookupResult, weights: Weights) -> Feed:
    """The feed by models that give back an item's features as its scores."""
    (hydrated,) = hydrate([original], lambda _: result)
    scores = np.frombuffer(hydrated.request.rows, "<f4").reshape(-1, 2)
    return hydrated.annotate(rank(hydrated.request, scores, weights, MODELS, 5000))


@settings(deadline=None)
@given(requests(), results)
def test_every_candidate_is_ranked_or_dropped_once_and_only_for_a_set_that_holds_it(
    original: Request, result: LookupResult
) -> None:
    (hydrated,) = hydrate([original], lambda _: result)
    names = [drop_set.name for drop_set in original.surface.drop]
    for item_id, reason, *_ in hydrated.dropped:
        own = {
            key.name: items
            for key, items in result.members.items()
            if key.owner in ("home", original.user_id)
        }
        assert reason == next(name for name in names if item_id in own.get(name, ()))
    gone = {removal.item_id for removal in hydrated.dropped}
    assert hydrated.request.item_ids == tuple(
        item_id for item_id in original.item_ids if item_id not in gone
    )
    assert len(hydrated.request.item_ids) + len(hydrated.dropped) == len(original.item_ids)


@settings(deadline=None)
@given(requests(), results)
def test_no_row_that_is_ranked_lacks_a_number_and_rows_that_came_are_not_touched(
    original: Request, result: LookupResult
) -> None:
    (hydrated,) = hydrate([original], lambda _: result)
    before = {item: original.rows[8 * i : 8 * i + 8] for i, item in enumerate(original.item_ids)}
    for place, item_id in enumerate(hydrated.request.item_ids):
        row = hydrated.request.rows[8 * place : 8 * place + 8]
        assert np.isfinite(np.frombuffer(row, "<f4")).all()
        if before[item_id] != original.surface.feature_set.absent_row:
            assert row == before[item_id]
        elif item_id in hydrated.defaulted:
            assert row == original.surface.feature_set.default_row
        else:
            assert row == result.features["pair"][item_id]


@settings(deadline=None)
@given(requests(), results)
def test_what_is_skipped_is_just_what_was_looked_up_without_a_result(
    original: Request, result: LookupResult
) -> None:
    (hydrated,) = hydrate([original], lambda _: result)
    query = query_for([original])
    without_result = [key.name for key in query.sets if key not in result.members]
    assert [name for name in hydrated.skipped if name != "features"] == without_result
    assert ("features" in hydrated.skipped) == (
        bool(hydrated.defaulted) and "pair" not in result.features
    )


@settings(deadline=None)
@given(requests(), results, mixes, st.randoms(), st.sampled_from(Format))
def test_the_same_results_give_the_same_bytes_in_whatever_order_the_candidates_came(
    original: Request, result: LookupResult, weights: Weights, random: Any, form: Format
) -> None:
    places = list(range(len(original.item_ids)))
    random.shuffle(places)
    shuffled = original._replace(
        item_ids=tuple(original.item_ids[i] for i in places),
        sources=tuple((original.sources or ())[i] for i in places),
        rows=b"".join(original.rows[8 * i : 8 * i + 8] for i in places),
    )
    first, second = (
        encode_feed(feed_of(request, result, weights), form, sys.maxsize)
        for request in (original, shuffled)
    )
    assert first == second


@settings(deadline=None)
@given(st.lists(requests(), max_size=4), results)
def test_a_request_is_hydrated_alone_as_it_is_in_a_micro_batch(
    original: list[Request], result: LookupResult
) -> None:
    together = hydrate(original, lambda _: result)
    assert together == [hydrate([request], lambda _: result)[0] for request in original]


@settings(deadline=None)
@given(requests(), results, mixes, mixes, st.sampled_from(Format))
def test_the_record_alone_is_enough_to_rank_it_again_and_what_was_dropped_stays_dropped(
    original: Request, result: LookupResult, own: Weights, other: Weights, form: Format
) -> None:
    original = original._replace(surface=replace(original.surface, top_k=0))
    feed = feed_of(original, result, own)
    read = decode_feed(encode_feed(feed, form, sys.maxsize))
    assert rerank(read, other) == feed_of(original, result, other)
    change = preview([read], own, other)
    old, new = (
        [item.item_id for item in feed_of(original, result, weights).items]
        for weights in (own, other)
    )
    assert change.changed == (
        old != new,
        old[:1] != new[:1],
        set(old[:10]) != set(new[:10]),
        old[:10] != new[:10],
    )


@settings(deadline=None)
@given(requests(), results, mixes)
def test_items_removed_and_what_is_counted_account_for_every_candidate(
    original: Request, result: LookupResult, weights: Weights
) -> None:
    feed = feed_of(original, result, weights)
    named = [*(item.item_id for item in feed.items), *(removal.item_id for removal in feed.removed)]
    assert len(named) == len(set(named))
    assert len(named) + feed.below_top_k == len(original.item_ids)
    assert feed.removed == sorted(feed.removed)
