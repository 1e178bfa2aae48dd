"""What a hash in Redis holds: as Redis replies, as text for people, and as a digest. Pure."""

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from workers.steering.connection import ErrorReply

RawFields = Mapping[bytes, bytes]

NO_FIELDS: Final = "{}"
"""The canonical text of a missing hash."""
_LONGEST_TEXT = 4096


class UnreadableContent(ValueError):
    """The reply is not a hash of texts. The message says what was got and what was expected."""


def decode_fields(reply: object) -> dict[str, str]:
    """The fields of Redis's reply to HGETALL. Raises UnreadableContent."""
    if not isinstance(reply, dict):
        got = reply.message if isinstance(reply, ErrorReply) else repr(reply)
        raise UnreadableContent(f"Redis answers {got!r}, expected a hash")
    fields: dict[str, str] = {}
    for name, value in reply.items():
        fields[_decode(name, "field")] = _decode(value, repr(name))
    return fields


def _decode(raw: bytes, name: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise UnreadableContent(f"{name}: got {raw[:80]!r}, expected UTF-8") from None


def encode_fields(fields: Mapping[str, str]) -> dict[bytes, bytes]:
    """The fields as Redis replies them."""
    return {name.encode(): value.encode() for name, value in fields.items()}


def is_other_type(reply: object) -> bool:
    """Whether the key holds something other than a hash."""
    return isinstance(reply, ErrorReply) and reply.message.startswith("WRONGTYPE")


def printable(fields: RawFields) -> dict[str, str]:
    """The fields as text, whatever they hold: bytes outside UTF-8 as \\xNN."""
    texts: dict[str, str] = {}
    for name, value in fields.items():
        texts[name.decode(errors="backslashreplace")] = value.decode(errors="backslashreplace")
    return texts


def canonical_text(reply: object) -> str | None:
    """The content as a JSON object of strings: keys sorted, no spaces, ASCII, bytes outside UTF-8
    as \\xNN. None if the reply is not a hash.

    Content of more than 4,096 characters is replaced by its length and digest.
    """
    text = _whole_text(reply)
    if text is None or len(text) <= _LONGEST_TEXT:
        return text
    return json.dumps({"": f"{len(text)} characters, SHA-256 {_sha256(text)}"})


def digest_of(reply: object) -> str | None:
    """The first 12 hex digits of SHA-256 over the canonical text, whatever its length."""
    text = _whole_text(reply)
    return None if text is None else _sha256(text)[:12]


def _whole_text(reply: object) -> str | None:
    if not isinstance(reply, dict):
        return None
    return json.dumps(printable(reply), sort_keys=True, separators=(",", ":"))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
