"""Candidate events in Protobuf (schemas/candidate.proto): a fast path for valid events, and a
checked path for all others, as in json_events.py.

- An empty string counts as absent.
- A candidate gives its features in exactly one of three fields. `features_f32`, little-endian
  float32, costs least: its bytes are checked and kept as they are.
"""

from typing import NamedTuple

from google.protobuf.message import DecodeError

from workers.codec.generated.candidate_pb2 import Candidate as WireCandidate
from workers.codec.generated.candidate_pb2 import CandidateEvent
from workers.codec.judge import (
    ALWAYS_FITS,
    ID_BYTES,
    LATEST_MS,
    MAX_EXPECTED,
    Fields,
    SourceNames,
    judge,
)
from workers.ranking.features import FeatureSet
from workers.ranking.refusal import CandidateRefused, EventRefused, Reason
from workers.ranking.request import Event
from workers.ranking.surface import Surface, Surfaces

_new = tuple.__new__  # See json_events.py.


class _SurfaceDecoding(NamedTuple):
    """A surface, and what its candidates need, looked up once."""

    surface: Surface
    feature_set: FeatureSet
    row_bytes: int
    absent_row: bytes | None
    """The row of a candidate without features. None if it must have features."""


class ProtobufEventDecoder:
    """Decodes the Protobuf events of some surfaces."""

    def __init__(self, surfaces: Surfaces, sources: SourceNames) -> None:
        self._surfaces = surfaces
        self._sources = sources

        self._by_surface: dict[str, _SurfaceDecoding] = {}
        for name, surface in surfaces.items():
            self._by_surface[name] = _SurfaceDecoding(
                surface=surface,
                feature_set=surface.feature_set,
                row_bytes=surface.feature_set.row_bytes,
                absent_row=surface.absent_row,
            )

    def decode_checked(self, value: bytes, key: bytes | None) -> Event:
        """Judge every field by itself. Raises EventRefused."""
        return judge(plain(parse(value)), value, key, self._surfaces, self._sources)

    def decode_fast(self, value: bytes, key: bytes | None) -> Event | None:
        """The event if all of it is valid. None if the checked path must decide.

        Raises EventRefused: malformed.
        """
        wire = parse(value)
        decoding = self._by_surface.get(wire.surface)
        if decoding is None or key != wire.request_id.encode():
            return None
        try:
            return _event_of(wire, decoding, self._sources)
        except CandidateRefused:
            return None


def _event_of(wire: CandidateEvent, decoding: _SurfaceDecoding, names: SourceNames) -> Event | None:
    """None if the checked path must decide. Raises CandidateRefused.

    The loop runs once for each candidate. So everything that it needs is a local name, each
    attribute of a message is read once, and the numbers of all candidates are checked together.
    """
    surface, feature_set, row_bytes, absent_row = decoding
    request_id = wire.request_id
    user_id = wire.user_id
    requested_at = wire.requested_at
    expected: int | None = wire.expected
    last = wire.last
    listed = wire.candidates[:]  # a list, which is read faster than the field

    is_valid = (
        _is_id(request_id)
        and _is_id(user_id)
        and 0 < requested_at <= LATEST_MS  # a 0 may be an absent field
        and 0 <= wire.expected <= MAX_EXPECTED
    )
    if not is_valid or not (listed or last):
        return None
    if expected == 0 and not wire.HasField("expected"):
        expected = None

    item_ids: list[str] = []
    sources: list[str | None] = []
    rows: list[bytes] = []
    has_absent = False
    missing = 0
    unknown = 0
    for candidate in listed:
        item_id = candidate.item_id
        source = candidate.source
        row = candidate.features_f32
        if not _is_id(item_id) or len(source) > ALWAYS_FITS:
            return None
        item_ids.append(item_id)
        sources.append(names[source] if source else None)

        if len(row) != row_bytes or candidate.features or candidate.features_by_name:
            packed = _pack_features(candidate, feature_set, absent_row)
            if packed is None:
                return None
            row, missing_here, unknown_here = packed
            has_absent = has_absent or row is absent_row
            missing += missing_here
            unknown += unknown_here
        rows.append(row)

    joined = b"".join(rows)
    given = joined
    if has_absent:
        given = b"".join([row for row in rows if row is not absent_row])
    if given and not feature_set.are_finite(given):
        return None

    # In the order of Event's fields. An event may have a single candidate, so its own cost counts.
    fields = (
        request_id,
        surface,
        user_id,
        requested_at,
        expected,
        last,
        item_ids,
        sources,
        joined,
        (),
        missing,
        unknown,
    )
    return _new(Event, fields)


def _pack_features(
    wire: WireCandidate, feature_set: FeatureSet, absent_row: bytes | None
) -> tuple[bytes, int, int] | None:
    """The row of a candidate whose features are not float32 bytes of the right length, with counts
    of the names that are missing or unknown. None if the checked path must decide.

    Raises CandidateRefused.
    """
    features = _features(wire)
    if isinstance(features, list):
        return feature_set.pack_positional(features), 0, 0
    if isinstance(features, dict):
        return feature_set.pack_named(features)
    if features is None and absent_row is not None:
        return absent_row, 0, 0
    return None


def _is_id(text: str) -> bool:
    return 0 < len(text) <= ALWAYS_FITS or 0 < len(text.encode()) <= ID_BYTES


def _features(
    wire: WireCandidate,
) -> bytes | list[float] | dict[str, float] | tuple[str, ...] | None:
    """The features in the field that gives them. The names of the fields if several do. None if
    none does.
    """
    raw = wire.features_f32
    positional = wire.features
    named = wire.features_by_name
    if raw and not positional and not named:
        return raw

    given = [f for f in ("features", "features_f32", "features_by_name") if getattr(wire, f)]
    if len(given) > 1:
        return tuple(given)
    return positional[:] or dict(named) or None


def parse(value: bytes) -> CandidateEvent:
    """Raises EventRefused: malformed."""
    try:
        return CandidateEvent.FromString(value)
    except DecodeError as error:
        raise EventRefused(
            Reason.MALFORMED, f"Protobuf: {error}, expected trimtab.v1.CandidateEvent"
        ) from None


def plain(message: CandidateEvent) -> Fields:
    """The message as JSON would give it. A field that is absent is not a key."""
    fields: dict[str, object] = {}
    for name in ("request_id", "surface", "user_id"):
        text = getattr(message, name)
        if text:
            fields[name] = text
    for name in ("requested_at", "expected", "last"):
        if message.HasField(name):
            fields[name] = getattr(message, name)
    fields["candidates"] = [_plain_candidate(candidate) for candidate in message.candidates]
    return fields


def _plain_candidate(wire: WireCandidate) -> Fields:
    fields: dict[str, object] = {}
    if wire.item_id:
        fields["item_id"] = wire.item_id
    if wire.source:
        fields["source"] = wire.source
    features = _features(wire)
    if features is not None:
        fields["features"] = features
    return fields
