"""The decoder finds the format, removes framing, and reports the first error in a fixed order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.wire import HOME, KEY, SURFACES, candidate, encoded, valid_event
from workers.codec.decoder import Decoder
from workers.codec.formats import Format, Headers
from workers.codec.generated.candidate_pb2 import Candidate, CandidateEvent
from workers.ranking.refusal import EventRefused, Reason

DECODER = Decoder(SURFACES)
IN_JSON = encoded(valid_event(expected=3))
IN_PROTOBUF = CandidateEvent(
    request_id="r-1",
    surface="home",
    user_id="u",
    requested_at=valid_event()["requested_at"],
    expected=3,
    candidates=[Candidate(item_id="x", features=[1, 2, 3])],
).SerializeToString()
FRAME = b"\0\0\0\x01\x02"


def _type(text: str | None, name: str = "content-type") -> Headers:
    return [(name, None if text is None else text.encode())]


def _refusal(
    value: bytes | None, key: bytes | None = KEY, headers: Headers | None = None
) -> EventRefused:
    with pytest.raises(EventRefused) as refusal:
        DECODER.decode(value, key, headers)
    return refusal.value


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (IN_JSON, None),
        (IN_JSON, []),
        (IN_JSON, [("trace", None)]),
        (IN_JSON, _type("application/json")),
        (IN_JSON, _type("APPLICATION/Json ; charset=utf-8", "Content-Type")),
        (IN_PROTOBUF, _type("application/x-protobuf")),
        (
            IN_PROTOBUF,
            _type("text/csv") + _type("application/x-protobuf;proto=trimtab.v1.CandidateEvent"),
        ),
        (FRAME + IN_JSON, None),
        (FRAME + b"\n\t " + IN_JSON, None),
        (FRAME + IN_JSON, _type("application/json")),
        (FRAME + b"\x00" + IN_PROTOBUF, None),
        (FRAME + b"\x02\x00" + IN_PROTOBUF, None),
        (FRAME + b"\x04\x02\x90\x01" + IN_PROTOBUF, _type("application/x-protobuf")),
    ],
)
def test_every_way_to_state_a_format_gives_the_same_event(
    value: bytes, headers: Headers | None
) -> None:
    event = DECODER.decode(value, KEY, headers)
    assert event == DECODER.decode(IN_JSON, KEY)
    assert event.surface is HOME


@pytest.mark.parametrize("space", ["", "\n", " \r\n\t"])
@pytest.mark.parametrize("frame", [b"", FRAME])
def test_without_readable_headers_the_bytes_show_the_format(space: str, frame: bytes) -> None:
    decoder = Decoder(SURFACES, Format.PROTOBUF)
    expected = DECODER.decode(IN_JSON, KEY)
    assert decoder.decode_as_seen(frame + space.encode() + IN_JSON, KEY) == expected
    assert DECODER.decode_as_seen((frame and frame + b"\0") + IN_PROTOBUF, KEY) == expected


@pytest.mark.parametrize("request_id", ["{".ljust(123, "}"), "{}", "\n{}"])
def test_a_message_that_begins_like_json_after_whitespace_is_seen_to_be_protobuf(
    request_id: str,
) -> None:
    message = CandidateEvent.FromString(IN_PROTOBUF)
    message.request_id = request_id
    value: bytes = message.SerializeToString()
    assert value.lstrip()[:1] == b"{" or len(request_id) < 123
    assert DECODER.decode_as_seen(value, request_id.encode()).request_id == request_id


def test_the_default_format_is_that_of_the_topic() -> None:
    assert Decoder(SURFACES, Format.PROTOBUF).decode(IN_PROTOBUF, KEY) == DECODER.decode(
        IN_JSON, KEY
    )
    with pytest.raises(EventRefused, match=r"^Protobuf: "):
        Decoder(SURFACES, Format.PROTOBUF).decode(IN_JSON, KEY)


@pytest.mark.parametrize("stated", ["text/csv", "", "json", "application/json2", "\xff", None])
def test_another_content_type_is_refused_and_shown(stated: str | None) -> None:
    refusal = _refusal(IN_JSON, KEY, _type(stated))
    assert refusal.reason == Reason.CONTENT_TYPE
    assert refusal.message.startswith(
        f"content-type: got {'null' if stated is None else repr(stated)}, expected "
    )


def test_a_content_type_that_is_not_utf_8_is_refused() -> None:
    assert _refusal(IN_JSON, KEY, [("content-type", b"\xff" * 1000)]).reason == Reason.CONTENT_TYPE


@pytest.mark.parametrize(
    "value",
    [
        b"\0",
        FRAME[:4],
        FRAME,
        FRAME + b"\x02",  # one index, which is missing
        FRAME + b"\x80",  # a varint that ends in the middle
        FRAME + b"\x01" + IN_PROTOBUF,  # minus one indexes
        FRAME + b"\xff\xff\xff\xff\xff\xff" + IN_PROTOBUF,  # a varint that does not end
    ],
)
def test_framing_that_is_cut_short_or_wrong_is_malformed(value: bytes) -> None:
    refusal = _refusal(value)
    assert refusal.reason == Reason.MALFORMED
    assert refusal.message.startswith("Confluent framing: ")


@given(
    st.binary(max_size=12),
    st.sampled_from([None, *(_type(f.content_type.decode()) for f in Format)]),
)
def test_whatever_follows_a_zero_byte_is_refused_and_never_a_crash(
    rest: bytes, headers: Headers | None
) -> None:
    assert _refusal(b"\0" + rest, KEY, headers).reason in (Reason.MALFORMED, Reason.INVALID)


WRONG = {
    Reason.NULL_VALUE: (None, b"other", _type("text/csv")),
    Reason.CONTENT_TYPE: (b"not json", b"other", _type("text/csv")),
    Reason.MALFORMED: (b"not json", b"other", None),
    Reason.INVALID: (encoded(valid_event(surface="attic", user_id=7)), b"other", None),
    Reason.SURFACE: (encoded(valid_event(surface="attic")), b"other", None),
    Reason.KEY: (encoded(valid_event(candidates=[7])), b"other", None),
}


@pytest.mark.parametrize("reason", WRONG)
def test_the_first_thing_that_is_wrong_counts(reason: Reason) -> None:
    assert _refusal(*WRONG[reason]).reason == reason


def test_fields_are_judged_in_their_order() -> None:
    wrong = {
        "request_id": 1,
        "surface": 2,
        "user_id": 3,
        "requested_at": "4",
        "expected": -5,
        "last": 6,
        "candidates": 7,
    }
    for field in wrong:
        assert _refusal(encoded(wrong)).message.startswith(f"{field}: ")
        wrong[field] = valid_event(expected=1, last=False)[field]


@pytest.mark.parametrize("key", [None, b"", b"r-2", b"r-1 ", b"\xff"])
def test_a_key_that_is_not_the_request_id_is_refused(key: bytes | None) -> None:
    refusal = _refusal(IN_JSON, key)
    assert refusal.reason == Reason.KEY
    assert refusal.message.endswith("expected the request_id 'r-1'")


def test_a_key_is_compared_as_utf_8() -> None:
    value = encoded(valid_event(request_id="日本"))
    assert DECODER.decode(value, "日本".encode()).request_id == "日本"


def test_both_formats_share_their_sources() -> None:
    in_json = DECODER.decode(encoded(valid_event(candidates=[candidate("x", source="world")])), KEY)
    message = CandidateEvent.FromString(IN_PROTOBUF)
    message.candidates[0].source = "world"
    in_protobuf = DECODER.decode(message.SerializeToString(), KEY, _type("application/x-protobuf"))
    assert in_json.sources[0] is in_protobuf.sources[0]
