"""Entries of the users stage as bytes, as they are kept in its changelog.

Key and value are JSON arrays. The first element of a key says the kind of the entry. The changelog
is read by nothing else, so it is not described in schemas/.
"""

from typing import Any

import msgspec

from workers.outcomes.user_sums import UserSums, UserSumsKey
from workers.users.counting import (
    Entry,
    Key,
    Newcomer,
    NewcomerKey,
    Phase,
    PhaseKey,
    User,
    UserKey,
)

_encode = msgspec.json.Encoder().encode
_decode_key = msgspec.json.Decoder(list[str | int | None]).decode
_decode_user = msgspec.json.Decoder(User).decode
_decode_newcomer = msgspec.json.Decoder(Newcomer).decode
_decode_phase = msgspec.json.Decoder(Phase).decode
_decode_sums = msgspec.json.Decoder(UserSums).decode


class ChangelogDamaged(ValueError):
    """A record of the changelog that the users stage has not written."""


def encode_key(key: Key) -> bytes:
    """The key of an entry. The same key has the same bytes."""
    if isinstance(key, UserKey):
        return _encode(("user", key.surface, key.phase, key.user_id))
    if isinstance(key, NewcomerKey):
        return _encode(("newcomer", key.surface, key.salt, key.user_id))
    if isinstance(key, PhaseKey):
        return _encode(("phase", key.surface, key.phase))
    return _encode(("sums", *key))


def encode_entry(entry: Entry) -> bytes:
    """The value of an entry: its fields in order."""
    return _encode(entry)


def decode_entry(key: bytes | None, value: bytes | None) -> tuple[Key, Entry | None]:
    """An entry that was read back, None if it was deleted. Raises ChangelogDamaged."""
    try:
        kind, *fields = _decode_key(key or b"")
        return _decode_fields(kind, fields, value)
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise ChangelogDamaged(
            f"key {key!r}: {error}, expected what the users stage writes"
        ) from None


def _decode_fields(
    kind: str | int | None, fields: list[Any], value: bytes | None
) -> tuple[Key, Entry | None]:
    if kind == "user":
        return UserKey(*fields), None if value is None else _decode_user(value)
    if kind == "newcomer":
        return NewcomerKey(*fields), None if value is None else _decode_newcomer(value)
    if kind == "phase":
        return PhaseKey(*fields), None if value is None else _decode_phase(value)
    if kind == "sums":
        return UserSumsKey(*fields), None if value is None else _decode_sums(value)
    raise ValueError(f"kind of entry: got {kind!r}")
