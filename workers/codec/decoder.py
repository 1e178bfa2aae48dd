"""From a record to a candidate event: find its format, remove its framing, decode it.

A record is judged in this order: whether it has a value, its content type, its bytes, the fields of
the envelope, the surface, the key. The first that is wrong refuses the event.
"""

from workers.codec.compiled import usual_readers
from workers.codec.formats import Format, Headers, seen_format, stated_format, unframe
from workers.codec.json_events import JsonEventDecoder
from workers.codec.judge import SourceNames
from workers.codec.protobuf_events import ProtobufEventDecoder
from workers.ranking.refusal import EventRefused, Reason
from workers.ranking.request import Event
from workers.ranking.surface import Surfaces


class Decoder:
    """Decodes the events of one topic. `default` is the format of a record that states none."""

    def __init__(self, surfaces: Surfaces, default: Format = Format.JSON) -> None:
        sources = SourceNames()
        self._usual_readers = usual_readers(surfaces, sources)
        self._read_default = self._usual_readers[default]
        self._decoders: dict[Format, JsonEventDecoder | ProtobufEventDecoder] = {
            Format.JSON: JsonEventDecoder(surfaces, sources),
            Format.PROTOBUF: ProtobufEventDecoder(surfaces, sources),
        }
        self._default = self._decoders[default]
        # Most records have exactly these headers, which state the default.
        self._usual_headers = [("content-type", default.content_type)]

    def decode(
        self, value: bytes | None, key: bytes | None, headers: Headers | None = None
    ) -> Event:
        """Decode one record. Raises EventRefused, with a message for its producer."""
        if value is None:
            raise EventRefused(Reason.NULL_VALUE, "value: got null, expected a candidate event")

        stated = None
        read_usual = self._read_default
        if headers and headers != self._usual_headers:
            stated = stated_format(headers)
            if stated is not None:
                read_usual = self._usual_readers[stated]

        event = read_usual(value, key)
        if event is not None:
            return event
        if value[:1] == b"\0":
            stated, value = unframe(value, stated)

        decoder = self._default if stated is None else self._decoders[stated]
        event = decoder.decode_fast(value, key)
        if event is None:
            event = decoder.decode_checked(value, key)
        return event

    def decode_as_seen(self, value: bytes | None, key: bytes | None) -> Event:
        """Decode a record whose headers cannot be read, by the format that its bytes show.

        Raises EventRefused.
        """
        is_framed = value is not None and value[:1] == b"\0"
        if not value or is_framed:
            return self.decode(value, key)
        return self.decode(value, key, [("content-type", seen_format(value).content_type)])
