"""Files of events and of interactions, judged without Kafka: for `trimtab rank` and `trimtab
validate`.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from workers.assembly.assembler import NO_TIME, Assembler, Mark
from workers.codec.decoder import Decoder
from workers.codec.event_files import RawEvent, read_events, request_id_of
from workers.codec.formats import Format, Headers
from workers.codec.interactions import InteractionDecoder
from workers.outcomes.records import Interaction
from workers.ranking.refusal import EventRefused, Reason, candidates_message
from workers.ranking.request import Event, Request
from workers.ranking.surface import Surfaces


class AssembledEvent(NamedTuple):
    """One event of the file, and the requests that it has closed.

    `reason` and `message` say why the event, or candidates of it, were refused. `event` is None if
    it could not be decoded.
    """

    raw: RawEvent
    event: Event | None
    reason: Reason | None = None
    message: str = ""
    closed: tuple[Request, ...] = ()


class JudgedInteraction(NamedTuple):
    """One interaction of the file. `reason` and `message` say why it was refused, and
    `interaction` is None then.
    """

    raw: RawEvent
    interaction: Interaction | None
    reason: Reason | None = None
    message: str = ""


class FileAssembly:
    """Assembles the events of a file, of one surface or of all.

    No event is late: there is no deadline, no horizon and no clock. What is open at the end of the
    file is closed by `close_rest`.
    """

    def __init__(self, surfaces: Surfaces, surface: str | None = None) -> None:
        self._decoder = Decoder(surfaces)
        self._surface = surface
        self._assembler = Assembler(Mark(0, 0, NO_TIME, 0))
        self.refused = 0

    def events(self, file: BinaryIO, file_format: Format | None) -> Iterator[AssembledEvent]:
        """Assemble every event of the file in order. Events of other surfaces are left out."""
        for offset, raw in enumerate(read_events(file, file_format)):
            try:
                event = self._decoder.decode(raw.value, _key_of(raw), _headers_of(raw))
            except EventRefused as refusal:
                assembled = AssembledEvent(raw, None, refusal.reason, refusal.message)
            else:
                if self._surface not in (None, event.surface.name):
                    continue
                assembled = self._assemble(raw, event, offset)

            if assembled.reason is not None:
                self.refused += 1
            yield assembled

    def close_rest(self) -> list[Request]:
        """Close what is open, in the order of first events."""
        self._assembler.close_all()
        return self._assembler.take_closed()

    def _assemble(self, raw: RawEvent, event: Event, offset: int) -> AssembledEvent:
        self._assembler.observe(offset, NO_TIME)
        try:
            refused = self._assembler.take(event, offset, event.requested_at)
        except EventRefused as refusal:
            return AssembledEvent(raw, event, refusal.reason, refusal.message)

        closed = tuple(self._assembler.take_closed())
        if refused:
            message = candidates_message(refused)
            return AssembledEvent(raw, event, Reason.CANDIDATES, message, closed)
        return AssembledEvent(raw, event, closed=closed)


def judge_interactions(
    surfaces: Surfaces, file: BinaryIO, file_format: Format | None
) -> Iterator[JudgedInteraction]:
    """Judge every interaction of the file by itself. What only the stream shows is not judged:
    whether there is such a feed, and whether the interaction comes in time.
    """
    decoder = InteractionDecoder(surfaces)
    for raw in read_events(file, file_format):
        try:
            interaction = decoder.decode(raw.value, _key_of(raw), _headers_of(raw))
        except EventRefused as refusal:
            yield JudgedInteraction(raw, None, refusal.reason, refusal.message)
        else:
            yield JudgedInteraction(raw, interaction)


def _key_of(raw: RawEvent) -> bytes | None:
    """The key that a producer would give the record."""
    request_id = request_id_of(raw.value, raw.format)
    return None if request_id is None else request_id.encode("utf-8", "surrogatepass")


def _headers_of(raw: RawEvent) -> Headers:
    return [("content-type", raw.format.content_type)]


def refusal_text(file_name: str, judged: AssembledEvent | JudgedInteraction) -> str:
    """What was refused, for people: file, line, reason and message."""
    return f"{file_name}:{judged.raw.line}: {judged.reason}: {judged.message}"
