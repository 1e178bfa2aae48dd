"""From a record to a candidate event: find its format, take its framing off, decode it.

What is wrong with a record is judged in this order: no value, its content type, its bytes, the
envelope's fields, the surface, the key. The first that is wrong refuses the event.
"""

from workers.codec.formats import Format, Headers, seen_format, stated_format, unframe
from workers.codec.json_events import JsonEvents
from workers.codec.protobuf_events import ProtobufEvents
from workers.codec.sources import SourceNames
from workers.ranking.refusal import EventRefused, Reason
from workers.ranking.request import Event
from workers.ranking.surface import Surfaces


class Decoder:
    """Decodes the events of one topic; `default` is the format of a record that states none."""

    def __init__(self, surfaces: Surfaces, default: Format = Format.JSON) -> None:
        sources = SourceNames()
        in_json, in_protobuf = JsonEvents(surfaces, sources), ProtobufEvents(surfaces, sources)
        self._events: dict[Format, JsonEvents | ProtobufEvents] = {
            Format.JSON: in_json,
            Format.PROTOBUF: in_protobuf,
        }
        self._usual = [("content-type", default.content_type)]
        self._default = self._events[default]

    def decode(
        self, value: bytes | None, key: bytes | None, headers: Headers | None = None
    ) -> Event:
        """Decode one record. Raises EventRefused with the reason and a message for its producer."""
        if value is None:
            raise EventRefused(Reason.NULL_VALUE, "value: got null, expected a candidate event")
        stated = None if not headers or headers == self._usual else stated_format(headers)
        if value[:1] == b"\0":
            stated, value = unframe(value, stated)
        events = self._default if stated is None else self._events[stated]
        event = events.fast(value, key)
        return events.checked(value, key) if event is None else event

    def decode_as_seen(self, value: bytes | None, key: bytes | None) -> Event:
        """Decode a record whose headers cannot be read, by the format that its bytes show. Raises
        EventRefused.
        """
        is_framed = value is not None and value[:1] == b"\0"
        if not value or is_framed:
            return self.decode(value, key)
        return self.decode(value, key, [("content-type", seen_format(value).content_type)])
