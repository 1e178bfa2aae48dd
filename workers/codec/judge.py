"""The rules of a candidate event, in one place. The fast decoders of all formats agree with it.

- The envelope is judged first, field by field, then the surface, then the key. If something there
  is wrong, the event is refused.
- If something is wrong with a candidate, only that candidate is refused.
- Types are strict: `true` is not a number, `"1"` is not a number, `3.0` is not an integer.
- Unknown keys are ignored, and so are features that the feature set does not have, of whatever
  type. So a producer may add them before workers know them.

An event comes here as plain values: what JSON gives, or the same made of Protobuf. In the second
case the `features` of a candidate may also be bytes (float32), or a tuple of field names if more
than one field was given.
"""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple, TypeGuard

from workers.ranking.refusal import (
    CandidateReason,
    CandidateRefused,
    EventRefused,
    Reason,
    RefusedCandidate,
)
from workers.ranking.request import Event
from workers.ranking.surface import Surface, Surfaces

ID_BYTES = 256
SOURCE_BYTES = 256
ALWAYS_FITS = 256 // 4
"""So many characters take at most 256 bytes of UTF-8, whatever they are."""
LATEST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""
MAX_EXPECTED = 1_000_000
MAX_SOURCES = 4096
"""How many source names are shared."""

AN_ID = f"1 to {ID_BYTES} bytes of UTF-8"

Fields = Mapping[str, object]

# The value of a field that is not given. A null is None.
_ABSENT = object()

_SHORT_REPR = reprlib.Repr()
_SHORT_REPR.maxstring = 80
_SHORT_REPR.maxlong = 80
_SHORT_REPR.maxother = 80
_SHORT_REPR.maxlevel = 2


class SourceNames(dict[str, str]):
    """`names[source]` is the one string object for all equal sources.

    Half a million open candidates have few sources. So they share the strings. At MAX_SOURCES
    different ones the sharing starts again.
    """

    def __missing__(self, source: str) -> str:
        if len(self) >= MAX_SOURCES:
            self.clear()
        self[source] = source
        return source


def judge(
    event: object, raw: bytes, key: bytes | None, surfaces: Surfaces, sources: SourceNames
) -> Event:
    """Judge a whole event. `raw` is its bytes, which identify candidates without an id.

    Raises EventRefused: invalid-event, unknown-surface, key-mismatch.
    """
    if not isinstance(event, dict):
        raise EventRefused(Reason.INVALID, f"event: got {shown(event)}, expected an object")

    request_id = _id_field(event, "request_id")

    surface_name = event.get("surface", _ABSENT)
    if not isinstance(surface_name, str) or not surface_name:
        raise _invalid("surface", surface_name, "the name of a surface")

    user_id = _id_field(event, "user_id")

    requested_at = event.get("requested_at", _ABSENT)
    if not _is_integer(requested_at, LATEST_MS):
        expected_time = f"an integer of milliseconds since the epoch, 0 to {LATEST_MS}"
        raise _invalid("requested_at", requested_at, expected_time)

    expected = event.get("expected")
    if expected is not None and not _is_integer(expected, MAX_EXPECTED):
        raise _invalid("expected", expected, f"an integer, 0 to {MAX_EXPECTED}, or null")

    last = event.get("last")
    if last is not None and not isinstance(last, bool):
        raise _invalid("last", last, "true, false or null")

    candidates = event.get("candidates", _ABSENT)
    if not isinstance(candidates, list):
        raise _invalid("candidates", candidates, "a list of candidates")
    if not candidates and not last:
        raise _invalid("candidates", candidates, "at least one candidate, or last: true")

    surface = known_surface(surface_name, surfaces)
    check_key(key, request_id)

    judged = _judge_candidates(candidates, surface, raw, sources)
    return Event(
        request_id=request_id,
        surface=surface,
        user_id=user_id,
        requested_at=requested_at,
        expected=expected,
        last=bool(last),
        item_ids=judged.item_ids,
        sources=judged.sources,
        rows=b"".join(judged.rows),
        refused=tuple(judged.refused),
        missing=judged.missing,
        unknown=judged.unknown,
    )


# The envelope


def known_surface(name: str, surfaces: Surfaces) -> Surface:
    """The surface of that name. Raises EventRefused: unknown-surface."""
    surface = surfaces.get(name)
    if surface is None:
        known = ", ".join(sorted(surfaces))
        raise EventRefused(Reason.SURFACE, f"surface: got {shown(name)}, expected one of: {known}")
    return surface


def check_key(key: bytes | None, request_id: str) -> None:
    """Raises EventRefused: key-mismatch. The key decides the partition, so another key would split
    the request.
    """
    if key != request_id.encode():
        got = "no key" if key is None else shown(key.decode("utf-8", "backslashreplace"))
        raise EventRefused(
            Reason.KEY, f"key: got {got}, expected the request_id {shown(request_id)}"
        )


def is_id(value: object) -> TypeGuard[str]:
    """Whether a value is 1 to 256 bytes of UTF-8."""
    return _is_text(value, ID_BYTES) and bool(value)


def _is_text(value: object, max_bytes: int) -> TypeGuard[str]:
    try:
        return isinstance(value, str) and len(value.encode()) <= max_bytes
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8.
        return False


def _is_integer(value: object, largest: int) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= largest


def _id_field(event: Fields, field: str) -> str:
    value = event.get(field, _ABSENT)
    if not is_id(value):
        raise _invalid(field, value, AN_ID)
    return value


# Candidates


@dataclass
class _Judged:
    """The candidates of one event, in its order, and counts of features over all of them.

    The first three are columns of the accepted candidates.
    """

    item_ids: list[str] = field(default_factory=list)
    sources: list[str | None] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)
    refused: list[RefusedCandidate] = field(default_factory=list)
    missing: int = 0
    unknown: int = 0


class _Row(NamedTuple):
    """The features of one candidate, and counts of the names that are missing or unknown."""

    row: bytes
    missing: int = 0
    unknown: int = 0


def _judge_candidates(
    candidates: Sequence[object], surface: Surface, raw: bytes, sources: SourceNames
) -> _Judged:
    digest = blake2b(raw, digest_size=16)
    judged = _Judged()
    for position, candidate in enumerate(candidates):
        try:
            item_id, source, features = _judge_candidate(candidate, surface)
        except CandidateRefused as refusal:
            judged.refused.append(
                RefusedCandidate(
                    position=position,
                    identity=_identity(candidate, position, digest),
                    reason=refusal.reason,
                    message=refusal.message,
                )
            )
            continue

        judged.item_ids.append(item_id)
        judged.sources.append(sources[source] if source else None)
        judged.rows.append(features.row)
        judged.missing += features.missing
        judged.unknown += features.unknown
    return judged


def _judge_candidate(candidate: object, surface: Surface) -> tuple[str, str | None, _Row]:
    """Its item id, its source and its features. Raises CandidateRefused."""
    if not isinstance(candidate, dict):
        raise CandidateRefused(CandidateReason.SHAPE, _message("candidate", candidate, "an object"))

    item_id = candidate.get("item_id", _ABSENT)
    if not is_id(item_id):
        raise CandidateRefused(CandidateReason.ITEM_ID, _message("item_id", item_id, AN_ID))

    source = candidate.get("source")
    if source is not None and not _is_text(source, SOURCE_BYTES):
        expected = f"at most {SOURCE_BYTES} bytes of UTF-8, or null"
        raise CandidateRefused(CandidateReason.SOURCE, _message("source", source, expected))

    features = _judge_features(candidate.get("features", _ABSENT), surface)
    return item_id, source, features


def _identity(candidate: object, position: int, event_digest: blake2b) -> str | bytes:
    """What a refused candidate is counted by: its id if it has a valid one, or else a digest of the
    event and the position.
    """
    item_id = candidate.get("item_id") if isinstance(candidate, dict) else None
    if is_id(item_id):
        return item_id
    digest = event_digest.copy()
    digest.update(position.to_bytes(8, "little"))
    return digest.digest()


def _judge_features(value: object, surface: Surface) -> _Row:
    """The features of a candidate, in one of these forms:

    - none at all, if the surface looks features up
    - a list of numbers by position
    - an object of numbers by name
    - bytes: float32 by position (Protobuf only)

    Raises CandidateRefused.
    """
    feature_set = surface.feature_set

    # Protobuf cannot tell an empty list or map from an absent one. So JSON does not either.
    is_empty = value is _ABSENT or value is None or value in ([], {})
    if is_empty and surface.absent_row is not None:
        return _Row(surface.absent_row)

    if isinstance(value, list):
        return _Row(feature_set.pack_positional(numbers(value)))
    if isinstance(value, dict):
        known: dict[str, float] = {}
        for name in feature_set.names:
            if name in value:
                known[name] = _number(f"features.{name}", value[name])
        row, missing, _ = feature_set.pack_named(known)
        return _Row(row, missing=missing, unknown=len(value) - len(known))
    if isinstance(value, bytes):
        return _Row(feature_set.pack_float32(value))

    if value is _ABSENT:
        expected = f"{feature_set.width} numbers (feature set {feature_set.name!r})"
        raise CandidateRefused(CandidateReason.FEATURE_COUNT, _message("features", value, expected))
    expected = "one object of numbers by name or one list of numbers by position"
    raise CandidateRefused(CandidateReason.FEATURE_TYPE, _message("features", value, expected))


def numbers(values: Sequence[object]) -> list[float]:
    """Features by position, as numbers. Raises CandidateRefused: feature-type."""
    return [_number(f"features[{position}]", value) for position, value in enumerate(values)]


def _number(field: str, value: object) -> float:
    if type(value) is float or type(value) is int:
        return value
    raise CandidateRefused(CandidateReason.FEATURE_TYPE, _message(field, value, "a number"))


# Messages


def shown(value: object) -> str:
    """A value as messages show it: its repr, cut at about 80 characters."""
    return _SHORT_REPR.repr(value)


def _message(field: str, value: object, expected: str) -> str:
    got = "not given" if value is _ABSENT else f"got {shown(value)}"
    return f"{field}: {got}, expected {expected}"


def _invalid(field: str, value: object, expected: str) -> EventRefused:
    return EventRefused(Reason.INVALID, _message(field, value, expected))
