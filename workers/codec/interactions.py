"""Interactions: what readers did with the items of a feed, in JSON or Protobuf.

What is wrong with a record is judged in this order: no value, its content type, its bytes, its
fields, the surface, the key. The first that is wrong refuses the record. `workers.outcomes.join`
judges what comes after: the time, the feed, the user and the item.

As for candidate events there is a fast path for sound JSON, and one judge for all the rest.
"""

import math
from typing import Annotated

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Meta, Struct

from workers.codec.formats import Format, Headers, seen_format, stated_format, unframe
from workers.codec.generated.interaction_pb2 import Interaction as WireInteraction
from workers.codec.json_events import parse as parse_json
from workers.codec.judge import (
    ALWAYS_FITS,
    AN_ID,
    ID_BYTES,
    LATEST_MS,
    Fields,
    check_key,
    is_id,
    known_surface,
    shown,
)
from workers.outcomes.records import Interaction
from workers.ranking.outcome_rules import KIND_CHARACTERS
from workers.ranking.refusal import EventRefused, Reason
from workers.ranking.surface import Surfaces

_Id = Annotated[str, Meta(min_length=1, max_length=ID_BYTES)]
# A named tuple's own constructor is a Python function: this one costs half of it.
_new = tuple.__new__


class _Wire(Struct, gc=False, omit_defaults=True):
    request_id: _Id
    surface: str
    user_id: _Id
    item_id: _Id
    kind: Annotated[str, Meta(min_length=1, max_length=KIND_CHARACTERS)]
    at: Annotated[int, Meta(ge=0, le=LATEST_MS)]
    value: float | None = None


_decode_json = msgspec.json.Decoder(_Wire).decode
_encode_json = msgspec.json.Encoder().encode


def encode_interaction(interaction: Interaction) -> bytes:
    """Encode an interaction in JSON, as a product would send it."""
    return _encode_json(_Wire(**interaction._asdict()))


class InteractionDecoder:
    """Decodes interactions. `default` is the format of a record that states none."""

    def __init__(self, surfaces: Surfaces, default: Format = Format.JSON) -> None:
        self._surfaces = surfaces
        self._default = default
        self._usual_headers = [("content-type", default.content_type)]

    def decode(
        self, value: bytes | None, key: bytes | None, headers: Headers | None = None
    ) -> Interaction:
        """Decode one record. Raises EventRefused with the reason and a message for its producer."""
        if value is None:
            raise EventRefused(Reason.NULL_VALUE, "value: got null, expected an interaction")

        stated = None
        if headers and headers != self._usual_headers:
            stated = stated_format(headers)
        if value[:1] == b"\0":
            stated, value = unframe(value, stated)

        if (stated or self._default) is Format.PROTOBUF:
            return self._judge(_fields_of(_parse_protobuf(value)), key)
        interaction = self._decode_sound_json(value, key)
        if interaction is None:
            return self._judge(parse_json(value), key)
        return interaction

    def decode_as_seen(self, value: bytes | None, key: bytes | None) -> Interaction:
        """Decode a record whose headers cannot be read, by the format that its bytes show. Raises
        EventRefused.
        """
        if not value or value[:1] == b"\0":
            return self.decode(value, key)
        return self.decode(value, key, [("content-type", seen_format(value).content_type)])

    def _decode_sound_json(self, value: bytes, key: bytes | None) -> Interaction | None:
        """The interaction if all of it is sound. None if the judge must say what is wrong."""
        try:
            if not value.isascii():
                value.decode()  # the typed decoder does not look into strings that it skips
            wire = _decode_json(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

        longest = max(len(wire.request_id), len(wire.user_id), len(wire.item_id))
        if longest > ALWAYS_FITS or wire.surface not in self._surfaces:
            return None
        if key != wire.request_id.encode():
            return None
        if wire.value is not None and not math.isfinite(wire.value):
            return None
        return _new(
            Interaction,
            (
                wire.request_id,
                wire.surface,
                wire.user_id,
                wire.item_id,
                wire.kind,
                wire.value,
                wire.at,
            ),
        )

    def _judge(self, fields: object, key: bytes | None) -> Interaction:
        """Judge every field on its own. Raises EventRefused."""
        if not isinstance(fields, dict):
            raise _invalid("interaction", fields, "an object")
        request_id = _id(fields, "request_id")
        surface = fields.get("surface")
        if not isinstance(surface, str) or not surface:
            raise _wrong(fields, "surface", "the name of a surface")
        user_id = _id(fields, "user_id")
        item_id = _id(fields, "item_id")
        kind = fields.get("kind")
        if not isinstance(kind, str) or not 1 <= len(kind) <= KIND_CHARACTERS or not _is_utf8(kind):
            raise _wrong(fields, "kind", f"1 to {KIND_CHARACTERS} characters")
        value = fields.get("value")
        if value is not None and not _is_finite(value):
            raise _wrong(fields, "value", "a finite number, or null")
        at = fields.get("at")
        if type(at) is not int or not 0 <= at <= LATEST_MS:
            raise _wrong(
                fields, "at", f"an integer of milliseconds since the epoch, 0 to {LATEST_MS}"
            )

        known_surface(surface, self._surfaces)
        check_key(key, request_id)
        return Interaction(
            request_id=request_id,
            surface=surface,
            user_id=user_id,
            item_id=item_id,
            kind=kind,
            value=None if value is None else float(value),
            at=at,
        )


def _parse_protobuf(value: bytes) -> WireInteraction:
    try:
        return WireInteraction.FromString(value)
    except DecodeError as error:
        raise EventRefused(
            Reason.MALFORMED, f"Protobuf: {error}, expected trimtab.v1.Interaction"
        ) from None


def _fields_of(wire: WireInteraction) -> Fields:
    """The message as JSON would give it: what is absent is no key."""
    fields: dict[str, object] = {}
    for name in ("request_id", "surface", "user_id", "item_id", "kind"):
        text = getattr(wire, name)
        if text:
            fields[name] = text
    for name in ("value", "at"):
        if wire.HasField(name):
            fields[name] = getattr(wire, name)
    return fields


def _id(fields: Fields, name: str) -> str:
    value = fields.get(name)
    if not is_id(value):
        raise _wrong(fields, name, AN_ID)
    return value


def _is_utf8(text: str) -> bool:
    """Whether the text has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_finite(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _wrong(fields: Fields, name: str, expected: str) -> EventRefused:
    if name not in fields:
        return EventRefused(Reason.INVALID, f"{name}: not given, expected {expected}")
    return _invalid(name, fields[name], expected)


def _invalid(name: str, value: object, expected: str) -> EventRefused:
    return EventRefused(Reason.INVALID, f"{name}: got {shown(value)}, expected {expected}")
