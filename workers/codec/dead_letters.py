"""Dead letters: a refused event's own key, value and headers, and further headers that say why it
was refused and where it was.

- A letter that was refused again has these headers twice. The last of each counts.
- A letter that is too large for its topic is cut, and says what it lacks. If it could not be
  written, it would block its partition for ever.

The reason is chosen where an event is judged: judge.py for its bytes and fields, the assembler for
its time and request.
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
# For each header: two lengths, as varints of at most five bytes.
_FRAMING_BYTES = 10


class DeadLetter(NamedTuple):
    """One dead letter as it is read.

    - `headers` are the event's own.
    - `partition` and `offset` are -1 if the letter does not say them.
    - `value_bytes` is None if the letter is whole. Otherwise it was cut, and this is how many bytes
      the event's value had.
    - `key_bytes` is None if the key was kept. Otherwise `key` is None, and this is how many bytes
      the event's key had.
    - `headers_left_out` counts the event's own headers that were left out.
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
    """The headers of a dead letter: the event's own, then why it was refused and where it was."""
    # In the order of _ALWAYS.
    texts = {
        REASON: reason,
        MESSAGE: message,
        TOPIC: topic,
        PARTITION: str(partition),
        OFFSET: str(offset),
    }
    letter_headers: Headers = list(headers or ())
    for name, text in texts.items():
        raw = text.encode("utf-8", "backslashreplace")
        letter_headers.append((name, _cut_text(raw, MESSAGE_BYTES)))
    return letter_headers


def fit_dead_letter(
    key: bytes | None, value: bytes | None, headers: Headers, limit_bytes: int
) -> FittedLetter:
    """The letter in at most `limit_bytes`, with its key and its headers. The first of these that
    fits:

    1. The whole letter.
    2. Without the end of its value.
    3. And without the event's own headers.
    4. And without the end of its message.
    5. And without its key.

    Reason and place always stay, and headers say what is missing. `headers` come from
    `dead_letter_headers`.
    """
    if _size(key, headers) + len(value or b"") <= limit_bytes:
        return FittedLetter(key, value, headers)

    own_headers = headers[: -len(_ALWAYS)]
    letter_headers = headers[-len(_ALWAYS) :]
    letter_headers.append((VALUE_BYTES, b"%d" % len(value or b"")))

    without_own = list(letter_headers)
    if own_headers:
        without_own.append((HEADERS_LEFT_OUT, b"%d" % len(own_headers)))

    short: Headers = []
    for name, text in without_own:
        short.append((name, _cut_text(text or b"", _SHORTEST_MESSAGE)))

    without_key = list(short)
    if key is not None:
        without_key.append((KEY_BYTES, b"%d" % len(key)))

    attempts = (
        (key, own_headers + letter_headers),
        (key, without_own),
        (key, short),
        (None, without_key),
    )
    for kept_key, kept_headers in attempts:
        room = limit_bytes - _size(kept_key, kept_headers)
        if room >= 0:
            return FittedLetter(kept_key, value and value[:room], kept_headers)
    return FittedLetter(None, value and b"", without_key)


def _size(key: bytes | None, headers: Headers) -> int:
    size = len(key or b"")
    for name, text in headers:
        size += len(name.encode()) + len(text or b"") + _FRAMING_BYTES
    return size


def _cut_text(text: bytes, max_bytes: int) -> bytes:
    """UTF-8 in at most `max_bytes`, cut between characters."""
    if len(text) <= max_bytes:
        return text
    return text[: max_bytes - 3].decode("utf-8", "ignore").encode() + b"..."


def read_dead_letter(
    key: bytes | None, value: bytes | None, headers: Headers | None
) -> DeadLetter | None:
    """Read a letter. None if the record is not a dead letter: it names no reason."""
    texts: dict[str, str] = {}
    own_headers: Headers = []
    for name, raw in headers or ():
        if name in _OURS:
            texts[name] = (raw or b"").decode("utf-8", "replace")
        else:
            own_headers.append((name, raw))
    if not texts.get(REASON):
        return None

    return DeadLetter(
        reason=texts[REASON],
        message=texts.get(MESSAGE, ""),
        topic=texts.get(TOPIC, ""),
        partition=_read_number(texts.get(PARTITION, "")),
        offset=_read_number(texts.get(OFFSET, "")),
        key=key,
        value=value,
        headers=own_headers,
        value_bytes=_read_number(texts[VALUE_BYTES]) if VALUE_BYTES in texts else None,
        key_bytes=_read_number(texts[KEY_BYTES]) if KEY_BYTES in texts else None,
        headers_left_out=max(0, _read_number(texts.get(HEADERS_LEFT_OUT, ""))),
    )


def _read_number(text: str) -> int:
    """-1 if the text is not a number of at most 19 digits."""
    if text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    return -1
