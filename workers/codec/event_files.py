"""Files of candidate events, for tools: JSON lines, or Protobuf messages that each follow their
length (a varint).

An event is returned as its bytes, valid or not. The decoder judges it, and the tool names its line.
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

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The longest Protobuf message that is read: far more than any topic takes."""
_MAX_VARINT_BYTES = 5


class EventFileBroken(Failure):
    """The file ends within a message, or it is not a file of messages. Nothing after this point can
    be read.
    """


class RawEvent(NamedTuple):
    """One event of a file. `line` counts from 1: the lines of JSON, or the messages of Protobuf."""

    value: bytes
    format: Format
    line: int


def read_events(stream: BinaryIO, form: Format | None = None) -> Iterator[RawEvent]:
    """Read one event after the other. Without a format, it is found by looking at the first event.
    Blank lines are ignored.

    Raises EventFileBroken, naming the message.
    """
    read_already = b""
    if form is None:
        read_already, form = _detect_format(stream)
    if form is Format.JSON:
        return _json_lines(stream, read_already)
    return _protobuf_messages(stream, read_already)


def _detect_format(stream: BinaryIO) -> tuple[bytes, Format]:
    """Read as many bytes as a first message of Protobuf would have. It is Protobuf if they are an
    event with a request_id. Also returns the bytes.
    """
    prefix, length = _read_length(stream)
    if not length or length > MAX_MESSAGE_BYTES:
        return prefix, Format.JSON

    message = stream.read(length)
    form = Format.JSON
    if len(message) == length:
        try:
            if CandidateEvent.FromString(message).request_id:
                form = Format.PROTOBUF
        except DecodeError:
            pass
    return prefix + message, form


def _json_lines(stream: BinaryIO, read_already: bytes) -> Iterator[RawEvent]:
    first = read_already + stream.readline()
    if is_utf16(first):
        # Every line would be refused by itself, and `produce` would send all of them.
        raise EventFileBroken(f"line 1: got UTF-16, {UTF8_EXPECTED}")

    # `first` may be several lines: a length may be followed by a line feed.
    for number, line in enumerate(chain(BytesIO(first), stream), 1):
        value = line.strip(b" \t\r\n")
        if value:
            yield RawEvent(value, Format.JSON, number)


def _protobuf_messages(stream: BinaryIO, read_already: bytes) -> Iterator[RawEvent]:
    """`read_already` is exactly the first message, or nothing."""
    number = 0
    for source in (BytesIO(read_already), stream):
        while (message := _read_message(source, number + 1)) is not None:
            number += 1
            yield RawEvent(message, Format.PROTOBUF, number)


def _read_message(stream: BinaryIO, number: int) -> bytes | None:
    """None at the end of the file. Raises EventFileBroken."""
    prefix, length = _read_length(stream)
    if not prefix:
        return None
    if length is None or length > MAX_MESSAGE_BYTES:
        raise EventFileBroken(
            f"message {number}: its length is unreadable, expected length-delimited Protobuf"
        )

    message = stream.read(length)
    if len(message) < length:
        raise EventFileBroken(
            f"message {number}: the file ends after {len(message)} of its {length} bytes"
        )
    return message


def _read_length(stream: BinaryIO) -> tuple[bytes, int | None]:
    """Read a varint. Returns its bytes and its value. The value is None if it does not end."""
    prefix = b""
    number = 0
    while len(prefix) < _MAX_VARINT_BYTES and (byte := stream.read(1)):
        number |= (byte[0] & 0x7F) << 7 * len(prefix)
        prefix += byte
        if byte[0] < 0x80:
            return prefix, number
    return prefix, None


# What tools read in an event, or change


def request_id_of(value: bytes, form: Format) -> str | None:
    """The request_id, which is the key of the record. None if it cannot be read."""
    try:
        if form is Format.PROTOBUF:
            return parse_protobuf(value).request_id or None
        return msgspec.json.decode(_raw_fields(value)["request_id"], type=str) or None
    except (EventRefused, KeyError, ValueError):
        return None


def restamp(value: bytes, form: Format, requested_at: int) -> bytes:
    """The event with another `requested_at` (ms). Everything else stays as it was.

    Raises EventRefused: malformed.
    """
    if form is Format.PROTOBUF:
        message = parse_protobuf(value)
        message.requested_at = requested_at
        changed: bytes = message.SerializeToString()
        return changed

    fields = _raw_fields(value)
    fields["requested_at"] = msgspec.Raw(b"%d" % requested_at)
    return msgspec.json.encode(fields)


def feature_names(value: bytes, form: Format) -> list[frozenset[str]]:
    """The names by which each candidate gives its features. Empty if it gives them otherwise.

    Raises EventRefused: malformed.
    """
    event = plain(parse_protobuf(value)) if form is Format.PROTOBUF else parse_json(value)
    candidates = event.get("candidates") if isinstance(event, Mapping) else None
    if not isinstance(candidates, list):
        return []

    names = list[frozenset[str]]()
    for candidate in candidates:
        features = candidate.get("features") if isinstance(candidate, Mapping) else None
        names.append(frozenset(features) if isinstance(features, Mapping) else frozenset())
    return names


def _raw_fields(value: bytes) -> dict[str, msgspec.Raw]:
    """The fields of a JSON event, each as its bytes. Raises EventRefused: malformed."""
    try:
        return msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        # msgspec is stricter than our rules, even in what it skips: a lone surrogate in one
        # candidate does not invalidate other fields.
        event = parse_json(value)

    if not isinstance(event, dict):
        raise EventRefused(Reason.MALFORMED, "JSON: expected an object")
    return {name: msgspec.Raw(json.dumps(field).encode()) for name, field in event.items()}
