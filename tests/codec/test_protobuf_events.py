"""Protobuf events: the fast path agrees with the checked path, and both with JSON."""

import struct
from typing import Any

import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codec.wire import AT, KEY, SURFACES, TRIO, encoded, protobuf_values
from workers.codec.generated.candidate_pb2 import Candidate, CandidateEvent
from workers.codec.json_events import JsonEventDecoder
from workers.codec.judge import SourceNames
from workers.codec.protobuf_events import ProtobufEventDecoder
from workers.ranking.refusal import CandidateReason, EventRefused, Reason
from workers.ranking.request import Event

EVENTS = ProtobufEventDecoder(SURFACES, SourceNames())


def _value(*candidates: Candidate, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "request_id": "r-1",
        "surface": "home",
        "user_id": "u",
        "requested_at": AT,
    } | changes
    value: bytes = CandidateEvent(candidates=candidates, **fields).SerializeToString()
    return value


def _fast(value: bytes) -> Event | None:
    try:
        return EVENTS.decode_fast(value, KEY)
    except EventRefused:  # malformed: the checked path refuses it too
        return None


def _outcome(value: bytes) -> Event | EventRefused:
    try:
        return EVENTS.decode_checked(value, KEY)
    except EventRefused as refusal:
        return refusal


@settings(max_examples=300)
@given(protobuf_values())
def test_what_the_fast_path_accepts_the_checked_path_accepts_with_an_equal_event(
    value: bytes,
) -> None:
    event = _fast(value)
    note("fast" if event else "checked")
    if event is not None:
        assert repr(EVENTS.decode_checked(value, KEY)) == repr(event)


@settings(max_examples=300)
@given(protobuf_values())
def test_the_checked_path_returns_an_event_or_a_refusal_and_nothing_else(value: bytes) -> None:
    outcome = _outcome(value)
    if isinstance(outcome, EventRefused):
        note(outcome.reason)
        assert _fast(value) is None
        assert len(outcome.message.encode()) < 500
        return
    assert len(outcome.rows) == 12 * len(outcome.item_ids) == 12 * len(outcome.sources)


_NUMBERS = st.lists(
    st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=3, max_size=3
)


@given(
    _NUMBERS,
    st.sampled_from([None, "", "s"]),
    st.none() | st.integers(0, 9),
    st.none() | st.booleans(),
)
def test_each_of_the_three_fields_decodes_as_json_does(
    numbers: list[float], source: str | None, expected: int | None, last: bool | None
) -> None:
    row = struct.pack("<3f", *numbers)
    by_name = dict(zip(TRIO.names, numbers, strict=True))
    messages = [
        Candidate(item_id="x", source=source, features=numbers),
        Candidate(item_id="y", source=source, features_f32=row),
        Candidate(item_id="z", source=source, features_by_name=by_name),
    ]
    listed = [
        {"item_id": i, "source": source, "features": f}
        for i, f in zip("xyz", [numbers, numbers, by_name], strict=True)
    ]
    fields = {"request_id": "r-1", "surface": "home", "user_id": "u", "requested_at": AT}
    optional = {"expected": expected, "last": last}
    in_json = JsonEventDecoder(SURFACES, SourceNames()).decode_fast(
        encoded(fields | optional | {"candidates": listed}), KEY
    )
    in_protobuf = EVENTS.decode_fast(_value(*messages, **optional), KEY)
    assert in_json is not None
    assert in_protobuf == in_json


def test_float32_bytes_are_kept_as_they_are() -> None:
    row = struct.pack("<3f", 0.1, -0.0, 1e-45)
    event = EVENTS.decode_fast(_value(Candidate(item_id="x", features_f32=row)), KEY)
    assert event is not None
    assert (event.item_ids, event.sources, event.rows) == (["x"], [None], row)


def test_features_given_in_two_ways_refuse_the_candidate() -> None:
    both = Candidate(item_id="x", features=[1, 2, 3], features_by_name={"a": 1})
    (refused,) = EVENTS.decode_checked(_value(both), KEY).refused
    assert (refused.identity, refused.reason) == ("x", CandidateReason.FEATURE_TYPE)
    assert "'features', 'features_by_name'" in refused.message


def test_no_features_are_too_few() -> None:
    (refused,) = EVENTS.decode_checked(_value(Candidate(item_id="x")), KEY).refused
    assert refused.reason == CandidateReason.FEATURE_COUNT


@pytest.mark.parametrize("field", ["request_id", "surface", "user_id", "requested_at"])
def test_a_required_field_that_is_not_given_is_named(field: str) -> None:
    value = _value(Candidate(item_id="x", features=[1, 2, 3]), **{field: None})
    assert EVENTS.decode_fast(value, KEY) is None
    with pytest.raises(EventRefused, match=f"^{field}: not given, expected ") as refusal:
        EVENTS.decode_checked(value, KEY)
    assert refusal.value.reason == Reason.INVALID


def test_time_zero_is_a_time_if_it_is_given() -> None:
    value = _value(Candidate(item_id="x", features=[1, 2, 3]), requested_at=0)
    assert EVENTS.decode_checked(value, KEY).requested_at == 0


@pytest.mark.parametrize(
    ("field", "most"), [("requested_at", 253_402_300_799_999), ("expected", 1_000_000)]
)
def test_the_limits_of_numbers_are_exact_on_both_paths(field: str, most: int) -> None:
    features = Candidate(item_id="x", features=[1, 2, 3])
    assert EVENTS.decode_fast(_value(features, **{field: most}), KEY) == EVENTS.decode_checked(
        _value(features, **{field: most}), KEY
    )
    for beyond in (-1, most + 1):
        value = _value(features, **{field: beyond})
        assert EVENTS.decode_fast(value, KEY) is None
        with pytest.raises(EventRefused, match=rf"^{field}: got {beyond}, expected "):
            EVENTS.decode_checked(value, KEY)


_WITHOUT = {
    "not given": {},
    "null": {"features": None},
    "no number": {"features": []},
    "no name": {"features": {}},
}


@pytest.mark.parametrize("fields", _WITHOUT.values(), ids=_WITHOUT.keys())
def test_without_features_both_formats_agree_if_they_are_looked_up(
    fields: dict[str, Any],
) -> None:
    event = {"request_id": "r-1", "surface": "shelf", "user_id": "u", "requested_at": AT}
    in_json = encoded(event | {"candidates": [{"item_id": "x"} | fields]})
    in_protobuf = _value(Candidate(item_id="x", features_f32=b""), surface="shelf")
    decoders = (JsonEventDecoder(SURFACES, SourceNames()), in_json), (EVENTS, in_protobuf)
    events = [
        [events.decode_fast(value, KEY), events.decode_checked(value, KEY)]
        for events, value in decoders
    ]
    assert events[0] == events[1]
    fast, checked = events[0]
    assert fast == checked
    assert checked is not None
    assert (checked.item_ids, checked.rows) == (["x"], TRIO.absent_row)
    assert (checked.missing, checked.refused) == (0, ())


def test_without_features_a_candidate_is_refused_in_both_formats_if_they_are_not_looked_up() -> (
    None
):
    event = {"request_id": "r-1", "surface": "home", "user_id": "u", "requested_at": AT}
    in_json = encoded(event | {"candidates": [{"item_id": "x"}]})
    for events, value in (
        (JsonEventDecoder(SURFACES, SourceNames()), in_json),
        (EVENTS, _value(Candidate(item_id="x"))),
    ):
        assert events.decode_fast(value, KEY) is None
        (refused,) = events.decode_checked(value, KEY).refused
        assert refused.reason == CandidateReason.FEATURE_COUNT


def test_some_features_by_name_are_features_and_the_others_take_their_defaults() -> None:
    value = _value(Candidate(item_id="x", features_by_name={"a": 1.0}), surface="shelf")
    event = EVENTS.decode_checked(value, KEY)
    assert (event.item_ids, event.rows) == (["x"], struct.pack("<3f", 1, 8, 0))
    assert event.missing == 2
