"""A request that is still open: what has come so far, held as compactly as Python allows."""

from workers.ranking.refusal import CandidateReason, RefusedCandidate
from workers.ranking.request import Completion, Event, Request

_REQUEST_BYTES = 1200  # measured: the object, its dicts and its strings, before the first candidate
_LOOSE_ROWS = 8  # joined as soon as there are as many: a row of its own costs 50 bytes, a growing buffer its holes
_CANDIDATE_BYTES = (
    110  # measured: an id's string object and its place in the dict, beside its characters
)


class OpenRequest:
    """Grows by whole events until it closes. Its identity is what its first event said."""

    __slots__ = (
        "bytes_held",
        "due",
        "expected",
        "first_offset",
        "opened_at",
        "refused",
        "request_id",
        "requested_at",
        "rows",
        "sources",
        "surface",
        "user_id",
    )

    def __init__(self, event: Event, first_offset: int, opened_at: int, due: int) -> None:
        self.request_id = event.request_id
        self.surface = event.surface
        self.user_id = event.user_id
        self.requested_at = event.requested_at
        self.expected: int | None = None
        self.sources: dict[str, str | None] = {}
        self.rows: list[bytes] = []
        self.refused: set[str | bytes] = set()
        self.first_offset = first_offset
        self.opened_at = opened_at
        self.due = due
        self.bytes_held = _REQUEST_BYTES

    def conflict(self, event: Event) -> str | None:
        """Say in which field the event contradicts what is known of the request; None where it
        agrees.
        """
        if event.surface is not self.surface:
            return _differs("surface", event.surface.name, self.surface.name)
        if event.user_id != self.user_id:
            return _differs("user_id", event.user_id, self.user_id)
        if event.requested_at != self.requested_at:
            return _differs("requested_at", event.requested_at, self.requested_at)
        if event.expected is not None and self.expected not in (None, event.expected):
            return _differs("expected", event.expected, self.expected)
        return None

    def add(self, event: Event) -> list[RefusedCandidate]:
        """Take the event's candidates; return every refused one, those past `max_candidates`
        included.

        An item that stands in the request already changes nothing: the first counts.
        """
        if event.expected is not None:
            self.expected = event.expected
        sources, rows, limit, held = self.sources, self.rows, self.surface.max_candidates, 0
        further: list[int] = []
        for index, (item_id, source, row) in enumerate(event.candidates):
            if item_id in sources:
                continue
            if len(sources) >= limit:
                further.append(index)
                continue
            sources[item_id] = source
            rows.append(row)
            if len(sources) % _LOOSE_ROWS == 0:
                rows[-_LOOSE_ROWS:] = [b"".join(rows[-_LOOSE_ROWS:])]
            held += _CANDIDATE_BYTES + len(item_id) + len(row)
        self.bytes_held += held
        refused = event.refused + _past_the_limit(event, further) if further else event.refused
        if refused:
            for candidate in refused:
                self._count_refused(candidate.identity)
        return refused

    def _count_refused(self, identity: str | bytes) -> None:
        if identity not in self.refused:
            self.refused.add(identity)
            self.bytes_held += _CANDIDATE_BYTES + len(identity)

    def completion(self, event: Event) -> Completion | None:
        """Judge after an event whether the request is complete: `full` comes before `marker`."""
        if self.expected is not None:
            distinct = len(self.sources) + (self._refused_only() if self.refused else 0)
            if distinct >= self.expected:
                return Completion.FULL
        return Completion.MARKER if event.last else None

    def _refused_only(self) -> int:
        return len(self.refused - self.sources.keys())

    def close(self, completion: Completion) -> Request:
        """The closed request. The open one is not to be used again."""
        return Request(
            request_id=self.request_id,
            surface=self.surface,
            user_id=self.user_id,
            requested_at=self.requested_at,
            item_ids=tuple(self.sources),
            sources=tuple(self.sources.values()),
            rows=b"".join(self.rows),
            completion=completion,
            refused=self._refused_only(),
            first_offset=self.first_offset,
            opened_at=self.opened_at,
        )


def _differs(field: str, got: object, known: object) -> str:
    return f"{field}: got {got!r}, expected {known!r} as an earlier event of this request said"


def _past_the_limit(event: Event, indices: list[int]) -> list[RefusedCandidate]:
    """Refuse the sound candidates at `indices`, each named by its place among all candidates of the
    event.
    """
    taken = {candidate.position for candidate in event.refused}
    places = [p for p in range(len(event.candidates) + len(taken)) if p not in taken]
    allowed = f"expected at most max_candidates = {event.surface.max_candidates} a request"
    return [
        RefusedCandidate(
            places[i], item_id, CandidateReason.TOO_MANY, f"item_id {item_id!r}: {allowed}"
        )
        for i, item_id in ((i, event.candidates[i].item_id) for i in indices)
    ]


def bytes_of(request: Request) -> int:
    """What a closed request holds, by the same measure as an open one."""
    ids = sum(map(len, request.item_ids))
    return _REQUEST_BYTES + _CANDIDATE_BYTES * len(request.item_ids) + ids + len(request.rows)
