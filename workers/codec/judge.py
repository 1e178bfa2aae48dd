"""The rules of a candidate event, in one place: the truth that the fast paths of every format must
agree with.

- The envelope is judged first, field by field, then the surface, then the key: what is wrong there
  refuses the event.
- What is wrong with one candidate refuses that candidate only.
- Types are strict: `true` is no number, `"1"` is no number, `3.0` is no integer. Unknown keys are
  not looked at, nor are features that the feature set does not have: a producer may add them first,
  of any type.

An event comes here as plain values: what JSON gives, or the same made of Protobuf. There a
candidate's `features` may also be bytes (float32), or a tuple of field names where more than one
field was given.
"""

import reprlib
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple, TypeGuard

from workers.codec.sources import SourceNames
from workers.ranking.features import FeatureSet
from workers.ranking.refusal import (
    CandidateReason,
    CandidateRefused,
    EventRefused,
    Reason,
    RefusedCandidate,
)
from workers.ranking.request import Candidate, Event
from workers.ranking.surface import Surface, Surfaces

ID_BYTES = 256
SOURCE_BYTES = 256
ALWAYS_FITS = 256 // 4
"""Characters that take at most 256 bytes, whichever they are."""
LATEST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""
MAX_EXPECTED = 1_000_000

AN_ID = f"1 to {ID_BYTES} bytes of UTF-8"

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 80
_SHORT.maxlevel = 2
_ABSENT = object()

Fields = Mapping[str, object]


class _Row(NamedTuple):
    row: bytes
    missing: int = 0
    unknown: int = 0


def shown(value: object) -> str:
    """A value as messages show it: its repr, cut at about 80 characters."""
    return _SHORT.repr(value)


def judge(
    event: object, raw: bytes, key: bytes | None, surfaces: Surfaces, sources: SourceNames
) -> Event:
    """Judge a whole event; `raw` is its bytes, for the identity of candidates without one. Raises
    EventRefused.
    """
    if not isinstance(event, dict):
        raise EventRefused(Reason.INVALID, f"event: got {shown(event)}, expected an object")
    request_id = _id(event, "request_id")
    surface_name = _surface_name(event)
    user_id = _id(event, "user_id")
    requested_at = _requested_at(event)
    expected = _expected(event)
    last = _last(event)
    listed = _candidates(event, last)
    surface = known_surface(surface_name, surfaces)
    check_key(key, request_id)
    judged = _Candidates(surface, raw, sources)
    for place, candidate in enumerate(listed):
        judged.add(place, candidate)
    return Event(
        request_id,
        surface,
        user_id,
        requested_at,
        expected,
        last,
        judged.sound,
        judged.refused,
        judged.missing,
        judged.unknown,
    )


def known_surface(name: str, surfaces: Surfaces) -> Surface:
    """The surface of that name. Raises EventRefused: unknown-surface."""
    surface = surfaces.get(name)
    if surface is None:
        known = ", ".join(sorted(surfaces))
        raise EventRefused(Reason.SURFACE, f"surface: got {shown(name)}, expected one of: {known}")
    return surface


def check_key(key: bytes | None, request_id: str) -> None:
    """Raises EventRefused: key-mismatch. The key decides the partition: another one would split the
    request.
    """
    if key != request_id.encode():
        got = "no key" if key is None else shown(key.decode("utf-8", "backslashreplace"))
        raise EventRefused(
            Reason.KEY, f"key: got {got}, expected the request_id {shown(request_id)}"
        )


# The envelope


def _wrong(field: str, value: object, expected: str) -> EventRefused:
    return EventRefused(Reason.INVALID, _message(field, value, expected))


def _message(field: str, value: object, expected: str) -> str:
    return f"{field}: {'not given' if value is _ABSENT else f'got {shown(value)}'}, expected {expected}"


def _is_text(value: object, most: int) -> TypeGuard[str]:
    """Whether a value is a string of at most `most` bytes of UTF-8; a lone surrogate has no UTF-8."""
    try:
        return isinstance(value, str) and len(value.encode()) <= most
    except UnicodeEncodeError:
        return False


def is_id(value: object) -> TypeGuard[str]:
    """Whether a value is 1 to 256 bytes of UTF-8."""
    return _is_text(value, ID_BYTES) and bool(value)


def _id(event: Fields, field: str) -> str:
    value = event.get(field, _ABSENT)
    if not is_id(value):
        raise _wrong(field, value, AN_ID)
    return value


def _surface_name(event: Fields) -> str:
    value = event.get("surface", _ABSENT)
    if not isinstance(value, str) or not value:
        raise _wrong("surface", value, "the name of a surface")
    return value


def _is_integer(value: object, most: int) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= most


def _requested_at(event: Fields) -> int:
    value = event.get("requested_at", _ABSENT)
    if not _is_integer(value, LATEST_MS):
        raise _wrong(
            "requested_at", value, f"an integer of milliseconds since the epoch, 0 to {LATEST_MS}"
        )
    return value


def _expected(event: Fields) -> int | None:
    value = event.get("expected")
    if value is None or _is_integer(value, MAX_EXPECTED):
        return value
    raise _wrong("expected", value, f"an integer, 0 to {MAX_EXPECTED}, or null")


def _last(event: Fields) -> bool:
    value = event.get("last")
    if value is None or isinstance(value, bool):
        return bool(value)
    raise _wrong("last", value, "true, false or null")


def _candidates(event: Fields, last: bool) -> Sequence[object]:
    value = event.get("candidates", _ABSENT)
    if not isinstance(value, list):
        raise _wrong("candidates", value, "a list of candidates")
    if not value and not last:
        raise _wrong("candidates", value, "at least one candidate, or last: true")
    return value


# Candidates


class _Candidates:
    """The judged candidates of one event, in its order."""

    def __init__(self, surface: Surface, raw: bytes, sources: SourceNames) -> None:
        self._surface, self._sources = surface, sources
        self._digest = blake2b(raw, digest_size=16)
        self.sound: list[Candidate] = []
        self.refused: list[RefusedCandidate] = []
        self.missing = self.unknown = 0

    def add(self, place: int, candidate: object) -> None:
        try:
            fields = _fields(candidate)
            item_id, source = _item_id(fields), _source(fields)
            features = _features(fields, self._surface)
        except CandidateRefused as refusal:
            identity = self._identity(place, candidate)
            self.refused.append(RefusedCandidate(place, identity, refusal.reason, refusal.message))
            return
        self.sound.append(
            Candidate(item_id, self._sources[source] if source else None, features.row)
        )
        self.missing += features.missing
        self.unknown += features.unknown

    def _identity(self, place: int, candidate: object) -> str | bytes:
        item_id = candidate.get("item_id") if isinstance(candidate, dict) else None
        if is_id(item_id):
            return item_id
        digest = self._digest.copy()
        digest.update(place.to_bytes(8, "little"))
        return digest.digest()


def _fields(candidate: object) -> Fields:
    if not isinstance(candidate, dict):
        raise CandidateRefused(CandidateReason.SHAPE, _message("candidate", candidate, "an object"))
    return candidate


def _item_id(fields: Fields) -> str:
    value = fields.get("item_id", _ABSENT)
    if not is_id(value):
        raise CandidateRefused(CandidateReason.ITEM_ID, _message("item_id", value, AN_ID))
    return value


def _source(fields: Fields) -> str | None:
    value = fields.get("source")
    if value is None or _is_text(value, SOURCE_BYTES):
        return value
    expected = f"at most {SOURCE_BYTES} bytes of UTF-8, or null"
    raise CandidateRefused(CandidateReason.SOURCE, _message("source", value, expected))


def _features(fields: Fields, surface: Surface) -> _Row:
    value, feature_set = fields.get("features", _ABSENT), surface.feature_set
    if surface.absent_row is not None and _is_without(value):
        return _Row(surface.absent_row)
    if isinstance(value, list):
        return _Row(feature_set.pack_positional(numbers(value)))
    if isinstance(value, dict):
        return _named(value, feature_set)
    if isinstance(value, bytes):
        return _Row(feature_set.pack_float32(value))
    if value is _ABSENT:
        expected = f"{feature_set.width} numbers (feature set {feature_set.name!r})"
        raise CandidateRefused(CandidateReason.FEATURE_COUNT, _message("features", value, expected))
    expected = "one object of numbers by name or one list of numbers by position"
    raise CandidateRefused(CandidateReason.FEATURE_TYPE, _message("features", value, expected))


def _is_without(value: object) -> bool:
    """Whether no number is given in any way. Protobuf cannot tell an empty list or map from none,
    so nor does JSON.
    """
    return value is _ABSENT or value is None or value in ([], {})


def numbers(values: Sequence[object]) -> list[float]:
    """Features by position as numbers. Raises CandidateRefused: feature-type, naming the place."""
    return [_number(f"features[{place}]", value) for place, value in enumerate(values)]


def _named(values: Fields, feature_set: FeatureSet) -> _Row:
    known = {n: _number(f"features.{n}", values[n]) for n in feature_set.names if n in values}
    row, missing, _ = feature_set.pack_named(known)
    return _Row(row, missing, len(values) - len(known))


def _number(field: str, value: object) -> float:
    if type(value) is float or type(value) is int:
        return value
    raise CandidateRefused(CandidateReason.FEATURE_TYPE, _message(field, value, "a number"))
