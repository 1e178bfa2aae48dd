"""Candidate events in JSON: a fast path for sound events, and the truth for all others.

The fast path takes only what the truth takes, with an equal event; whatever it cannot decide at
once it leaves to the truth, which finds out what is wrong. Of duplicate keys the last counts, even
after a first of the wrong type. `NaN` and `Infinity` are no JSON. A number too large for float64 is
infinite, and so no finite feature.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, NamedTuple, NoReturn

import msgspec
from msgspec import Meta, Struct

from workers.codec.judge import ALWAYS_FITS, ID_BYTES, LATEST_MS, MAX_EXPECTED, SOURCE_BYTES, judge
from workers.codec.sources import SourceNames
from workers.ranking.refusal import CandidateRefused, EventRefused, Reason
from workers.ranking.request import Candidate, Event
from workers.ranking.surface import Surface, Surfaces

_Id = Annotated[str, Meta(min_length=1, max_length=ID_BYTES)]
_Source = Annotated[str, Meta(max_length=SOURCE_BYTES)]

_EXACT_DIGITS = 20
# A named tuple's own constructor is a Python function: this one costs half of it.
_new = tuple.__new__


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


class _Plan(NamedTuple):
    """A surface, and what packs its features; `bare` is the row of a candidate without any, where
    it may come so.
    """

    surface: Surface
    pack_positional: Callable[[Sequence[float]], bytes]
    pack_named: Callable[[Mapping[str, float]], tuple[bytes, int, int]]
    bare: bytes | None


class JsonEvents:
    """Decodes JSON events of some surfaces."""

    def __init__(self, surfaces: Surfaces, sources: SourceNames) -> None:
        self._surfaces, self._sources = surfaces, sources
        self._plans = {name: _plan(surface) for name, surface in surfaces.items()}
        self._decode = msgspec.json.Decoder(_Event).decode

    def checked(self, value: bytes, key: bytes | None) -> Event:
        """Judge every field on its own. Raises EventRefused."""
        return judge(parse(value), value, key, self._surfaces, self._sources)

    def fast(self, value: bytes, key: bytes | None) -> Event | None:
        """The event if all of it is sound; None where the truth must be asked."""
        try:
            if not value.isascii():
                value.decode()  # the typed decoder does not look into strings that it skips
            wire = self._decode(value)
            plan = self._plans.get(wire.surface)
            if (
                plan is None
                or key != wire.request_id.encode()
                or not (wire.candidates or wire.last)
            ):
                return None
            return _pack(wire, plan, self._sources)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, CandidateRefused):
            return None


def _plan(surface: Surface) -> _Plan:
    features = surface.feature_set
    return _Plan(surface, features.pack_positional, features.pack_named, surface.absent_row)


def _pack(wire: _Event, plan: _Plan, sources: SourceNames) -> Event | None:
    """The hot loop. None where an id or a source has too many bytes, or features lack. Raises
    CandidateRefused.
    """
    surface, pack_positional, pack_named, bare = plan
    request_id, user_id = wire.request_id, wire.user_id
    fits = True
    if len(request_id) > ALWAYS_FITS or len(user_id) > ALWAYS_FITS:
        fits = _fits(request_id) and _fits(user_id)
    candidates: list[Candidate] = []
    missing = unknown = 0
    for candidate in wire.candidates:
        item_id, source, features = candidate.item_id, candidate.source, candidate.features
        if len(item_id) > ALWAYS_FITS:
            fits = fits and _fits(item_id)
        if source is not None:
            if len(source) > ALWAYS_FITS:
                fits = fits and _fits(source)
            source = sources[source] if source else None
        if not features and bare is not None:
            row = bare
        elif features is None:
            return None
        elif isinstance(features, list):
            row = pack_positional(features)
        else:
            row, absent, further = pack_named(features)
            missing += absent
            unknown += further
        candidates.append(_new(Candidate, (item_id, source, row)))
    if not fits:
        return None
    at, expected, last = wire.requested_at, wire.expected, wire.last is True
    return _new(
        Event, (request_id, surface, user_id, at, expected, last, candidates, [], missing, unknown)
    )


def _fits(text: str) -> bool:
    return len(text.encode()) <= ID_BYTES


def parse(value: bytes) -> object:
    """JSON as plain values. Raises EventRefused: malformed."""
    try:
        return json.loads(value.decode(), parse_constant=_no_json, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise _malformed(f"byte {error.start} is no UTF-8") from None
    except RecursionError:
        raise _malformed("it nests too deeply") from None
    except ValueError as error:
        raise _malformed(str(error)) from None


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON, expected a number")


def _integer(digits: str) -> int | float:
    # Past these digits every integer is out of range wherever an integer is expected, and slow to
    # read.
    return int(digits) if len(digits) <= _EXACT_DIGITS else float(digits)


def _malformed(what: str) -> EventRefused:
    return EventRefused(Reason.MALFORMED, f"JSON: {what}")
