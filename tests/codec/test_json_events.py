"""JSON events: the fast path agrees with the checked path, and the checked path is strict."""

import struct

import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codec.wire import (
    HOME,
    KEY,
    SURFACES,
    TRIO,
    candidate,
    deeply_nested,
    encoded,
    json_values,
    valid_event,
)
from workers.codec.json_events import JsonEventDecoder
from workers.codec.judge import SourceNames
from workers.ranking.refusal import CandidateReason, EventRefused, Reason
from workers.ranking.request import Event

EVENTS = JsonEventDecoder(SURFACES, SourceNames())


def _checked(value: bytes, key: bytes | None = KEY) -> Event:
    return EVENTS.decode_checked(value, key)


def _outcome(value: bytes) -> Event | EventRefused:
    try:
        return _checked(value)
    except EventRefused as refusal:
        return refusal


def _refusal(value: bytes, key: bytes | None = KEY) -> EventRefused:
    assert EVENTS.decode_fast(value, key) is None
    with pytest.raises(EventRefused) as refusal:
        EVENTS.decode_checked(value, key)
    return refusal.value


@settings(max_examples=400)
@given(json_values())
def test_what_the_fast_path_accepts_the_checked_path_accepts_with_an_equal_event(
    value: bytes,
) -> None:
    event = EVENTS.decode_fast(value, KEY)
    note("fast" if event else "checked")
    if event is not None:
        assert repr(_checked(value)) == repr(event)


@settings(max_examples=400)
@given(json_values())
def test_the_checked_path_returns_an_event_or_a_refusal_and_nothing_else(value: bytes) -> None:
    outcome = _outcome(value)
    if isinstance(outcome, EventRefused):
        note(outcome.reason)
        assert len(outcome.message.encode()) < 500
        return
    assert len(outcome.rows) == 12 * len(outcome.item_ids) == 12 * len(outcome.sources)
    places = [r.position for r in outcome.refused]
    assert places == sorted(set(places))


@given(st.lists(st.floats(-3e38, 3e38), min_size=3, max_size=3))
def test_the_fast_path_accepts_every_valid_event(numbers: list[float]) -> None:
    value = encoded(
        valid_event(expected=3, candidates=[candidate("x", source="s", features=numbers)])
    )
    event = EVENTS.decode_fast(value, KEY)
    assert event is not None
    assert (event.item_ids, event.sources) == (["x"], ["s"])
    assert event.rows == struct.pack("<3f", *numbers)
    assert event.surface is HOME


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d", "e"]), st.integers(-9, 9)))
def test_missing_and_unknown_feature_names_are_counted(features: dict[str, int]) -> None:
    event = EVENTS.decode_fast(
        encoded(valid_event(candidates=[candidate("x", features=features)])), KEY
    )
    assert event is not None
    assert event.missing == len({"a", "b", "c"} - features.keys())
    assert event.unknown == len(features.keys() - {"a", "b", "c"})
    expected = [features.get("a", 0), features.get("b", 8), features.get("c", 0)]
    assert event.rows == TRIO.pack_positional(expected)


@pytest.mark.parametrize("unknown", ['"en"', "null", "[1,2]", "1e400", "true", "9" * 5000])
def test_the_value_of_an_unknown_feature_is_ignored(unknown: str) -> None:
    text = encoded(
        valid_event(candidates=[candidate("x", features={"a": 1, "language": "IT"})])
    ).decode()
    event = _checked(text.replace('"IT"', unknown).encode())
    assert (event.refused, event.missing, event.unknown) == ((), 2, 1)


@pytest.mark.parametrize(
    "field", ["request_id", "surface", "user_id", "requested_at", "expected", "last", "candidates"]
)
@pytest.mark.parametrize("wrong", ["1e400", "-1", '"\\ud800"', '{"a":[1]}', "9" * 5000, "1.5"])
def test_a_wrong_envelope_field_is_named_with_its_value_and_what_was_expected(
    field: str, wrong: str
) -> None:
    text = encoded(valid_event() | {field: "WRONG"}).decode().replace('"WRONG"', wrong)
    refusal = _refusal(text.encode())
    expected = Reason.SURFACE if field == "surface" and wrong.startswith('"') else Reason.INVALID
    assert refusal.reason == expected
    assert refusal.message.startswith(f"{field}: got ")
    assert ", expected " in refusal.message


def test_a_long_value_is_cut_in_the_message() -> None:
    refusal = _refusal(encoded(valid_event(user_id="x" * 900_000)))
    assert len(refusal.message) < 200


@pytest.mark.parametrize("depth", [5_000, 400_000])
def test_deep_nesting_is_malformed_wherever_it_is(depth: int) -> None:
    assert _refusal(deeply_nested(depth)).reason == Reason.MALFORMED
    assert _refusal(b"[" * depth).reason == Reason.MALFORMED
    assert _refusal(b'{"a":' * depth).reason == Reason.MALFORMED


def test_nesting_that_can_be_read_is_ignored_under_an_unknown_key() -> None:
    assert EVENTS.decode_fast(deeply_nested(100), KEY) == _checked(deeply_nested(100))


def test_an_unreadable_string_under_an_unknown_key_is_malformed() -> None:
    value = encoded(valid_event(note="NOTE")).replace(b"NOTE", b"\xff")
    assert _refusal(value).reason == Reason.MALFORMED


@pytest.mark.parametrize("huge", ["1e400", "9" * 5000, "-" + "9" * 5000, '"\\ud800"'])
def test_the_value_of_an_unknown_key_is_ignored(huge: str) -> None:
    value = encoded(valid_event(unknown="HUGE")).replace(b'"HUGE"', huge.encode())
    assert _checked(value) == _checked(encoded(valid_event()))


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b'"user_id": 3', b'"user_id": "u"'),
        (b'"user_id": "v"', b'"user_id": "u"'),
        (b'"x": [', b'"x": "'),
    ],
)
def test_of_duplicate_keys_the_last_counts(first: bytes, then: bytes) -> None:
    value = encoded(valid_event()).replace(b'"user_id": "u"', first + b", " + then, 1)
    if first.endswith(b"["):
        assert _refusal(value).reason == Reason.MALFORMED
    else:
        assert _checked(value).user_id == "u"


def test_a_wrong_last_of_duplicate_keys_refuses_the_event() -> None:
    value = encoded(valid_event()).replace(b'"user_id": "u"', b'"user_id": "u", "user_id": 3')
    assert _refusal(value).message.startswith("user_id: got 3")


def test_refused_candidates_leave_their_siblings_in_order() -> None:
    listed = [
        candidate("x"),
        7,
        candidate("y"),
        candidate("x"),
        candidate("z", features=[1]),
        candidate("w"),
    ]
    event = _checked(encoded(valid_event(candidates=listed)))
    assert event.item_ids == ["x", "y", "x", "w"]
    assert [(r.position, r.reason) for r in event.refused] == [
        (1, CandidateReason.SHAPE),
        (4, CandidateReason.FEATURE_COUNT),
    ]


def test_an_event_with_only_refused_candidates_is_accepted() -> None:
    event = _checked(encoded(valid_event(candidates=[candidate("x", features="no")])))
    assert event.item_ids == []
    assert event.refused[0].identity == "x"


def test_a_refused_candidate_is_identified_by_its_item_id_or_else_by_event_and_position() -> None:
    value = encoded(
        valid_event(candidates=[candidate("x", features=[]), {"item_id": ""}, {"item_id": ""}, 7])
    )
    first, *digests = [r.identity for r in _checked(value).refused]
    assert first == "x"
    assert len(set(digests)) == 3
    assert all(isinstance(d, bytes) and 8 <= len(d) <= 16 for d in digests)
    assert [r.identity for r in _checked(value).refused] == [first, *digests]
    other = [r.identity for r in _checked(value.replace(b'"u"', b'"v"')).refused]
    assert set(other) & set(digests) == set()


@pytest.mark.parametrize("item_id", ["x" * 256, "é" * 128, "日" * 85, "🚀" * 64, "x" * 65])
def test_ids_of_up_to_256_bytes_are_accepted_by_the_fast_path(item_id: str) -> None:
    listed = [candidate(item_id, source=item_id)]
    value = encoded(valid_event(request_id=item_id, user_id=item_id, candidates=listed))
    event = EVENTS.decode_fast(value, item_id.encode())
    assert event is not None
    assert event == _checked(value, item_id.encode())


@pytest.mark.parametrize("item_id", ["x" * 257, "é" * 129, "日" * 86, "🚀" * 65, ""])
def test_longer_and_empty_ids_are_refused_in_every_field(item_id: str) -> None:
    assert (
        _refusal(encoded(valid_event(request_id=item_id)), item_id.encode()).reason
        == Reason.INVALID
    )
    assert _refusal(encoded(valid_event(user_id=item_id))).reason == Reason.INVALID
    value = encoded(
        valid_event(candidates=[candidate(item_id), candidate("y", source=item_id or 0)])
    )
    assert EVENTS.decode_fast(value, KEY) is None
    assert [r.reason for r in _checked(value).refused] == [
        CandidateReason.ITEM_ID,
        CandidateReason.SOURCE,
    ]


def test_sources_are_one_string_each() -> None:
    value = encoded(valid_event(candidates=[candidate(str(i), source="world") for i in range(2)]))
    first, second = EVENTS.decode_fast(value, KEY), _checked(value)
    assert first is not None
    assert len({id(source) for source in [*first.sources, *second.sources]}) == 1


def test_a_large_event_is_decoded_at_once() -> None:
    listed = [candidate(f"item-{i:07}", source="s") for i in range(14_000)]
    value = encoded(valid_event(candidates=listed))
    assert len(value) > 900_000
    event = EVENTS.decode_fast(value, KEY)
    assert event is not None
    assert len(event.item_ids) == 14_000


@pytest.mark.parametrize(
    ("field", "most"), [("requested_at", 253_402_300_799_999), ("expected", 1_000_000)]
)
def test_the_limits_of_numbers_are_exact_on_both_paths(field: str, most: int) -> None:
    for within in (0, most):
        value = encoded(valid_event(**{field: within}))
        assert EVENTS.decode_fast(value, KEY) == _checked(value)
    for beyond in (-1, most + 1):
        assert _refusal(encoded(valid_event(**{field: beyond}))).message.startswith(
            f"{field}: got {beyond}, expected "
        )
