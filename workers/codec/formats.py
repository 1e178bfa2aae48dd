"""In which format a record's value is written: its `content-type` header, Confluent's framing, or
the default.

- The last header `content-type` counts; its name and value are case-insensitive, parameters are
  ignored.
- A value that begins with a zero byte is framed: neither a JSON document nor a Protobuf message
  begins so.
"""

from enum import StrEnum

from workers.ranking.refusal import EventRefused, Reason

Headers = list[tuple[str, bytes | None]]

FRAME_BYTES = 5
"""Confluent's framing: a zero byte and four bytes of schema id."""
_VARINT_BITS = 32
_WHITESPACE = b" \t\r\n"
_SURFACE_TAG = b"\x12"  # field 2, with a length, in candidate.proto and in feed.proto


class Format(StrEnum):
    """A format of events and feeds."""

    JSON = "json"
    PROTOBUF = "protobuf"

    @property
    def content_type(self) -> bytes:
        """The value of the header `content-type`."""
        return _CONTENT_TYPES[self]


_CONTENT_TYPES = {Format.JSON: b"application/json", Format.PROTOBUF: b"application/x-protobuf"}
_BY_CONTENT_TYPE = {content_type: form for form, content_type in _CONTENT_TYPES.items()}


def stated_format(headers: Headers | None) -> Format | None:
    """The format that the headers state, None where they state none. Raises EventRefused:
    unknown-content-type.
    """
    for name, value in reversed(headers or ()):
        if name.lower() == "content-type":
            return _BY_CONTENT_TYPE.get(value or b"") or _read_content_type(value)
    return None


def _read_content_type(value: bytes | None) -> Format:
    media_type = (value or b"").split(b";", 1)[0].strip().lower()
    try:
        return _BY_CONTENT_TYPE[media_type]
    except KeyError:
        expected = "application/json or application/x-protobuf"
        message = f"content-type: got {_shown(value)}, expected {expected}"
        raise EventRefused(Reason.CONTENT_TYPE, message) from None


def _shown(value: bytes | None) -> str:
    return "null" if value is None else repr(value[:80].decode("utf-8", "backslashreplace"))


def seen_format(value: bytes) -> Format:
    """The format that a value shows, for an event or a feed that does not state one.

    JSON begins with a brace, perhaps after whitespace. A message of Protobuf may begin with
    whitespace and a brace too, since the tag of `request_id` is a line feed. But it also names its
    surface, and the tag of that is a control character, which JSON never holds.
    """
    if value[:1] == b"{":
        return Format.JSON
    begins_like_json = value.lstrip(_WHITESPACE)[:1] == b"{"
    return Format.JSON if begins_like_json and _SURFACE_TAG not in value else Format.PROTOBUF


def unframe(value: bytes, stated: Format | None) -> tuple[Format, bytes]:
    """Take Confluent's framing off. Without a stated format the payload is JSON where it begins
    like an object.

    Raises EventRefused: malformed, where the value ends within the framing.
    """
    if len(value) < FRAME_BYTES:
        raise _bad_framing(
            f"got {len(value)} bytes, expected a zero byte, four bytes of schema id and a payload"
        )
    payload = value[FRAME_BYTES:]
    if (stated or seen_format(payload)) is Format.JSON:
        return Format.JSON, payload
    return Format.PROTOBUF, payload[_message_index_end(payload) :]


def _message_index_end(payload: bytes) -> int:
    """Where the path to the message's type ends: a zigzag count and as many indexes; a lone zero is
    the first type.
    """
    count, place = _read_zigzag(payload, 0)
    if count < 0:
        raise _bad_framing(f"got {count} message indexes, expected at least 0")
    for _ in range(count):
        _, place = _read_zigzag(payload, place)
    return place


def _read_zigzag(payload: bytes, place: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, _VARINT_BITS, 7):
        if place >= len(payload):
            raise _bad_framing("the value ends within the message indexes")
        byte = payload[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), place
    raise _bad_framing("a message index does not end, expected at most five bytes")


def _bad_framing(what: str) -> EventRefused:
    return EventRefused(Reason.MALFORMED, f"Confluent framing: {what}")
