"""Assembly of one partition: events in offset order become closed requests.

The rules that make a feed exactly one:
- An event is taken whole or refused whole. A request closes once, and its id is remembered after
  that.
- Stream time is the greatest record timestamp seen. An unknown request opens only if stream time
  has not passed `requested_at + horizon`. The horizon is judged only when a request opens.
- The low-water mark is the first offset of the oldest unpublished request. A replay starts there,
  with the stream time of that moment. So it judges every event as it was judged the first time.
- A published request is forgotten when the stream time at the low-water mark has passed its
  horizon. From then on every event of it is late by the horizon alone, in a replay too.

A request is in one of these states:
- open: it takes events (`_open`). A request whose first event is all of it is closed at once.
- closed: it is ready to be ranked (`_closed`, and `_given_up` for those that may not wait)
- taken: `take_closed` has handed it over, and it is being ranked
- held: it waits for its models (`_held`)
- published: only its id is remembered (`_published`)

Closed, taken and held requests are also in `_unpublished`. Like the open ones they hold the
low-water mark.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from workers.assembly.held import Budget, HeldRequests
from workers.assembly.open_request import OpenRequest, whole_request
from workers.ranking.refusal import EventRefused, Reason, RefusedCandidate
from workers.ranking.request import Completion, Event, Request

NO_TIME = -1
"""Stream time before the first record."""
FUTURE_MS = 60_000
"""How far `requested_at` may lie ahead of the record's timestamp."""
_SMALL_HEAP = 64
_MANY_REQUESTS = 256
"""With this many open requests in a worker, each further one takes as little memory as it can."""


class Mark(NamedTuple):
    """What a commit writes down: enough to restore the partition from the two logs alone.

    `low_water` is the first input offset that a restore replays, `time` the stream time (ms) before
    it, `next` the first input offset not yet taken, `scan` the first output offset that a restore
    must read.
    """

    low_water: int
    scan: int
    time: int
    next: int


class _Published(NamedTuple):
    expires: int
    """Requested_at + horizon, in ms."""
    ledger: int
    """The feed is in the output at this offset or after it."""


class Assembler:
    """The requests of one partition, from their first event until they are forgotten.

    Not thread-safe. Reads no clock.

    `admit` is called with the id of each request that would open. It may raise EventRefused.
    """

    def __init__(
        self, start: Mark, budget: Budget | None = None, admit: Callable[[str], None] | None = None
    ) -> None:
        self.next = start.low_water
        self.stream_time = start.time
        self.ledger_end = start.scan
        self.closed_candidates = 0

        self._admit = admit
        self._budget = budget or Budget()
        self._replay_until = start.next

        # Stream time before the record that was observed last.
        self._opening_time = start.time
        self._open: OrderedDict[str, OpenRequest] = OrderedDict()
        # A heap of (deadline in ms, first offset, request id). Requests that have closed meanwhile
        # are skipped when they come up.
        self._due: list[tuple[int, int, str]] = []

        self._closed: deque[Request] = deque()
        # Each of them is older than every request in `_closed`.
        self._given_up: deque[Request] = deque()
        self._held = HeldRequests(self._budget)
        self._unpublished: dict[str, Request] = {}

        self._published: OrderedDict[str, _Published] = OrderedDict()
        # A heap of (expires in ms, request id).
        self._expiries: list[tuple[int, str]] = []

    # Taking events

    def observe(self, offset: int, timestamp: int) -> None:
        """Note that the record at `offset` was read. Close the requests whose deadline its
        timestamp (ms) has passed.
        """
        self.next = offset + 1
        self._opening_time = self.stream_time
        if timestamp > self.stream_time:
            self.stream_time = timestamp
            self.close_due(timestamp)

    def take(self, event: Event, offset: int, timestamp: int) -> Sequence[RefusedCandidate]:
        """Take an observed event. Return its refused candidates.

        Raises EventRefused: late, conflict, future, or what `admit` raises.
        """
        request = self._open.get(event.request_id)
        if request is None:
            self._check_may_open(event, timestamp)
            whole = whole_request(event, first_offset=offset, opened_at=self._opening_time)
            if whole is not None:
                self._note_closed(whole)
                return ()
            request = self._open_request(event, offset)

        grown = request.add_usual(event)
        if grown:
            self._budget.bytes_held += grown
            return ()

        before = request.bytes_held
        refused = request.add(event)
        self._budget.bytes_held += request.bytes_held - before
        completion = request.completion(event)
        if completion:
            self._close(request, completion)
        return refused

    def _check_may_open(self, event: Event, timestamp: int) -> None:
        """Whether an event may open its request. Raises EventRefused, judged in this order:

        - what `admit` raises
        - late: the request is closed already
        - future: `requested_at` is too far ahead of the record's timestamp
        - late: stream time is past the horizon
        """
        request_id = event.request_id
        requested_at = event.requested_at
        surface = event.surface

        if self._admit is not None:
            self._admit(request_id)
        if request_id in self._published or request_id in self._unpublished:
            raise EventRefused(Reason.LATE, f"request_id {request_id!r}: the request is closed")
        if requested_at > timestamp + FUTURE_MS:
            raise EventRefused(
                Reason.FUTURE,
                f"requested_at: got {requested_at}, "
                f"expected at most {FUTURE_MS} ms after the record's timestamp {timestamp}",
            )
        if self.stream_time > requested_at + surface.horizon_ms:
            raise EventRefused(
                Reason.LATE,
                f"requested_at: got {requested_at}, but stream time {self.stream_time} "
                f"is past the horizon of {surface.horizon_ms} ms",
            )

    def _open_request(self, event: Event, offset: int) -> OpenRequest:
        """Open a request for its first event, which is at `offset`."""
        request = OpenRequest(
            event,
            first_offset=offset,
            opened_at=self._opening_time,
            due=self.stream_time + event.surface.deadline_ms,
            is_one_of_many=self._budget.requests >= _MANY_REQUESTS,
        )
        self._open[request.request_id] = request
        heappush(self._due, (request.due, offset, request.request_id))
        self._budget.requests += 1
        self._budget.bytes_held += request.bytes_held
        return request

    # Closing requests

    def close_due(self, now: int) -> None:
        """Close every request whose deadline (ms) `now` has passed."""
        while self._due and self._due[0][0] < now:
            _, offset, request_id = heappop(self._due)
            request = self._open.get(request_id)
            if request is not None and request.first_offset == offset:
                self._close(request, Completion.DEADLINE)

    def next_due(self) -> int | None:
        """The earliest deadline (ms) of an open request. None if no request is open."""
        while self._due:
            due, offset, request_id = self._due[0]
            request = self._open.get(request_id)
            if request is not None and request.first_offset == offset:
                return due
            heappop(self._due)
        return None

    def evict_oldest(self) -> None:
        """Close the oldest open request, to make room. There must be one."""
        self._close(next(iter(self._open.values())), Completion.EVICTED)

    def close_all(self) -> None:
        """Close every open request, in the order of their first events, at the end of a file."""
        for request in list(self._open.values()):
            self._close(request, Completion.DEADLINE)

    def abandon(self) -> None:
        """Give everything back to the budget: the partition is lost. Its next owner replays it."""
        for request in self._open.values():
            self._budget.requests -= 1
            self._budget.bytes_held -= request.bytes_held
        self._open.clear()
        self._held.release()

    def _close(self, request: OpenRequest, completion: Completion) -> None:
        del self._open[request.request_id]
        self._budget.requests -= 1
        self._budget.bytes_held -= request.bytes_held

        self._note_closed(request.close(completion))

        # Most requests close before their deadline: do not let the heap grow with those.
        if len(self._due) > _SMALL_HEAP and len(self._due) > 4 * len(self._open):
            self._due = [(r.due, r.first_offset, r.request_id) for r in self._open.values()]
            heapify(self._due)

    def _note_closed(self, request: Request) -> None:
        self._closed.append(request)
        self.closed_candidates += len(request.item_ids)
        self._unpublished[request.request_id] = request

    def take_closed(self, room: float = math.inf) -> list[Request]:
        """Hand over closed requests, the earliest closed first, until their candidates fill `room`.

        An empty request takes the room of one candidate. Each request stays unpublished until it is
        passed to `publish`.
        """
        taken: list[Request] = []
        while room > 0 and (oldest := self._given_up or self._closed):
            request = oldest.popleft()
            taken.append(request)
            candidates = len(request.item_ids)
            self.closed_candidates -= candidates
            room -= max(1, candidates)
        return taken

    # Requests that wait for their models

    def hold(self, requests: Iterable[Request], now: float) -> None:
        """Hold closed requests until their models are loaded. `now` is seconds of a monotonic
        clock.
        """
        self._held.hold(requests, now)

    def is_overdue(self, request: Request, now: float) -> bool:
        """Whether a request has waited for its models for as long as it may."""
        return self._held.is_overdue(request, now)

    def release_held(self) -> None:
        """Put held requests back among the closed ones, before all others: to be ranked again."""
        released = self._held.release()
        for request in reversed(released):
            self._closed.appendleft(request)
            self.closed_candidates += len(request.item_ids)

    def give_up_oldest_held(self) -> None:
        """Put the oldest held request back alone, to make room. It may not wait any longer."""
        request = self._held.give_up_oldest()
        self._given_up.append(request)
        self.closed_candidates += len(request.item_ids)

    # Published requests

    def publish(self, requests: list[Request]) -> None:
        """Note that the feeds of these requests are in the output, at `ledger_end` or after it."""
        self._held.forget(requests)
        for request in requests:
            del self._unpublished[request.request_id]
            expires = request.requested_at + request.surface.horizon_ms
            self.remember(request.request_id, expires, self.ledger_end)

    def remember(self, request_id: str, expires: int, ledger: int) -> None:
        """Remember a published request until the stream time at the low-water mark has passed
        `expires` (ms).
        """
        self._published[request_id] = _Published(expires, ledger)
        heappush(self._expiries, (expires, request_id))

    def mark(self) -> Mark:
        """The mark to commit once everything taken so far has been published or dead-lettered."""
        low_water, time = self._low_water()
        if self.next >= self._replay_until:
            # Not earlier: during a replay an event of a published request may come that was
            # accepted when the request was open.
            self._forget(time)

        remembered = next(iter(self._published.values()), None)
        scan = self.ledger_end if remembered is None else remembered.ledger
        return Mark(
            low_water=low_water,
            scan=scan,
            time=time,
            next=max(self.next, self._replay_until),
        )

    def _low_water(self) -> tuple[int, int]:
        """The offset at which a replay must start, and the stream time (ms) before it."""
        low_water = self.next
        time = self.stream_time
        # Open requests are in the order of their first offsets: the first one is the oldest.
        oldest_open = next(iter(self._open.values()), None)
        if oldest_open is not None:
            low_water = oldest_open.first_offset
            time = oldest_open.opened_at
        for request in self._unpublished.values():
            if request.first_offset < low_water:
                low_water = request.first_offset
                time = request.opened_at
        return low_water, time

    def _forget(self, time: int) -> None:
        """Forget the published requests that have expired before `time` (ms)."""
        while self._expiries and self._expiries[0][0] < time:
            expires, request_id = heappop(self._expiries)
            published = self._published.get(request_id)
            if published is not None and published.expires == expires:
                del self._published[request_id]

    # Counts

    @property
    def open_requests(self) -> int:
        """How many requests are open."""
        return len(self._open)

    @property
    def held_requests(self) -> int:
        """How many closed requests wait for their models."""
        return len(self._held)

    @property
    def remembered(self) -> int:
        """How many published requests are remembered."""
        return len(self._published)

    @property
    def unpublished(self) -> int:
        """How many closed requests are not published yet."""
        return len(self._unpublished)

    @property
    def oldest_opened_at(self) -> int:
        """The stream time (ms) at which the oldest open request opened. There must be one."""
        return next(iter(self._open.values())).opened_at
