"""Files of events are read event by event, whatever is in them. Tools learn which line is wrong."""

import json
import os
from contextlib import suppress
from io import BytesIO

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.wire import AT, KEY, SURFACES, candidate, encoded, protobuf_values, valid_event
from workers.codec.decoder import Decoder
from workers.codec.event_files import (
    EventFileBroken,
    RawEvent,
    feature_names,
    read_events,
    request_id_of,
    restamp,
)
from workers.codec.formats import Format
from workers.codec.generated.candidate_pb2 import Candidate, CandidateEvent
from workers.ranking.refusal import EventRefused, Reason


def _message(request_id: str = "r-1", width: int = 3) -> bytes:
    candidates = [Candidate(item_id="x", features=[0.5] * width)]
    event = CandidateEvent(
        request_id=request_id, surface="home", user_id="u", requested_at=AT, candidates=candidates
    )
    return bytes(event.SerializeToString())


def _varint(number: int) -> bytes:
    return (
        bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + _varint(number >> 7)
    )


def _delimited(*messages: bytes) -> bytes:
    return b"".join(_varint(len(message)) + message for message in messages)


@pytest.mark.parametrize("form", [None, Format.JSON])
def test_json_lines_are_numbered_and_blank_ones_are_ignored(form: Format | None) -> None:
    content = b"\n" + encoded(valid_event()) + b"\r\n  \n\n" + encoded(valid_event(user_id="v"))
    assert list(read_events(BytesIO(content), form)) == [
        RawEvent(encoded(valid_event()), Format.JSON, 2),
        RawEvent(encoded(valid_event(user_id="v")), Format.JSON, 5),
    ]


@pytest.mark.parametrize("form", [None, Format.PROTOBUF])
@pytest.mark.parametrize("width", [1, 3, 32, 400, 40_000])
def test_delimited_messages_are_numbered_whatever_their_length(
    form: Format | None, width: int
) -> None:
    messages = [_message(f"r-{number}", width) for number in range(3)]
    assert list(read_events(BytesIO(_delimited(*messages)), form)) == [
        RawEvent(message, Format.PROTOBUF, number) for number, message in enumerate(messages, 1)
    ]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200))
def test_protobuf_is_distinguished_from_json_by_the_first_event(request_id: str) -> None:
    message = _message(request_id)
    assert [e.format for e in read_events(BytesIO(_delimited(message)))] == [Format.PROTOBUF]
    assert [
        e.format for e in read_events(BytesIO(encoded(valid_event(request_id=request_id))))
    ] == [Format.JSON]


@pytest.mark.parametrize(
    "content", [_delimited(_message(), _message("r-2", 300)), encoded(valid_event()) + b"\n{}\n"]
)
def test_a_pipe_reads_as_a_file_does(content: bytes) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as end:
        end.write(content)
    with os.fdopen(reading, "rb", buffering=8) as pipe:
        events = list(read_events(pipe))
    assert events == list(read_events(BytesIO(content)))
    assert len(events) == 2


@pytest.mark.parametrize("form", [None, *Format])
def test_an_empty_file_has_no_events(form: Format | None) -> None:
    assert list(read_events(BytesIO(b""), form)) == []


@pytest.mark.parametrize(
    "first", [b"garbage", b"\xef\xbb\xbf{}", b"{", b"\xff\xfe\xff\xff\xff\xff", b"0", b"[1]"]
)
def test_an_invalid_line_is_returned_with_its_number_and_the_next_is_read(first: bytes) -> None:
    events = list(read_events(BytesIO(first + b"\n" + encoded(valid_event()) + b"\n")))
    assert events == [
        RawEvent(first, Format.JSON, 1),
        RawEvent(encoded(valid_event()), Format.JSON, 2),
    ]
    with pytest.raises(EventRefused):
        Decoder(SURFACES).decode(events[0].value, KEY)


@given(st.integers(0, 400))
def test_a_file_that_ends_within_a_message_is_broken_there(cut: int) -> None:
    whole, last = _delimited(_message()), _delimited(_message("r-2", 100))
    kept = 1 + cut % (len(last) - 1)
    events = read_events(BytesIO(whole + last[:kept]))
    assert next(events).line == 1
    with pytest.raises(EventFileBroken, match=r"^message 2: "):
        next(events)


def test_a_file_with_an_impossible_length_is_broken() -> None:
    with pytest.raises(EventFileBroken, match=r"^message 1: its length is unreadable"):
        list(read_events(BytesIO(b"\xff" * 20), Format.PROTOBUF))
    with pytest.raises(EventFileBroken, match=r"^message 1: "):
        list(read_events(BytesIO(_varint(2**34) + b"x"), Format.PROTOBUF))


@given(st.binary(max_size=60), st.sampled_from([None, *Format]))
def test_any_file_gives_events_or_an_error_that_says_where_it_is_broken(
    content: bytes, form: Format | None
) -> None:
    events: list[RawEvent] = []
    with suppress(EventFileBroken):
        events.extend(read_events(BytesIO(content), form))
    assert [event.line for event in events] == sorted({event.line for event in events})


# What tools read of an event, or change in it


def test_the_request_id_is_read_from_both_formats() -> None:
    assert request_id_of(encoded(valid_event(request_id="é")), Format.JSON) == "é"
    assert request_id_of(_message("é"), Format.PROTOBUF) == "é"


@pytest.mark.parametrize(
    "value", [b"", b"[]", b"{}", b'{"request_id":1}', b'{"request_id":""}', b"\xff", b"{" * 9999]
)
def test_a_request_id_that_cannot_be_read_is_none(value: bytes) -> None:
    assert request_id_of(value, Format.JSON) is None


@pytest.mark.parametrize("value", [b"", b"\xff", b"\x0a\x02\xff\xff"])
def test_a_request_id_that_cannot_be_read_from_protobuf_is_none(value: bytes) -> None:
    assert request_id_of(value, Format.PROTOBUF) is None


def test_the_last_of_two_request_ids_is_read_as_the_decoder_does() -> None:
    assert request_id_of(b'{"request_id":1,"request_id":"r-1"}', Format.JSON) == "r-1"


def test_restamping_json_changes_the_time_and_no_other_byte_of_any_value() -> None:
    value = b'{"requested_at": 5, "huge": 1e999, "n": 0.10, "requested_at":6,"text":"\\u00e9", "list":[ 1 ,2]}'
    changed = restamp(value, Format.JSON, 1234)
    assert changed == b'{"requested_at":1234,"huge":1e999,"n":0.10,"text":"\\u00e9","list":[ 1 ,2]}'


def test_restamping_gives_a_time_to_an_event_without_one() -> None:
    assert json.loads(restamp(b'{"request_id":"r"}', Format.JSON, 7)) == {
        "request_id": "r",
        "requested_at": 7,
    }


@given(protobuf_values())
def test_restamping_protobuf_keeps_unknown_fields_and_all_else(value: bytes) -> None:
    try:
        before = CandidateEvent.FromString(value)
    except DecodeError:
        assert request_id_of(value, Format.PROTOBUF) is None
        return
    changed = restamp(value, Format.PROTOBUF, 1234)
    after = CandidateEvent.FromString(changed)
    assert after.requested_at == 1234
    before.requested_at = 1234
    assert after.SerializeToString(deterministic=True) == before.SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize("value", [b"", b"[]", b"{", b"\xff", b'{"a":NaN}', b"[" * 9999])
def test_an_event_that_cannot_be_read_is_not_restamped(value: bytes) -> None:
    with pytest.raises(EventRefused) as refusal:
        restamp(value, Format.JSON, 1)
    assert refusal.value.reason == Reason.MALFORMED


def test_feature_names_are_returned_for_each_candidate() -> None:
    listed = [candidate("x", features={"a": 1, "zz": "?"}), candidate("y"), 7, {"item_id": "w"}]
    assert feature_names(encoded(valid_event(candidates=listed)), Format.JSON) == [
        {"a", "zz"},
        set(),
        set(),
        set(),
    ]
    message = CandidateEvent(
        candidates=[Candidate(features_by_name={"a": 1}), Candidate(features=[1])]
    )
    assert feature_names(message.SerializeToString(), Format.PROTOBUF) == [{"a"}, set()]


@pytest.mark.parametrize("value", [b"[]", b"{}", b'{"candidates":{}}'])
def test_an_event_without_candidates_has_no_feature_names(value: bytes) -> None:
    assert feature_names(value, Format.JSON) == []
