"""Candidate events in Protobuf (schemas/candidate.proto): a fast path for valid events, and a
checked path for all others, as in json_events.py.

- An empty string counts as absent.
- A candidate gives its features in exactly one of three fields. `features_f32`, little-endian
  float32, costs least: its bytes are checked and kept as they are.
"""

from collections.abc import Iterable
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
from workers.ranking.refusal import CandidateRefused, EventRefused, Reason
from workers.ranking.request import Event
from workers.ranking.surface import Surface, Surfaces


class _Candidates(NamedTuple):
    """The candidates of an event, as columns of an Event."""

    item_ids: list[str]
    sources: list[str | None]
    rows: bytes
    missing: int
    unknown: int


class ProtobufEventDecoder:
    """Decodes the Protobuf events of some surfaces."""

    def __init__(self, surfaces: Surfaces, sources: SourceNames) -> None:
        self._surfaces = surfaces
        self._sources = sources

    def decode_checked(self, value: bytes, key: bytes | None) -> Event:
        """Judge every field by itself. Raises EventRefused."""
        return judge(plain(parse(value)), value, key, self._surfaces, self._sources)

    def decode_fast(self, value: bytes, key: bytes | None) -> Event | None:
        """The event if all of it is valid. None if the checked path must decide.

        Raises EventRefused: malformed.
        """
        wire = parse(value)
        request_id = wire.request_id
        user_id = wire.user_id
        requested_at = wire.requested_at
        expected: int | None = wire.expected
        listed = wire.candidates

        surface = self._surfaces.get(wire.surface)
        if surface is None or key != request_id.encode():
            return None
        if not _is_id(request_id) or not _is_id(user_id):
            return None
        if expected == 0 and not wire.HasField("expected"):
            expected = None
        # A `requested_at` of 0 may be absent.
        if not 0 < requested_at <= LATEST_MS or not 0 <= (expected or 0) <= MAX_EXPECTED:
            return None
        if not listed and not wire.last:
            return None

        try:
            candidates = self._read_candidates(listed, surface)
        except CandidateRefused:
            return None
        if candidates is None:
            return None
        # By position: an event may have a single candidate, so its own cost counts.
        return Event(
            request_id,
            surface,
            user_id,
            requested_at,
            expected,
            wire.last,
            candidates.item_ids,
            candidates.sources,
            candidates.rows,
            (),
            candidates.missing,
            candidates.unknown,
        )

    def _read_candidates(
        self, listed: Iterable[WireCandidate], surface: Surface
    ) -> _Candidates | None:
        """None if the checked path must decide. Raises CandidateRefused.

        The loop runs once for each candidate. So everything that it needs is a local name, and the
        numbers of all candidates are checked together.
        """
        feature_set = surface.feature_set
        row_bytes = feature_set.row_bytes
        absent_row = surface.absent_row
        names = self._sources

        item_ids: list[str] = []
        sources: list[str | None] = []
        rows: list[bytes] = []
        has_absent = False
        missing = 0
        unknown = 0
        for wire in listed:
            item_id = wire.item_id
            source = wire.source
            row = wire.features_f32
            if not _is_id(item_id) or len(source) > ALWAYS_FITS:
                return None

            if len(row) != row_bytes or wire.features or wire.features_by_name:
                features = _features(wire)
                if type(features) is list:
                    row = feature_set.pack_positional(features)
                elif type(features) is dict:
                    row, missing_here, unknown_here = feature_set.pack_named(features)
                    missing += missing_here
                    unknown += unknown_here
                elif features is None and absent_row is not None:
                    row = absent_row
                    has_absent = True
                else:
                    return None

            item_ids.append(item_id)
            sources.append(names[source] if source else None)
            rows.append(row)

        joined = b"".join(rows)
        given = joined
        if has_absent:
            given = b"".join([row for row in rows if row is not absent_row])
        if given and not feature_set.are_finite(given):
            return None

        return _Candidates(item_ids, sources, joined, missing, unknown)


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
