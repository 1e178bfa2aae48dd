"""Dead letters: a refused event's own key, value and headers, with further headers that say why and
from where.

A letter that was refused twice has these headers twice: the last of each counts. One too large for
its topic is cut, and says what it lacks: a letter that cannot be written would hold up its
partition for ever.
"""

from typing import NamedTuple

from workers.codec.formats import Headers

REASON = "trimtab.reason"
MESSAGE = "trimtab.message"
VALUE_BYTES = "trimtab.value-bytes"
KEY_BYTES = "trimtab.key-bytes"
HEADERS_LEFT_OUT = "trimtab.headers-left-out"
TOPIC = "__connect.errors.topic"
PARTITION = "__connect.errors.partition"
OFFSET = "__connect.errors.offset"
_ALWAYS = (REASON, MESSAGE, TOPIC, PARTITION, OFFSET)
_OURS = frozenset({*_ALWAYS, VALUE_BYTES, KEY_BYTES, HEADERS_LEFT_OUT})

MESSAGE_BYTES = 16_384
"""The longest message."""
_SHORTEST_MESSAGE = 512
_FRAMING_BYTES = 10  # of one header: two lengths, as varints of at most five bytes


class DeadLetter(NamedTuple):
    """One dead letter. `headers` are the event's own; partition and offset are -1 where the letter
    does not say.

    `value_bytes` is None if the letter is whole. Otherwise it was cut, and the event's value had
    that many bytes. `key_bytes` is None if the key was kept. Otherwise `key` is None, and the
    event's key had that many bytes. `headers_left_out` counts the event's own headers that were
    left out.
    """

    reason: str
    message: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    value_bytes: int | None = None
    key_bytes: int | None = None
    headers_left_out: int = 0


class FittedLetter(NamedTuple):
    """A dead letter as it may be sent."""

    key: bytes | None
    value: bytes | None
    headers: Headers


def dead_letter_headers(
    headers: Headers | None, reason: str, message: str, topic: str, partition: int, offset: int
) -> Headers:
    """The headers of a dead letter: the event's own first, then why it was refused and where it
    stood.
    """
    said = (reason, message, topic, str(partition), str(offset))
    ours = [
        (name, text.encode("utf-8", "backslashreplace"))
        for name, text in zip(_ALWAYS, said, strict=True)
    ]
    return [*(headers or ()), *((name, _cut(text, MESSAGE_BYTES)) for name, text in ours)]


def fit_dead_letter(
    key: bytes | None, value: bytes | None, headers: Headers, limit_bytes: int
) -> FittedLetter:
    """The letter in at most `limit_bytes`, its key and its headers included.

    What is too large loses, one after the other until it fits: the end of its value, its own
    headers, the end of its message, its key. Reason and place always stay, and a header says what
    is missing. `headers` come from `dead_letter_headers`.
    """
    if _size(key, headers) + len(value or b"") <= limit_bytes:
        return FittedLetter(key, value, headers)

    own = headers[: -len(_ALWAYS)]
    ours = [*headers[-len(_ALWAYS) :], (VALUE_BYTES, b"%d" % len(value or b""))]
    without_own: Headers = [*ours, (HEADERS_LEFT_OUT, b"%d" % len(own))] if own else ours
    short: Headers = [(name, _cut(text or b"", _SHORTEST_MESSAGE)) for name, text in without_own]
    without_key: Headers = short if key is None else [*short, (KEY_BYTES, b"%d" % len(key))]

    for kept_key, kept_headers in (
        (key, [*own, *ours]),
        (key, without_own),
        (key, short),
        (None, without_key),
    ):
        room = limit_bytes - _size(kept_key, kept_headers)
        if room >= 0:
            return FittedLetter(kept_key, value and value[:room], kept_headers)
    return FittedLetter(None, value and b"", without_key)


def _size(key: bytes | None, headers: Headers) -> int:
    return len(key or b"") + sum(
        len(name.encode()) + len(text or b"") + _FRAMING_BYTES for name, text in headers
    )


def _cut(text: bytes, most: int) -> bytes:
    """UTF-8 in at most `most` bytes, cut between characters."""
    return (
        text if len(text) <= most else text[: most - 3].decode("utf-8", "ignore").encode() + b"..."
    )


def read_dead_letter(
    key: bytes | None, value: bytes | None, headers: Headers | None
) -> DeadLetter | None:
    """Read a letter; None where the record is none: it names no reason."""
    said = {
        name: (text or b"").decode("utf-8", "replace")
        for name, text in headers or ()
        if name in _OURS
    }
    if not said.get(REASON):
        return None
    return DeadLetter(
        reason=said[REASON],
        message=said.get(MESSAGE, ""),
        topic=said.get(TOPIC, ""),
        partition=_number(said.get(PARTITION, "")),
        offset=_number(said.get(OFFSET, "")),
        key=key,
        value=value,
        headers=[header for header in headers or () if header[0] not in _OURS],
        value_bytes=_number(said[VALUE_BYTES]) if VALUE_BYTES in said else None,
        key_bytes=_number(said[KEY_BYTES]) if KEY_BYTES in said else None,
        headers_left_out=max(0, _number(said.get(HEADERS_LEFT_OUT, ""))),
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
