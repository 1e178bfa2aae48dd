"""The format of a record's value: by its `content-type` header, its framing, or the default.

- The last header `content-type` counts. Its name and value are case-insensitive, and parameters are
  ignored.
- A value that begins with a zero byte has Confluent's framing. Neither a JSON document nor a
  Protobuf message begins like that.
"""

from enum import StrEnum

from workers.ranking.refusal import EventRefused, Reason

Headers = list[tuple[str, bytes | None]]

FRAME_BYTES = 5
"""Confluent's framing: a zero byte and four bytes of schema id."""
_VARINT_BITS = 32
_WHITESPACE = b" \t\r\n"
# Field 2 with a length, in candidate.proto and in feed.proto.
_SURFACE_TAG = b"\x12"


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
    """The format that the headers state. None if they state none.

    Raises EventRefused: unknown-content-type.
    """
    for name, value in reversed(headers or ()):
        if name.lower() == "content-type":
            return _read_content_type(value)
    return None


def _read_content_type(value: bytes | None) -> Format:
    raw = value or b""
    form = _BY_CONTENT_TYPE.get(raw)
    if form is not None:
        return form

    media_type = raw.split(b";", 1)[0].strip().lower()
    form = _BY_CONTENT_TYPE.get(media_type)
    if form is not None:
        return form

    got = "null" if value is None else repr(value[:80].decode("utf-8", "backslashreplace"))
    expected = "application/json or application/x-protobuf"
    raise EventRefused(Reason.CONTENT_TYPE, f"content-type: got {got}, expected {expected}")


def seen_format(value: bytes) -> Format:
    """The format that the bytes of an event or a feed show, if none is stated.

    JSON begins with a brace, perhaps after whitespace. A Protobuf message may begin with whitespace
    and a brace too, because the tag of `request_id` is a line feed. But it also names its surface,
    and the tag of that is a control character, which JSON never holds.
    """
    if value[:1] == b"{":
        return Format.JSON
    begins_like_json = value.lstrip(_WHITESPACE)[:1] == b"{"
    if begins_like_json and _SURFACE_TAG not in value:
        return Format.JSON
    return Format.PROTOBUF


def unframe(value: bytes, stated: Format | None) -> tuple[Format, bytes]:
    """Remove Confluent's framing. Without a stated format, the bytes of the payload show it.

    Raises EventRefused: malformed, if the value ends within the framing.
    """
    if len(value) < FRAME_BYTES:
        raise _bad_framing(
            f"got {len(value)} bytes, expected a zero byte, four bytes of schema id and a payload"
        )
    payload = value[FRAME_BYTES:]
    form = stated or seen_format(payload)
    if form is Format.JSON:
        return Format.JSON, payload
    return Format.PROTOBUF, payload[_message_begin(payload) :]


def _message_begin(payload: bytes) -> int:
    """The offset in the payload at which the message itself begins.

    Before it are the message indexes, which lead to the type of the message: a count, and then as
    many indexes. A count of 0 alone is the first type. All numbers are zigzag varints.
    """
    count, end = _read_zigzag(payload, 0)
    if count < 0:
        raise _bad_framing(f"got {count} message indexes, expected at least 0")
    for _ in range(count):
        _, end = _read_zigzag(payload, end)
    return end


def _read_zigzag(payload: bytes, offset: int) -> tuple[int, int]:
    """The number at an offset, and the offset after it."""
    number = 0
    for shift in range(0, _VARINT_BITS, 7):
        if offset >= len(payload):
            raise _bad_framing("the value ends within the message indexes")
        byte = payload[offset]
        offset += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), offset
    raise _bad_framing("a message index does not end, expected at most five bytes")


def _bad_framing(problem: str) -> EventRefused:
    return EventRefused(Reason.MALFORMED, f"Confluent framing: {problem}")
