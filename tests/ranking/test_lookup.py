"""What a micro-batch asks for by id, and what becomes of its requests with the answers."""

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
    """Of the user u and the surface home."""
    return LookupResult(
        {SetKey(name, "u" if name == "seen" else "home"): items for name, items in sets.items()}, {}
    )


def one(asked: Request, answers: LookupResult) -> HydratedRequest:
    (found,) = hydrate([asked], lambda _: answers)
    return found


def never(_: LookupQuery) -> LookupResult:
    raise AssertionError("nothing was to be asked")


def test_surfaces_that_look_nothing_up_cost_no_question_and_their_requests_stay_as_they_are() -> (
    None
):
    asked = [
        request(["a", "b"]),
        request([], surface=DROPPING),
        request(["a"], surface=LOOKING, rows=row(1, 2)),
    ]
    assert [found.request for found in hydrate(asked, never)] == asked
    assert all(
        found == HydratedRequest(request)
        for found, request in zip(hydrate(asked, never), asked, strict=True)
    )


def test_each_set_and_each_item_is_asked_about_once_in_a_micro_batch() -> None:
    asked = [
        request(["a", "b"], surface=DROPPING),
        request(["b", "c"], surface=DROPPING),
        request(["a"], surface=DROPPING, user_id="v"),
        request(["x", "y", "z"], surface=LOOKING, rows=ABSENT + row(1, 2) + ABSENT),
        request(["z"], surface=LOOKING, rows=ABSENT),
    ]
    assert query_for(asked) == LookupQuery(
        {
            SetKey("seen", "u"): ("a", "b", "c"),
            SetKey("blocked", "home"): ("a", "b", "c"),
            SetKey("seen", "v"): ("a",),
        },
        {"pair": ("x", "z")},
    )


def test_what_a_set_holds_is_dropped_and_the_first_set_of_the_surface_is_the_reason() -> None:
    asked = request(["d", "c", "b", "a"], surface=DROPPING, sources=("s", "t", None, "u"))
    found = one(asked, held(blocked={"a", "c"}, seen={"c", "elsewhere"}))
    assert found.dropped == (Removal("a", "blocked"), Removal("c", "seen"))
    assert (found.skipped, found.defaulted) == ((), ())
    left = found.request
    assert (left.item_ids, left.sources, left.rows) == (
        ("d", "b"),
        ("s", None),
        asked.rows[:8] + asked.rows[16:24],
    )
    assert left._replace(item_ids=asked.item_ids, sources=asked.sources, rows=asked.rows) == asked


def test_a_set_that_did_not_answer_drops_nothing_and_is_named_and_the_others_hold() -> None:
    found = one(request(["a", "b"], surface=DROPPING), held(blocked={"a"}))
    assert (found.dropped, found.skipped) == ((Removal("a", "blocked"),), ("seen",))
    assert one(request(["a"], surface=DROPPING), NO_RESULT).skipped == ("seen", "blocked")


def test_another_users_set_drops_nothing() -> None:
    answers = LookupResult(
        {SetKey("seen", "v"): {"a"}, SetKey("seen", "u"): set(), SetKey("blocked", "home"): set()},
        {},
    )
    assert one(request(["a"], surface=DROPPING), answers) == HydratedRequest(
        request(["a"], surface=DROPPING)
    )


def test_rows_that_were_found_take_the_place_of_those_that_lack() -> None:
    asked = request(["a", "b", "c"], surface=LOOKING, rows=ABSENT + row(1, 2) + ABSENT)
    found = one(asked, LookupResult({}, {"pair": {"a": row(3, 4), "c": row(5, 6), "b": row(7, 8)}}))
    assert found == HydratedRequest(asked._replace(rows=row(3, 4, 1, 2, 5, 6)))


@pytest.mark.parametrize(
    "value",
    [None, b"", row(1), row(1, 2, 3), row(1, 2)[:-1], row(1, float("nan")), row(float("inf"), 2)],
)
def test_an_item_without_a_sound_value_has_its_defaults_and_is_named(value: Any) -> None:
    values = {"a": value} if value is not None else {}
    found = one(
        request(["b", "a"], surface=LOOKING, rows=row(1, 2) + ABSENT),
        LookupResult({}, {"pair": values}),
    )
    assert found.request.rows == row(1, 2, 0, 8)
    assert (found.defaulted, found.skipped) == (("a",), ())


def test_where_features_were_not_looked_up_their_look_up_is_named_too() -> None:
    found = one(request(["b", "a"], surface=LOOKING, rows=ABSENT * 2), NO_RESULT)
    assert found.request.rows == row(0, 8, 0, 8)
    assert (found.defaulted, found.skipped) == (("a", "b"), ("features",))
    assert one(request(["a"], surface=LOOKING, rows=row(1, 2)), NO_RESULT).skipped == ()


def test_what_is_dropped_needs_no_features() -> None:
    asked = request(["a", "b"], surface=BOTH, rows=ABSENT + row(1, 2))
    found = one(asked, LookupResult({SetKey("seen", "u"): {"a"}}, {}))
    assert (found.defaulted, found.skipped, found.request.rows) == ((), (), row(1, 2))


def test_where_nobody_can_be_asked_everything_is_skipped() -> None:
    (found,) = hydrate([request(["a"], surface=BOTH, rows=ABSENT)], skip_lookups)
    assert (found.skipped, found.dropped, found.defaulted) == (("seen", "features"), (), ("a",))
