"""A request that is still open: the columns of its events, in as little memory as Python allows.

Half a million candidates may be open at once, and an object for each id and each row would take more
than what they hold. So the last few of a request are kept as they came, and all others are joined.

- An item that comes a second time is ignored: its first candidate counts.
- Whether items came twice is only looked at if it matters: if there may be as many as expected, if
  there may be more than `max_candidates`, and at the end. Once an item has come twice, or a
  candidate was refused, the request keeps the set of its items (`_distinct`), and each further
  candidate is looked at.
- Most events say what the one before said, and leave the request far from full. `add_usual` takes
  those: it runs once for each event of one candidate. `add` takes every event.
"""

from collections.abc import Sequence

from workers.ranking.refusal import CandidateReason, EventRefused, Reason, RefusedCandidate
from workers.ranking.request import Completion, Event, Request, pick_rows

# Measured: the object, its lists and its strings, before the first candidate.
_REQUEST_BYTES = 1200
# Measured, beside its row and the characters of its id: a candidate that is joined, the string
# object of an id that is not, and an entry in a set with its string object.
_CANDIDATE_BYTES = 20
_LOOSE_BYTES = 80
_DISTINCT_BYTES = 110
# Once a request has this many loose ids, they and their rows are joined. To join them, and to part
# the ids again, costs a tenth of a microsecond a candidate. So it is only done early if many
# requests are open, and not at all in a request that expects few candidates.
_LOOSE_IF_FEW = 64
_LOOSE_IF_MANY = 8
_FEW_CANDIDATES = 16
# Between ids that are joined.
_SEPARATOR = "\0"


class OpenRequest:
    """Grows by whole events until it closes.

    Surface, user and `requested_at` are those of its first event. `first_offset` is the offset of
    that event, `opened_at` the stream time (ms) before it, `due` the deadline (ms).
    `is_one_of_many`: many requests are open, so it takes as little memory as it can.
    """

    __slots__ = (
        "_checked",
        "_count",
        "_distinct",
        "_id_blocks",
        "_ids",
        "_most_loose",
        "_refused",
        "_row_blocks",
        "_rows",
        "_sources",
        "_usual_below",
        "bytes_held",
        "due",
        "expected",
        "first_offset",
        "opened_at",
        "request_id",
        "requested_at",
        "surface",
        "user_id",
    )

    def __init__(
        self,
        event: Event,
        first_offset: int,
        opened_at: int,
        due: int,
        *,
        is_one_of_many: bool = False,
    ) -> None:
        self.request_id = event.request_id
        self.surface = event.surface
        self.user_id = event.user_id
        self.requested_at = event.requested_at
        self.expected: int | None = None
        self.first_offset = first_offset
        self.opened_at = opened_at
        self.due = due
        self.bytes_held = _REQUEST_BYTES

        self._most_loose = _LOOSE_IF_MANY if is_one_of_many else _LOOSE_IF_FEW
        self._count = 0
        # With fewer candidates than this the request can neither be full nor past its limit. 0 once
        # each candidate is looked at.
        self._usual_below = event.surface.max_candidates + 1
        # How many candidates there were when the items were found to be distinct.
        self._checked = 0
        # The last ids and their rows, and before them those that are joined. An item of
        # `_id_blocks` is a list if an id has the separator in it.
        self._ids: list[str] = []
        self._rows: list[bytes] = []
        self._id_blocks: list[str | list[str]] = []
        self._row_blocks: list[bytes] = []
        # Kept only if the surface has a rule on them.
        self._sources: list[str | None] | None = [] if event.surface.has_source_rules else None
        self._distinct: set[str] | None = None
        self._refused: set[str | bytes] | None = None

    def add_usual(self, event: Event) -> int:
        """Add an event if it says what earlier ones said, has no refused candidates, and neither
        completes the request nor goes past `max_candidates`. Return how many more bytes are held: 0
        if it is not added.
        """
        _, surface, user, requested_at, expected, last, ids, sources, rows, refused, _, _ = event
        if (
            self._count + len(ids) < self._usual_below
            and surface is self.surface
            and user == self.user_id
            and requested_at == self.requested_at
            and expected == self.expected
            and not last
            and not refused
        ):
            return self._append(ids, sources, rows)
        return 0

    def add(self, event: Event) -> Sequence[RefusedCandidate]:
        """Add the candidates of an event. Return the refused ones, including those past
        `max_candidates`. Raises EventRefused: conflict.
        """
        expected = event.expected
        is_same = (
            event.surface is self.surface
            and event.user_id == self.user_id
            and event.requested_at == self.requested_at
            and (expected is None or expected == self.expected or self.expected is None)
        )
        if not is_same:
            raise EventRefused(Reason.CONFLICT, self._conflict(event))
        if expected is not None:
            self.expected = expected
            self._usual_below = min(self._usual_below, expected)
            if expected <= _FEW_CANDIDATES:
                self._most_loose = _LOOSE_IF_FEW

        refused: Sequence[RefusedCandidate] = event.refused
        count = self._count + len(event.item_ids)
        if self._distinct is None and not refused and count <= self.surface.max_candidates:
            self._append(event.item_ids, event.sources, event.rows)
            return refused

        self._usual_below = 0
        past_limit = self._append_distinct(event)
        if past_limit:
            refused = [*refused, *_refuse_past_limit(event, past_limit)]
        if refused:
            self._note_refused(refused)
        return refused

    def completion(self, event: Event) -> Completion | None:
        """Whether the request is complete after an event that was added.

        - `full` if it has as many distinct candidates as expected. Refused ones count.
        - Otherwise `marker` if the event says that it is the last one.
        - Otherwise None.
        """
        expected = self.expected
        if expected is not None and self._count_all() >= expected:
            self._drop_repeated()
            if self._count_all() >= expected:
                return Completion.FULL
        return Completion.MARKER if event.last else None

    def close(self, completion: Completion) -> Request:
        """The closed request. Do not use the open one after this."""
        self._drop_repeated()
        return Request(
            request_id=self.request_id,
            surface=self.surface,
            user_id=self.user_id,
            requested_at=self.requested_at,
            item_ids=tuple(self._all_ids()),
            sources=None if self._sources is None else tuple(self._sources),
            rows=self._all_rows(),
            completion=completion,
            refused=self._refused_only(),
            first_offset=self.first_offset,
            opened_at=self.opened_at,
        )

    def _conflict(self, event: Event) -> str:
        """How the event, which does, contradicts an earlier one of the request."""
        if event.surface is not self.surface:
            return _differs("surface", event.surface.name, self.surface.name)
        if event.user_id != self.user_id:
            return _differs("user_id", event.user_id, self.user_id)
        if event.requested_at != self.requested_at:
            return _differs("requested_at", event.requested_at, self.requested_at)
        return _differs("expected", event.expected, self.expected)

    # Columns

    def _append(self, item_ids: Sequence[str], sources: Sequence[str | None], rows: bytes) -> int:
        """Return how many more bytes are held."""
        loose = self._ids
        loose += item_ids
        self._rows.append(rows)
        if self._sources is not None:
            self._sources += sources

        added = len(item_ids)
        grown = _CANDIDATE_BYTES * added + len(rows)
        self._count += added
        # A request that is full closes at once.
        if len(loose) >= self._most_loose and self._count != self.expected:
            grown += self._join()
        self.bytes_held += grown
        return grown

    def _join(self) -> int:
        """Join the ids and rows that are loose. Return how many more bytes are held."""
        text = _SEPARATOR.join(self._ids)
        is_unambiguous = text.count(_SEPARATOR) == len(self._ids) - 1
        self._id_blocks.append(text if is_unambiguous else self._ids)
        self._row_blocks.append(b"".join(self._rows))
        self._ids = []
        self._rows = []
        return len(text)

    def _all_ids(self) -> list[str]:
        item_ids: list[str] = []
        for block in self._id_blocks:
            item_ids += block.split(_SEPARATOR) if isinstance(block, str) else block
        item_ids += self._ids
        return item_ids

    def _all_rows(self) -> bytes:
        return b"".join([*self._row_blocks, *self._rows])

    def _append_distinct(self, event: Event) -> list[int]:
        """Add those candidates of an event that are not here already. Return the indices of those
        past `max_candidates`.
        """
        self._drop_repeated()
        if self._distinct is None:
            self._distinct = set(self._all_ids())
            self.bytes_held += _DISTINCT_BYTES * len(self._distinct)

        distinct = self._distinct
        limit = self.surface.max_candidates
        new: list[int] = []
        past_limit: list[int] = []
        for index, item_id in enumerate(event.item_ids):
            if item_id in distinct:
                continue
            if len(distinct) >= limit:
                past_limit.append(index)
                continue
            distinct.add(item_id)
            new.append(index)
        self.bytes_held += _DISTINCT_BYTES * len(new)

        if len(new) == len(event.item_ids):
            self._append(event.item_ids, event.sources, event.rows)
        else:
            row_bytes = self.surface.feature_set.row_bytes
            self._append(
                item_ids=[event.item_ids[index] for index in new],
                sources=[event.sources[index] for index in new],
                rows=pick_rows(event.rows, row_bytes, new),
            )
        return past_limit

    def _drop_repeated(self) -> None:
        """Leave the first candidate of each item. From then on `_distinct` is kept, if an item has
        come twice.
        """
        if self._distinct is not None or self._checked == self._count:
            return
        item_ids = self._all_ids()
        distinct = set(item_ids)
        if len(distinct) == len(item_ids):
            self._checked = self._count
            self._id_blocks = []
            self._ids = item_ids
            return

        first: dict[str, int] = {}
        for index, item_id in enumerate(item_ids):
            first.setdefault(item_id, index)
        indices = list(first.values())
        rows = pick_rows(self._all_rows(), self.surface.feature_set.row_bytes, indices)

        if self._sources is not None:
            self._sources = [self._sources[index] for index in indices]
        self._count = len(indices)
        self._distinct = distinct
        self._usual_below = 0
        self.bytes_held += _DISTINCT_BYTES * len(distinct)
        self._id_blocks = []
        self._row_blocks = []
        self._ids = list(first)
        self._rows = [rows]

    # Refused candidates

    def _note_refused(self, refused: Sequence[RefusedCandidate]) -> None:
        if self._refused is None:
            self._refused = set()
        for candidate in refused:
            identity = candidate.identity
            if identity not in self._refused:
                self._refused.add(identity)
                self.bytes_held += _DISTINCT_BYTES + len(identity)

    def _count_all(self) -> int:
        """How many candidates came, those that were refused among them."""
        return self._count if self._refused is None else self._count + self._refused_only()

    def _refused_only(self) -> int:
        """How many candidates were refused and not sent again in a valid form."""
        if self._refused is None:
            return 0
        return len(self._refused.difference(self._distinct or ()))


def whole_request(event: Event, first_offset: int, opened_at: int) -> Request | None:
    """The closed request of an event that holds all that it expects. None if the event leaves it
    open, or has anything to refuse or to drop: then it takes an OpenRequest.

    `first_offset` and `opened_at` are as in OpenRequest.
    """
    surface = event.surface
    count = len(event.item_ids)
    if event.expected != count or event.refused or count > surface.max_candidates:
        return None
    if len(set(event.item_ids)) < count:
        return None

    return Request(
        request_id=event.request_id,
        surface=surface,
        user_id=event.user_id,
        requested_at=event.requested_at,
        item_ids=tuple(event.item_ids),
        sources=tuple(event.sources) if surface.has_source_rules else None,
        rows=event.rows,
        completion=Completion.FULL,
        refused=0,
        first_offset=first_offset,
        opened_at=opened_at,
    )


def _differs(field: str, got: object, expected: object) -> str:
    return f"{field}: got {got!r}, expected {expected!r} as an earlier event of this request said"


def _refuse_past_limit(event: Event, indices: Sequence[int]) -> list[RefusedCandidate]:
    """Refuse the candidates at these indices of the event's columns, which are without those that
    the codec refused. A refusal names the position among all candidates of the event.
    """
    refused_before = {candidate.position for candidate in event.refused}
    positions: list[int] = []
    for position in range(len(event.item_ids) + len(refused_before)):
        if position not in refused_before:
            positions.append(position)

    expected = f"expected at most max_candidates = {event.surface.max_candidates} a request"
    refused: list[RefusedCandidate] = []
    for index in indices:
        item_id = event.item_ids[index]
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
    return _REQUEST_BYTES + _LOOSE_BYTES * len(request.item_ids) + ids + len(request.rows)
