"""A file of events through the same core, without Kafka: for `trimtab rank` and `trimtab validate`."""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.codec.decoder import Decoder
from workers.codec.event_files import RawEvent, read_events, request_id_of
from workers.codec.formats import Format
from workers.ranking.refusal import EventRefused, Reason, RefusedCandidate, candidates_message
from workers.ranking.request import Event, Request
from workers.ranking.surface import Surfaces


class Taken(NamedTuple):
    """What became of one event of the file: taken, or refused with a reason and a message."""

    raw: RawEvent
    event: Event | None
    reason: Reason | None
    message: str
    closed: list[Request]


class OfflineAssembly:
    """Assembles a file. It judges no lateness: no deadline, no horizon, no clock; what is open at
    the end closes.
    """

    def __init__(self, surfaces: Surfaces, surface: str | None = None) -> None:
        self._decoder = Decoder(surfaces)
        self._surface = surface
        self._assembler = Assembler(Mark(0, 0, NO_TIME, 0))
        self.refused = 0

    def take(self, file: BinaryIO, form: Format | None) -> Iterator[Taken]:
        """Take every event of the file in order; events of other surfaces than the one asked for
        are passed over.
        """
        for offset, raw in enumerate(read_events(file, form)):
            taken = self._take(raw, offset)
            if taken.event is None or self._surface in (None, taken.event.surface.name):
                self.refused += taken.reason is not None
                yield taken

    def rest(self) -> list[Request]:
        """Close what is open, in order of first event."""
        self._assembler.close_all()
        return self._assembler.take_closed()

    def _take(self, raw: RawEvent, offset: int) -> Taken:
        event: Event | None = None
        try:
            event = self._decode(raw)
            if self._surface not in (None, event.surface.name):
                return Taken(raw, event, None, "", [])
            self._assembler.observe(offset, NO_TIME)
            refused = self._assembler.take(event, offset, event.requested_at)
        except EventRefused as refusal:
            return Taken(raw, event, refusal.reason, refusal.message, [])
        return _taken(raw, event, refused, self._assembler.take_closed())

    def _decode(self, raw: RawEvent) -> Event:
        request_id = request_id_of(raw.value, raw.format)
        key = None if request_id is None else request_id.encode("utf-8", "surrogatepass")
        return self._decoder.decode(raw.value, key, [("content-type", raw.format.content_type)])


def _taken(
    raw: RawEvent, event: Event, refused: list[RefusedCandidate], closed: list[Request]
) -> Taken:
    if refused:
        return Taken(raw, event, Reason.CANDIDATES, candidates_message(refused), closed)
    return Taken(raw, event, None, "", closed)
