"""Candidate events in JSON: a fast path for valid events, and a checked path for all others.

- The fast path accepts only what the checked path accepts, with an equal event. A property in the
  tests holds the two together.
- If the fast path cannot decide, the checked path does, by the rules in judge.py. It finds out what
  is wrong.
- Of duplicate keys the last one counts, even if the first has the wrong type.
- `NaN` and `Infinity` are not JSON. A number too large for float64 is infinite, and so not a valid
  feature.
"""

import json
import struct
from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple, NoReturn

import msgspec
from msgspec import Meta, Struct

from workers.codec.judge import (
    ALWAYS_FITS,
    ID_BYTES,
    LATEST_MS,
    MAX_EXPECTED,
    SOURCE_BYTES,
    SourceNames,
    judge,
)
from workers.ranking.refusal import CandidateRefused, EventRefused, Reason
from workers.ranking.request import Event
from workers.ranking.surface import Surface, Surfaces

_Id = Annotated[str, Meta(min_length=1, max_length=ID_BYTES)]
_Source = Annotated[str, Meta(max_length=SOURCE_BYTES)]

# Longer integers are out of range wherever an integer is expected, and slow to read.
_MAX_DIGITS = 20

# The constructor of a named tuple is a Python function. This one costs half as much.
_new = tuple.__new__

# What the fast path raises of an event that the checked path must judge.
_NOT_FAST = (
    msgspec.DecodeError,
    UnicodeDecodeError,
    RecursionError,
    CandidateRefused,
    struct.error,
    OverflowError,
)


class _Candidate(Struct, gc=False):
    item_id: _Id
    features: list[float] | dict[str, float] | None = None
    source: _Source | None = None


class _Event(Struct, gc=False):
    request_id: _Id
    surface: str
    user_id: _Id
    requested_at: Annotated[int, Meta(ge=0, le=LATEST_MS)]
    candidates: list[_Candidate]
    expected: Annotated[int, Meta(ge=0, le=MAX_EXPECTED)] | None = None
    last: bool | None = None


class _SurfaceDecoding(NamedTuple):
    """A surface, and what its candidates need, looked up once."""

    surface: Surface
    pack_finite: Callable[..., bytes]
    pack_named: Callable[[Mapping[str, float]], tuple[bytes, int, int]]
    absent_row: bytes | None
    """The row of a candidate without features. None if it must have features."""


class JsonEventDecoder:
    """Decodes the JSON events of some surfaces."""

    def __init__(self, surfaces: Surfaces, sources: SourceNames) -> None:
        self._surfaces = surfaces
        self._sources = sources
        self._decode = msgspec.json.Decoder(_Event).decode

        self._by_surface: dict[str, _SurfaceDecoding] = {}
        for name, surface in surfaces.items():
            self._by_surface[name] = _SurfaceDecoding(
                surface=surface,
                pack_finite=surface.feature_set.pack_finite,
                pack_named=surface.feature_set.pack_named,
                absent_row=surface.absent_row,
            )

    def decode_checked(self, value: bytes, key: bytes | None) -> Event:
        """Judge every field by itself. Raises EventRefused."""
        return judge(parse(value), value, key, self._surfaces, self._sources)

    def decode_fast(self, value: bytes, key: bytes | None) -> Event | None:
        """The event if all of it is valid. None if the checked path must decide."""
        try:
            if not value.isascii():
                # The typed decoder does not check the UTF-8 of strings that it skips.
                value.decode()
            wire = self._decode(value)
            decoding = self._by_surface.get(wire.surface)
            if decoding is None or key != wire.request_id.encode():
                return None
            if len(wire.candidates) == 1:
                event = _event_of_one(wire, decoding, self._sources)
                if event is not None:
                    return event
            if not wire.candidates and not wire.last:
                return None
            return _event_of(wire, decoding, self._sources)
        except _NOT_FAST:
            return None


def _event_of_one(wire: _Event, decoding: _SurfaceDecoding, names: SourceNames) -> Event | None:
    """The usual event of one candidate, whose features are given by position. None if there is
    anything that `_event_of` must look at. Raises errors of `_NOT_FAST`.
    """
    (candidate,) = wire.candidates
    request_id = wire.request_id
    user_id = wire.user_id
    item_id = candidate.item_id
    source = candidate.source
    features = candidate.features

    fits = (
        len(request_id) <= ALWAYS_FITS
        and len(user_id) <= ALWAYS_FITS
        and len(item_id) <= ALWAYS_FITS
        and (source is None or len(source) <= ALWAYS_FITS)
    )
    if not fits or not features or not isinstance(features, list):
        return None

    # In the order of Event's fields. JSON has no number that is not finite, so packing checks all.
    fields = (
        request_id,
        decoding.surface,
        user_id,
        wire.requested_at,
        wire.expected,
        wire.last is True,
        [item_id],
        [names[source] if source else None],
        decoding.pack_finite(*features),
        (),
        0,
        0,
    )
    return _new(Event, fields)


def _event_of(wire: _Event, decoding: _SurfaceDecoding, names: SourceNames) -> Event | None:
    """None if an id or a source has too many bytes, or if a candidate lacks features. Raises
    errors of `_NOT_FAST`.

    The loop runs once for each candidate. So everything that it needs is a local name, and the
    length in bytes is only computed if there are enough characters to exceed the limit.
    """
    surface, pack_finite, pack_named, absent_row = decoding
    request_id = wire.request_id
    user_id = wire.user_id
    fits = True
    if len(request_id) > ALWAYS_FITS or len(user_id) > ALWAYS_FITS:
        fits = _fits(request_id) and _fits(user_id)

    item_ids: list[str] = []
    sources: list[str | None] = []
    rows: list[bytes] = []
    missing = 0
    unknown = 0
    for candidate in wire.candidates:
        item_id = candidate.item_id
        source = candidate.source
        features = candidate.features

        if len(item_id) > ALWAYS_FITS:
            fits = fits and _fits(item_id)
        if source is not None:
            if len(source) > ALWAYS_FITS:
                fits = fits and _fits(source)
            source = names[source] if source else None
        item_ids.append(item_id)
        sources.append(source)

        if not features and absent_row is not None:
            rows.append(absent_row)
        elif isinstance(features, list):
            # JSON has no number that is not finite, so packing it checks all.
            rows.append(pack_finite(*features))
        elif features is None:
            return None
        else:
            row, missing_here, unknown_here = pack_named(features)
            rows.append(row)
            missing += missing_here
            unknown += unknown_here
    if not fits:
        return None

    # In the order of Event's fields. An event may have a single candidate, so its own cost counts.
    fields = (
        request_id,
        surface,
        user_id,
        wire.requested_at,
        wire.expected,
        wire.last is True,
        item_ids,
        sources,
        b"".join(rows),
        (),
        missing,
        unknown,
    )
    return _new(Event, fields)


def _fits(text: str) -> bool:
    return len(text.encode()) <= ID_BYTES


def parse(value: bytes) -> object:
    """JSON as plain values. Raises EventRefused: malformed."""
    try:
        return json.loads(value.decode(), parse_constant=_refuse_constant, parse_int=_read_integer)
    except UnicodeDecodeError as error:
        raise _malformed(f"byte {error.start} is no UTF-8") from None
    except RecursionError:
        raise _malformed("it nests too deeply") from None
    except ValueError as error:
        raise _malformed(str(error)) from None


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON, expected a number")


def _read_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


def _malformed(problem: str) -> EventRefused:
    return EventRefused(Reason.MALFORMED, f"JSON: {problem}")
