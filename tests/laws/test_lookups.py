"""Laws of look-ups, that hold for every request and whatever is answered."""

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
answers = st.builds(
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


def feed_of(asked: Request, found: LookupResult, weights: Weights) -> Feed:
    """The feed by models that give back an item's features as its scores."""
    (known,) = hydrate([asked], lambda _: found)
    scores = np.frombuffer(known.request.rows, "<f4").reshape(-1, 2)
    return known.annotate(rank(known.request, scores, weights, MODELS, 5000))


@settings(deadline=None)
@given(requests(), answers)
def test_every_candidate_is_ranked_or_dropped_once_and_only_for_a_set_that_holds_it(
    asked: Request, found: LookupResult
) -> None:
    (known,) = hydrate([asked], lambda _: found)
    names = [one.name for one in asked.surface.drop]
    for item_id, reason, *_ in known.dropped:
        own = {
            one.name: items
            for one, items in found.members.items()
            if one.owner in ("home", asked.user_id)
        }
        assert reason == next(name for name in names if item_id in own.get(name, ()))
    gone = {removal.item_id for removal in known.dropped}
    assert known.request.item_ids == tuple(
        item_id for item_id in asked.item_ids if item_id not in gone
    )
    assert len(known.request.item_ids) + len(known.dropped) == len(asked.item_ids)


@settings(deadline=None)
@given(requests(), answers)
def test_no_row_that_is_ranked_lacks_a_number_and_rows_that_came_are_not_touched(
    asked: Request, found: LookupResult
) -> None:
    (known,) = hydrate([asked], lambda _: found)
    before = {item: asked.rows[8 * i : 8 * i + 8] for i, item in enumerate(asked.item_ids)}
    for place, item_id in enumerate(known.request.item_ids):
        row = known.request.rows[8 * place : 8 * place + 8]
        assert np.isfinite(np.frombuffer(row, "<f4")).all()
        if before[item_id] != asked.surface.feature_set.absent_row:
            assert row == before[item_id]
        elif item_id in known.defaulted:
            assert row == asked.surface.feature_set.default_row
        else:
            assert row == found.features["pair"][item_id]


@settings(deadline=None)
@given(requests(), answers)
def test_what_is_skipped_is_just_what_was_asked_and_not_answered(
    asked: Request, found: LookupResult
) -> None:
    (known,) = hydrate([asked], lambda _: found)
    questions = query_for([asked])
    unanswered = [one.name for one in questions.sets if one not in found.members]
    assert [name for name in known.skipped if name != "features"] == unanswered
    assert ("features" in known.skipped) == (bool(known.defaulted) and "pair" not in found.features)


@settings(deadline=None)
@given(requests(), answers, mixes, st.randoms(), st.sampled_from(Format))
def test_the_same_answers_give_the_same_bytes_in_whatever_order_the_candidates_came(
    asked: Request, found: LookupResult, weights: Weights, random: Any, form: Format
) -> None:
    places = list(range(len(asked.item_ids)))
    random.shuffle(places)
    shuffled = asked._replace(
        item_ids=tuple(asked.item_ids[i] for i in places),
        sources=tuple(asked.sources[i] for i in places),
        rows=b"".join(asked.rows[8 * i : 8 * i + 8] for i in places),
    )
    one, other = (
        encode_feed(feed_of(request, found, weights), form, sys.maxsize)
        for request in (asked, shuffled)
    )
    assert one == other


@settings(deadline=None)
@given(st.lists(requests(), max_size=4), answers)
def test_a_request_is_informed_alone_as_it_is_in_a_micro_batch(
    asked: list[Request], found: LookupResult
) -> None:
    together = hydrate(asked, lambda _: found)
    assert together == [hydrate([request], lambda _: found)[0] for request in asked]


@settings(deadline=None)
@given(requests(), answers, mixes, mixes, st.sampled_from(Format))
def test_the_record_alone_is_enough_to_rank_it_anew_and_what_was_dropped_stays_dropped(
    asked: Request, found: LookupResult, own: Weights, other: Weights, form: Format
) -> None:
    asked = asked._replace(surface=replace(asked.surface, top_k=0))
    feed = feed_of(asked, found, own)
    read = decode_feed(encode_feed(feed, form, sys.maxsize))
    assert rerank(read, other) == feed_of(asked, found, other)
    told = preview([read], own, other)
    old, new = (
        [item.item_id for item in feed_of(asked, found, weights).items] for weights in (own, other)
    )
    assert told.changed == (
        old != new,
        old[:1] != new[:1],
        set(old[:10]) != set(new[:10]),
        old[:10] != new[:10],
    )


@settings(deadline=None)
@given(requests(), answers, mixes)
def test_items_removed_and_what_is_counted_account_for_every_candidate(
    asked: Request, found: LookupResult, weights: Weights
) -> None:
    feed = feed_of(asked, found, weights)
    named = [*(item.item_id for item in feed.items), *(removal.item_id for removal in feed.removed)]
    assert len(named) == len(set(named))
    assert len(named) + feed.below_top_k == len(asked.item_ids)
    assert feed.removed == sorted(feed.removed)
