"""A request that is still open: what has come so far, in as little memory as Python allows.

Half a million candidates may be open at once. So an item id and its source are one entry of a dict,
and the features of a candidate are bytes that are joined to longer ones.
"""

from workers.ranking.refusal import CandidateReason, RefusedCandidate
from workers.ranking.request import Completion, Event, Request

# Measured: the object, its dicts and its strings, before the first candidate.
_REQUEST_BYTES = 1200
# Measured: the string object of an id and its entry in the dict, without its characters.
_CANDIDATE_BYTES = 110
# Rows are joined when there are this many. A bytes object for each row would cost 50 bytes more a
# row, and a growing buffer would have unused room.
_LOOSE_ROWS = 8


class OpenRequest:
    """Grows by whole events until it closes.

    Surface, user and `requested_at` are those of its first event. `first_offset` is the offset of
    that event, `opened_at` the stream time (ms) before it, `due` the deadline (ms).
    """

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
        """How the event contradicts an earlier one of the request. None if it does not."""
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
        """Add the candidates of an event. Return the refused ones, including those past
        `max_candidates`.

        An item that is in the request already is ignored: its first candidate counts.
        """
        if event.expected is not None:
            self.expected = event.expected

        # The loop runs once for each candidate. Local names are quicker than attributes.
        sources = self.sources
        rows = self.rows
        limit = self.surface.max_candidates
        added_bytes = 0
        past_limit: list[int] = []
        for index, (item_id, source, row) in enumerate(event.candidates):
            if item_id in sources:
                continue
            if len(sources) >= limit:
                past_limit.append(index)
                continue

            sources[item_id] = source
            rows.append(row)
            if len(sources) % _LOOSE_ROWS == 0:
                rows[-_LOOSE_ROWS:] = [b"".join(rows[-_LOOSE_ROWS:])]
            added_bytes += _CANDIDATE_BYTES + len(item_id) + len(row)
        self.bytes_held += added_bytes

        refused = event.refused
        if past_limit:
            refused = refused + _refuse_past_limit(event, past_limit)
        for candidate in refused:
            identity = candidate.identity
            if identity not in self.refused:
                self.refused.add(identity)
                self.bytes_held += _CANDIDATE_BYTES + len(identity)
        return refused

    def completion(self, event: Event) -> Completion | None:
        """Whether the request is complete after an event that was added.

        - `full` if it has as many distinct candidates as expected. Refused ones count.
        - Otherwise `marker` if the event says that it is the last one.
        - Otherwise None.
        """
        if self.expected is not None:
            distinct = len(self.sources)
            if self.refused:
                distinct += self._refused_only()
            if distinct >= self.expected:
                return Completion.FULL
        return Completion.MARKER if event.last else None

    def _refused_only(self) -> int:
        """How many candidates were refused and not sent again in a valid form."""
        return len(self.refused - self.sources.keys())

    def close(self, completion: Completion) -> Request:
        """The closed request. Do not use the open one after this."""
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


def _differs(field: str, got: object, expected: object) -> str:
    return f"{field}: got {got!r}, expected {expected!r} as an earlier event of this request said"


def _refuse_past_limit(event: Event, indices: list[int]) -> list[RefusedCandidate]:
    """Refuse the candidates at these indices of `event.candidates`, which is without those that
    the codec refused. A refusal names the position among all candidates of the event.
    """
    refused_before = {candidate.position for candidate in event.refused}
    positions: list[int] = []
    for position in range(len(event.candidates) + len(refused_before)):
        if position not in refused_before:
            positions.append(position)

    expected = f"expected at most max_candidates = {event.surface.max_candidates} a request"
    refused: list[RefusedCandidate] = []
    for index in indices:
        item_id = event.candidates[index].item_id
        refused.append(
            RefusedCandidate(
                position=positions[index],
                identity=item_id,
                reason=CandidateReason.TOO_MANY,
                message=f"item_id {item_id!r}: {expected}",
            )
        )
    return refused


def bytes_of(request: Request) -> int:
    """What a closed request holds, by the same measure as an open one."""
    ids = sum(map(len, request.item_ids))
    return _REQUEST_BYTES + _CANDIDATE_BYTES * len(request.item_ids) + ids + len(request.rows)
