"""Interactions: a fast path for sound JSON, and one judge for all the rest."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import surface
from workers.codec.formats import Format, Headers
from workers.codec.generated.interaction_pb2 import Interaction as WireInteraction
from workers.codec.interactions import InteractionDecoder
from workers.outcomes.records import Interaction
from workers.ranking.refusal import EventRefused, Reason

DECODER = InteractionDecoder({"home": surface("home")})
SOUND: dict[str, Any] = {
    "request_id": "r-1",
    "surface": "home",
    "user_id": "u-1",
    "item_id": "t3_a",
    "kind": "dwell",
    "value": 31.5,
    "at": 1763900000000,
}
EXPECTED = Interaction("r-1", "home", "u-1", "t3_a", "dwell", 31.5, 1763900000000)
PROTOBUF: Headers = [("content-type", b"application/x-protobuf")]


def encoded(**changes: Any) -> bytes:
    return json.dumps(SOUND | changes).encode()


def refusal(value: bytes | None, key: bytes | None = b"r-1") -> tuple[Reason, str]:
    with pytest.raises(EventRefused) as refused:
        DECODER.decode(value, key)
    return refused.value.reason, refused.value.message


def test_an_interaction_in_json_decodes_to_its_fields() -> None:
    assert DECODER.decode(encoded(), b"r-1") == EXPECTED
    assert DECODER.decode(encoded(value=None, new="key"), b"r-1") == EXPECTED._replace(value=None)


def test_an_interaction_in_protobuf_decodes_to_the_same() -> None:
    value = WireInteraction(**SOUND).SerializeToString()
    assert DECODER.decode(value, b"r-1", PROTOBUF) == EXPECTED
    assert DECODER.decode_as_seen(value, b"r-1") == EXPECTED


def test_confluents_framing_is_taken_off() -> None:
    assert DECODER.decode(b"\0\0\0\0\7" + encoded(), b"r-1") == EXPECTED


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("request_id", "", "request_id: got ''"),
        ("request_id", 7, "request_id: got 7"),
        ("surface", "", "surface: got ''"),
        ("user_id", "ü" * 129, "user_id: got"),
        ("item_id", None, "item_id: got None"),
        ("item_id", "\ud800", "item_id: got"),
        ("kind", "", "kind: got ''"),
        ("kind", "k" * 65, "kind: got"),
        ("kind", "\ud800", "kind: got"),
        ("value", True, "value: got True"),
        ("value", "3", "value: got '3'"),
        ("at", -1, "at: got -1"),
        ("at", 1.0, "at: got 1.0"),
        ("at", 253_402_300_800_000, "at: got 253402300800000"),
    ],
)
def test_a_wrong_field_is_named_with_its_value(field: str, value: object, message: str) -> None:
    key = b"r-1" if field != "request_id" else str(value).encode()
    reason, said = refusal(encoded(**{field: value}), key)
    assert reason is Reason.INVALID
    assert said.startswith(message)


@pytest.mark.parametrize("field", ["request_id", "surface", "user_id", "item_id", "kind", "at"])
def test_a_field_that_is_not_given_is_named(field: str) -> None:
    fields = {name: value for name, value in SOUND.items() if name != field}
    reason, message = refusal(json.dumps(fields).encode())
    assert (reason, message.split(",")[0]) == (Reason.INVALID, f"{field}: not given")


@pytest.mark.parametrize("value", ["1e999", "-1e999"])
def test_a_value_that_no_float_holds_is_refused(value: str) -> None:
    raw = encoded().replace(b"31.5", value.encode())
    assert refusal(raw)[0] is Reason.INVALID


@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        (None, b"r-1", Reason.NULL_VALUE),
        (b"", b"r-1", Reason.MALFORMED),
        (b"{", b"r-1", Reason.MALFORMED),
        (b"[]", b"r-1", Reason.INVALID),
        (b'{"value": NaN}', b"r-1", Reason.MALFORMED),
        (encoded() + b"\xff", b"r-1", Reason.MALFORMED),
        (encoded(surface="nowhere"), b"r-1", Reason.SURFACE),
        (encoded(), None, Reason.KEY),
        (encoded(), b"r-2", Reason.KEY),
    ],
)
def test_what_is_wrong_with_a_record_has_a_code(
    value: bytes | None, key: bytes | None, reason: Reason
) -> None:
    assert refusal(value, key)[0] is reason


def test_bytes_that_are_no_protobuf_are_malformed() -> None:
    with pytest.raises(EventRefused) as refused:
        DECODER.decode(b"\xff\xff", b"r-1", PROTOBUF)
    assert refused.value.reason is Reason.MALFORMED


JSON_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.just("ü" * 130),
    st.lists(st.integers(), max_size=2),
)


@given(st.dictionaries(st.sampled_from([*SOUND, "other"]), JSON_VALUES, max_size=3), st.booleans())
def test_the_fast_path_takes_only_what_the_judge_takes(
    changes: dict[str, object], is_ascii: bool
) -> None:
    """Both formats of the same fields have the same result, and so have both ways to read JSON."""
    value = json.dumps(SOUND | changes, ensure_ascii=is_ascii).encode(errors="surrogatepass")
    fast = DECODER._decode_sound_json(value, b"r-1")
    if fast is not None:
        judged = InteractionDecoder({"home": surface("home")}, Format.JSON)
        judged._decode_sound_json = lambda value, key: None  # type: ignore[method-assign]
        assert judged.decode(value, b"r-1") == fast
