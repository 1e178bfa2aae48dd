"""What a hash in Redis holds, as Redis answers it, as text for people, and as a digest. Pure."""

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from workers.steering.connection import ErrorReply

Fields = Mapping[bytes, bytes]

NOTHING: Final = "{}"
"""The text of a missing hash."""
_MOST_TEXT = 4096


class NoContent(ValueError):
    """The reply is no hash of texts: the message says what was got and what was expected."""


def texts_of(reply: object) -> dict[str, str]:
    """The fields of Redis's reply to HGETALL. Raises NoContent."""
    if not isinstance(reply, dict):
        answer = reply.message if isinstance(reply, ErrorReply) else repr(reply)
        raise NoContent(f"Redis answers {answer!r}, expected a hash")
    return {_text(field, "field"): _text(value, repr(field)) for field, value in reply.items()}


def is_no_hash(reply: object) -> bool:
    """Whether the key holds something else."""
    return isinstance(reply, ErrorReply) and reply.message.startswith("WRONGTYPE")


def fields_of(texts: Mapping[str, str]) -> dict[bytes, bytes]:
    """The other way round."""
    return {field.encode(): value.encode() for field, value in texts.items()}


def shown(fields: Fields) -> dict[str, str]:
    """The fields as text whatever they hold: bytes outside UTF-8 as \\xNN."""
    return {
        f.decode(errors="backslashreplace"): v.decode(errors="backslashreplace")
        for f, v in fields.items()
    }


def text_of(reply: object) -> str | None:
    """The content as a JSON object of strings: keys sorted, no spaces, ASCII, bytes outside UTF-8 as \\xNN.

    None where the reply is no hash. Content of more than 4,096 characters is told by its length and digest.
    """
    canonical = _canonical(reply)
    if canonical is None or len(canonical) <= _MOST_TEXT:
        return canonical
    return json.dumps({"": f"{len(canonical)} characters, SHA-256 {_sha256(canonical)}"})


def digest_of(reply: object) -> str | None:
    """The first 12 hex digits of SHA-256 over the content as `text_of` writes it at any length."""
    canonical = _canonical(reply)
    return None if canonical is None else _sha256(canonical)[:12]


def _canonical(reply: object) -> str | None:
    if not isinstance(reply, dict):
        return None
    return json.dumps(shown(reply), sort_keys=True, separators=(",", ":"))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _text(raw: bytes, name: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise NoContent(f"{name}: got {raw[:80]!r}, expected UTF-8") from None
