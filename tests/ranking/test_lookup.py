"""What a micro-batch looks up by id, and what the results do to its requests."""

import struct
from typing import Any

import pytest

from tests.builders import PAIR, request, surface
from workers.ranking.features import FeatureSet
from workers.ranking.lookup import (
    NO_RESULT,
    HydratedRequest,
    LookupQuery,
    LookupResult,
    SetKey,
    hydrate,
    query_for,
    skip_lookups,
)
from workers.ranking.removal import Removal
from workers.ranking.request import Request
from workers.ranking.surface import DropSet, SetOwner

SEEN, BLOCKED = DropSet("seen", SetOwner.USER), DropSet("blocked", SetOwner.SURFACE)
DROPPING = surface(drop=(SEEN, BLOCKED))
LOOKING = surface(
    "shelf", lookup_features=True, feature_set=FeatureSet("pair", ("a", "b"), {"b": 8.0})
)
BOTH = surface("both", drop=(SEEN,), lookup_features=True)
ABSENT = PAIR.absent_row


def row(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def held(**sets: set[str]) -> LookupResult:
    """The members of sets of the user u and of the surface home. No features."""
    return LookupResult(
        {SetKey(name, "u" if name == "seen" else "home"): items for name, items in sets.items()}, {}
    )


def hydrate_one(original: Request, result: LookupResult) -> HydratedRequest:
    (hydrated,) = hydrate([original], lambda _: result)
    return hydrated


def never(_: LookupQuery) -> LookupResult:
    raise AssertionError("nothing has to be looked up")


def test_surfaces_that_look_nothing_up_cost_no_call_and_their_requests_stay_as_they_are() -> None:
    original = [
        request(["a", "b"]),
        request([], surface=DROPPING),
        request(["a"], surface=LOOKING, rows=row(1, 2)),
    ]
    assert [hydrated.request for hydrated in hydrate(original, never)] == original
    assert all(
        hydrated == HydratedRequest(request)
        for hydrated, request in zip(hydrate(original, never), original, strict=True)
    )


def test_each_set_and_each_item_is_looked_up_once_in_a_micro_batch() -> None:
    original = [
        request(["a", "b"], surface=DROPPING),
        request(["b", "c"], surface=DROPPING),
        request(["a"], surface=DROPPING, user_id="v"),
        request(["x", "y", "z"], surface=LOOKING, rows=ABSENT + row(1, 2) + ABSENT),
        request(["z"], surface=LOOKING, rows=ABSENT),
    ]
    assert query_for(original) == LookupQuery(
        {
            SetKey("seen", "u"): ("a", "b", "c"),
            SetKey("blocked", "home"): ("a", "b", "c"),
            SetKey("seen", "v"): ("a",),
        },
        {"pair": ("x", "z")},
    )


def test_what_a_set_holds_is_dropped_and_the_first_set_of_the_surface_is_the_reason() -> None:
    original = request(["d", "c", "b", "a"], surface=DROPPING, sources=("s", "t", None, "u"))
    hydrated = hydrate_one(original, held(blocked={"a", "c"}, seen={"c", "elsewhere"}))
    assert hydrated.dropped == (Removal("a", "blocked"), Removal("c", "seen"))
    assert (hydrated.skipped, hydrated.defaulted) == ((), ())
    left = hydrated.request
    assert (left.item_ids, left.sources, left.rows) == (
        ("d", "b"),
        ("s", None),
        original.rows[:8] + original.rows[16:24],
    )
    assert (
        left._replace(item_ids=original.item_ids, sources=original.sources, rows=original.rows)
        == original
    )


def test_a_set_that_was_skipped_drops_nothing_and_is_named_and_the_others_hold() -> None:
    hydrated = hydrate_one(request(["a", "b"], surface=DROPPING), held(blocked={"a"}))
    assert (hydrated.dropped, hydrated.skipped) == ((Removal("a", "blocked"),), ("seen",))
    assert hydrate_one(request(["a"], surface=DROPPING), NO_RESULT).skipped == ("seen", "blocked")


def test_another_users_set_drops_nothing() -> None:
    result = LookupResult(
        {SetKey("seen", "v"): {"a"}, SetKey("seen", "u"): set(), SetKey("blocked", "home"): set()},
        {},
    )
    assert hydrate_one(request(["a"], surface=DROPPING), result) == HydratedRequest(
        request(["a"], surface=DROPPING)
    )


def test_features_that_were_looked_up_fill_in_for_absent_rows() -> None:
    original = request(["a", "b", "c"], surface=LOOKING, rows=ABSENT + row(1, 2) + ABSENT)
    hydrated = hydrate_one(
        original, LookupResult({}, {"pair": {"a": row(3, 4), "c": row(5, 6), "b": row(7, 8)}})
    )
    assert hydrated == HydratedRequest(original._replace(rows=row(3, 4, 1, 2, 5, 6)))


@pytest.mark.parametrize(
    "value",
    [None, b"", row(1), row(1, 2, 3), row(1, 2)[:-1], row(1, float("nan")), row(float("inf"), 2)],
)
def test_an_item_without_a_valid_value_has_the_defaults_and_is_named(value: Any) -> None:
    values = {"a": value} if value is not None else {}
    hydrated = hydrate_one(
        request(["b", "a"], surface=LOOKING, rows=row(1, 2) + ABSENT),
        LookupResult({}, {"pair": values}),
    )
    assert hydrated.request.rows == row(1, 2, 0, 8)
    assert (hydrated.defaulted, hydrated.skipped) == (("a",), ())


def test_if_features_were_not_looked_up_their_look_up_is_named_too() -> None:
    hydrated = hydrate_one(request(["b", "a"], surface=LOOKING, rows=ABSENT * 2), NO_RESULT)
    assert hydrated.request.rows == row(0, 8, 0, 8)
    assert (hydrated.defaulted, hydrated.skipped) == (("a", "b"), ("features",))
    assert hydrate_one(request(["a"], surface=LOOKING, rows=row(1, 2)), NO_RESULT).skipped == ()


def test_what_is_dropped_needs_no_features() -> None:
    original = request(["a", "b"], surface=BOTH, rows=ABSENT + row(1, 2))
    hydrated = hydrate_one(original, LookupResult({SetKey("seen", "u"): {"a"}}, {}))
    assert (hydrated.defaulted, hydrated.skipped, hydrated.request.rows) == ((), (), row(1, 2))


def test_without_a_look_up_everything_is_skipped() -> None:
    (hydrated,) = hydrate([request(["a"], surface=BOTH, rows=ABSENT)], skip_lookups)
    assert (hydrated.skipped, hydrated.dropped, hydrated.defaulted) == (
        ("seen", "features"),
        (),
        ("a",),
    )
