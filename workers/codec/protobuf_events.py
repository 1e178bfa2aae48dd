"""Candidate events in Protobuf (schemas/candidate.proto): a fast path for sound events, the truth
for all others.

An empty string is absent. A candidate gives its features in exactly one of three fields;
`features_f32`, little-endian float32, is the fast lane: its bytes are checked and kept as they are.
"""

from collections.abc import Iterable

from google.protobuf.message import DecodeError

from workers.codec.generated.candidate_pb2 import Candidate as WireCandidate
from workers.codec.generated.candidate_pb2 import CandidateEvent
from workers.codec.judge import ALWAYS_FITS, ID_BYTES, LATEST_MS, MAX_EXPECTED, Fields, judge
from workers.codec.sources import SourceNames
from workers.ranking.refusal import CandidateRefused, EventRefused, Reason
from workers.ranking.request import Candidate, Event
from workers.ranking.surface import Surfaces

_new = tuple.__new__  # see workers.codec.json_events


class ProtobufEvents:
    """Decodes Protobuf events of some surfaces."""

    def __init__(self, surfaces: Surfaces, sources: SourceNames) -> None:
        self._surfaces, self._sources = surfaces, sources

    def checked(self, value: bytes, key: bytes | None) -> Event:
        """Judge every field on its own. Raises EventRefused."""
        return judge(plain(parse(value)), value, key, self._surfaces, self._sources)

    def fast(self, value: bytes, key: bytes | None) -> Event | None:
        """The event if all of it is sound; None where the truth must be asked. Raises EventRefused:
        malformed.
        """
        wire = parse(value)
        request_id, user_id, at, last = wire.request_id, wire.user_id, wire.requested_at, wire.last
        surface, listed = self._surfaces.get(wire.surface), wire.candidates
        expected = wire.expected if wire.HasField("expected") else None
        if (
            surface is None
            or key != request_id.encode()
            or not (_is_id(request_id) and _is_id(user_id))
        ):
            return None
        if not (0 < at <= LATEST_MS and 0 <= (expected or 0) <= MAX_EXPECTED and (listed or last)):
            return None
        event = Event(request_id, surface, user_id, at, expected, last, [], [])
        try:
            return self._add(event, listed)
        except CandidateRefused:
            return None

    def _add(self, event: Event, listed: Iterable[WireCandidate]) -> Event | None:
        feature_set, sources, candidates = (
            event.surface.feature_set,
            self._sources,
            event.candidates,
        )
        bare = event.surface.absent_row
        missing = unknown = 0
        for wire in listed:
            item_id, source, features = wire.item_id, wire.source, _features(wire)
            if not _is_id(item_id) or len(source) > ALWAYS_FITS:
                return None
            if type(features) is bytes:
                row = feature_set.pack_float32(features)
            elif type(features) is list:
                row = feature_set.pack_positional(features)
            elif type(features) is dict:
                row, absent, further = feature_set.pack_named(features)
                missing += absent
                unknown += further
            elif features is None and bare is not None:
                row = bare
            else:
                return None
            candidates.append(_new(Candidate, (item_id, sources[source] if source else None, row)))
        return event._replace(missing=missing, unknown=unknown) if missing or unknown else event


def _is_id(text: str) -> bool:
    return 0 < len(text) <= ALWAYS_FITS or 0 < len(text.encode()) <= ID_BYTES


def _features(
    wire: WireCandidate,
) -> bytes | list[float] | dict[str, float] | tuple[str, ...] | None:
    """What was given: one of the three fields, the names of several, or None."""
    raw, positional, named = wire.features_f32, wire.features, wire.features_by_name
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
    """The message as JSON would give it: what is absent is no key."""
    texts = {
        f: getattr(message, f) for f in ("request_id", "surface", "user_id") if getattr(message, f)
    }
    numbers = {
        f: getattr(message, f) for f in ("requested_at", "expected", "last") if message.HasField(f)
    }
    return {**texts, **numbers, "candidates": [_plain_candidate(c) for c in message.candidates]}


def _plain_candidate(wire: WireCandidate) -> Fields:
    given = {"item_id": wire.item_id, "source": wire.source, "features": _features(wire)}
    return {field: value for field, value in given.items() if value not in ("", None)}
