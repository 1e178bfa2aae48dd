"""Files of candidate events, for tools: JSON lines, or Protobuf messages that each follow their
length (a varint).

An event is handed on as its bytes, sound or not: the decoder judges it, and the tool names its
line.
"""

import json
from collections.abc import Iterator, Mapping
from io import BytesIO
from itertools import chain
from typing import BinaryIO, NamedTuple

import msgspec
from google.protobuf.message import DecodeError

from workers.codec.formats import Format
from workers.codec.generated.candidate_pb2 import CandidateEvent
from workers.codec.json_events import parse as parse_json
from workers.codec.protobuf_events import parse as parse_protobuf
from workers.codec.protobuf_events import plain
from workers.codec.text_files import UTF8_EXPECTED, is_utf16
from workers.errors import Failure
from workers.ranking.refusal import EventRefused, Reason

MESSAGE_BYTES = 64 * 1024 * 1024
"""The longest Protobuf message that is read: far more than any topic takes."""
_VARINT_BYTES = 5


class EventFileBroken(Failure):
    """The file ends within a message, or is no file of messages: nothing after this place can be
    read.
    """


class RawEvent(NamedTuple):
    """One event of a file. `line` counts from 1: the line of JSON, or which message of Protobuf it
    is.
    """

    value: bytes
    format: Format
    line: int


def read_events(stream: BinaryIO, form: Format | None = None) -> Iterator[RawEvent]:
    """Read event after event; without a format, it is found by looking at the first. Blank lines
    are passed over.

    Raises EventFileBroken, naming the message.
    """
    head = b""
    if form is None:
        head, form = _look(stream)
    return _lines(stream, head) if form is Format.JSON else _messages(stream, head)


def _look(stream: BinaryIO) -> tuple[bytes, Format]:
    """Read as much as the first message would take: it is Protobuf if an event with a request_id
    stands there.
    """
    prefix, length = _length(stream)
    if not length or length > MESSAGE_BYTES:
        return prefix, Format.JSON
    message = stream.read(length)
    try:
        found = len(message) == length and bool(CandidateEvent.FromString(message).request_id)
    except DecodeError:
        found = False
    return prefix + message, Format.PROTOBUF if found else Format.JSON


def _lines(stream: BinaryIO, head: bytes) -> Iterator[RawEvent]:
    first = head + stream.readline()
    if is_utf16(first):
        # Every line of it would be refused by itself, and `produce` would send them all.
        raise EventFileBroken(f"line 1: got UTF-16, {UTF8_EXPECTED}")
    begun = BytesIO(first)
    for number, line in enumerate(chain(begun, stream), 1):
        value = line.strip(b" \t\r\n")
        if value:
            yield RawEvent(value, Format.JSON, number)


def _messages(stream: BinaryIO, head: bytes) -> Iterator[RawEvent]:
    """`head` holds exactly the first message, or nothing."""
    first = BytesIO(head)
    number = 0
    for source in (first, stream):
        while (message := _message(source, number + 1)) is not None:
            number += 1
            yield RawEvent(message, Format.PROTOBUF, number)


def _message(stream: BinaryIO, number: int) -> bytes | None:
    prefix, length = _length(stream)
    if not prefix:
        return None
    if length is None or length > MESSAGE_BYTES:
        raise EventFileBroken(
            f"message {number}: its length is unreadable, expected length-delimited Protobuf"
        )
    message = stream.read(length)
    if len(message) < length:
        raise EventFileBroken(
            f"message {number}: the file ends after {len(message)} of its {length} bytes"
        )
    return message


def _length(stream: BinaryIO) -> tuple[bytes, int | None]:
    """Read a varint; also its bytes. None where it does not end."""
    prefix, number = b"", 0
    while len(prefix) < _VARINT_BYTES and (byte := stream.read(1)):
        number |= (byte[0] & 0x7F) << 7 * len(prefix)
        prefix += byte
        if byte[0] < 0x80:
            return prefix, number
    return prefix, None


# What tools read of an event, or change in it


def _raw_fields(value: bytes) -> dict[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        # Stricter than the truth, even in what it skips: a lone surrogate in one candidate spoils
        # no other field.
        event = parse_json(value)
    if not isinstance(event, dict):
        raise EventRefused(Reason.MALFORMED, "JSON: expected an object")
    return {name: msgspec.Raw(json.dumps(field).encode()) for name, field in event.items()}


def request_id_of(value: bytes, form: Format) -> str | None:
    """The request_id, which is the record's key; None where it cannot be read."""
    try:
        if form is Format.PROTOBUF:
            return parse_protobuf(value).request_id or None
        return msgspec.json.decode(_raw_fields(value)["request_id"], type=str) or None
    except (EventRefused, KeyError, ValueError):
        return None


def restamp(value: bytes, form: Format, requested_at: int) -> bytes:
    """The event with another `requested_at` (ms), all else as it was. Raises EventRefused:
    malformed.
    """
    if form is Format.PROTOBUF:
        message = parse_protobuf(value)
        message.requested_at = requested_at
        changed: bytes = message.SerializeToString()
        return changed
    return msgspec.json.encode(
        _raw_fields(value) | {"requested_at": msgspec.Raw(b"%d" % requested_at)}
    )


def feature_names(value: bytes, form: Format) -> list[frozenset[str]]:
    """The names by which each candidate gives its features; none where it gives them otherwise.

    Raises EventRefused: malformed.
    """
    event = plain(parse_protobuf(value)) if form is Format.PROTOBUF else parse_json(value)
    listed = event.get("candidates") if isinstance(event, Mapping) else None
    return [_names(candidate) for candidate in listed] if isinstance(listed, list) else []


def _names(candidate: object) -> frozenset[str]:
    features = candidate.get("features") if isinstance(candidate, Mapping) else None
    return frozenset(features) if isinstance(features, Mapping) else frozenset()
