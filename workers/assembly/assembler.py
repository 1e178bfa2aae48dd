"""Assembly of one partition: events in offset order become closed requests.

The rules that make a feed exactly one:
- An event is taken whole or refused whole; a request closes once, and its id is remembered after.
- Stream time is the greatest record timestamp seen. An unknown request opens only while stream time
  has not passed `requested_at + horizon`; the horizon is judged at opening only.
- The low-water mark is the first offset of the oldest unpublished request. A replay starts there
  with the stream time of then, and so judges every event as it was judged the first time.
- A published request is forgotten when the stream time at the low-water mark has passed its
  horizon: from then on any event of it is late by the horizon alone, in a replay too.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from workers.assembly.held import Budget, HeldRequests
from workers.assembly.open_request import OpenRequest
from workers.ranking.refusal import EventRefused, Reason, RefusedCandidate
from workers.ranking.request import Completion, Event, Request

NO_TIME = -1
"""Stream time before the first record."""
FUTURE_MS = 60_000
"""How far `requested_at` may lie ahead of the record's timestamp."""


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
    expires: int  # requested_at + horizon, ms
    ledger: int  # no output offset below this one holds its feed


class Assembler:
    """The open and the remembered requests of one partition. Not thread-safe; reads no clock.

    `admit` is called with the id of each request that would open, and may refuse the event: it
    raises EventRefused.
    """

    def __init__(
        self, start: Mark, budget: Budget | None = None, admit: Callable[[str], None] | None = None
    ) -> None:
        self.next = start.low_water
        self.stream_time = start.time
        self.ledger_end = start.scan
        self._replay_until = start.next
        self._admit = admit
        self._budget = budget or Budget()
        self._held = HeldRequests(self._budget)
        self._opening_time = start.time
        self._open: OrderedDict[str, OpenRequest] = OrderedDict()
        self._due: list[tuple[int, int, str]] = []
        self._closed: deque[Request] = deque()
        self._given_up: deque[Request] = deque()  # older than what is closed, each of them
        self.closed_candidates = 0
        self._unpublished: dict[str, Request] = {}
        self._published: OrderedDict[str, _Published] = OrderedDict()
        self._expiries: list[tuple[int, str]] = []

    # Taking events

    def observe(self, offset: int, timestamp: int) -> None:
        """Note that the record at `offset` was read; close what its timestamp (ms) has made due."""
        self.next = offset + 1
        if timestamp > self.stream_time:
            self._opening_time, self.stream_time = self.stream_time, timestamp
            self.close_due(timestamp)
        else:
            self._opening_time = self.stream_time

    def take(self, event: Event, offset: int, timestamp: int) -> list[RefusedCandidate]:
        """Take an observed event; return its refused candidates. Raises EventRefused: late,
        conflict, future.
        """
        request = self._open.get(event.request_id)
        if request is None:
            request = self._open_for(event, offset, timestamp)
        else:
            difference = request.conflict(event)
            if difference:
                raise EventRefused(Reason.CONFLICT, difference)
        before = request.bytes_held
        refused = request.add(event)
        self._budget.bytes_held += request.bytes_held - before
        completion = request.completion(event)
        if completion:
            self._close(request, completion)
        return refused

    def _open_for(self, event: Event, offset: int, timestamp: int) -> OpenRequest:
        request_id, requested_at, surface = event.request_id, event.requested_at, event.surface
        if self._admit is not None:
            self._admit(request_id)
        if request_id in self._published or request_id in self._unpublished:
            raise EventRefused(Reason.LATE, f"request_id {request_id!r}: the request is closed")
        if requested_at > timestamp + FUTURE_MS:
            limit = f"expected at most {FUTURE_MS} ms after the record's timestamp {timestamp}"
            raise EventRefused(Reason.FUTURE, f"requested_at: got {requested_at}, {limit}")
        if self.stream_time > requested_at + surface.horizon_ms:
            horizon = (
                f"stream time {self.stream_time} is past the horizon of {surface.horizon_ms} ms"
            )
            raise EventRefused(Reason.LATE, f"requested_at: got {requested_at}, but {horizon}")
        request = OpenRequest(
            event, offset, self._opening_time, self.stream_time + surface.deadline_ms
        )
        self._open[request_id] = request
        heappush(self._due, (request.due, offset, request_id))
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
        """The earliest deadline (ms) of an open request; None where nothing is open."""
        while self._due:
            due, offset, request_id = self._due[0]
            request = self._open.get(request_id)
            if request is not None and request.first_offset == offset:
                return due
            heappop(self._due)
        return None

    def evict_oldest(self) -> None:
        """Close the oldest open request, to make room."""
        self._close(next(iter(self._open.values())), Completion.EVICTED)

    def close_all(self) -> None:
        """Close everything still open, in order of first event: the end of a file."""
        for request in list(self._open.values()):
            self._close(request, Completion.DEADLINE)

    def abandon(self) -> None:
        """Give back what is held open: the partition is lost, and its next owner replays it."""
        self._budget.requests -= len(self._open)
        self._budget.bytes_held -= sum(r.bytes_held for r in self._open.values())
        self._open.clear()
        self._held.release()

    def _close(self, request: OpenRequest, completion: Completion) -> None:
        del self._open[request.request_id]
        closed = request.close(completion)
        self._budget.requests -= 1
        self._budget.bytes_held -= request.bytes_held
        self._closed.append(closed)
        self.closed_candidates += len(closed.item_ids)
        self._unpublished[closed.request_id] = closed
        if len(self._due) > 64 and len(self._due) > 4 * len(self._open):
            self._due = [(r.due, r.first_offset, r.request_id) for r in self._open.values()]
            heapify(self._due)

    def take_closed(self, room: float = math.inf) -> list[Request]:
        """Hand over closed requests, oldest closing first, until their candidates fill `room`.

        An empty request takes the room of one candidate. Each stays unpublished until `publish`
        names it.
        """
        taken: list[Request] = []
        while room > 0 and (oldest := self._given_up or self._closed):
            taken.append(oldest.popleft())
            room -= max(1, len(taken[-1].item_ids))
        self.closed_candidates -= sum(len(request.item_ids) for request in taken)
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
        self._closed.extendleft(reversed(released))
        self.closed_candidates += sum(len(request.item_ids) for request in released)

    def give_up_oldest_held(self) -> None:
        """Put the oldest held request back alone, to make room. It may not wait any longer."""
        self._given_up.append(self._held.give_up_oldest())
        self.closed_candidates += len(self._given_up[-1].item_ids)

    # What is published

    def publish(self, requests: list[Request]) -> None:
        """Note that these requests' feeds stand in the output, at or after `ledger_end` as it is
        now.
        """
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
            # Before, an event of a published request may come that was accepted when the request
            # was open.
            self._forget(time)
        remembered = next(iter(self._published.values()), None)
        scan = self.ledger_end if remembered is None else remembered.ledger
        return Mark(low_water, scan, time, max(self.next, self._replay_until))

    def _low_water(self) -> tuple[int, int]:
        oldest = min(self._unfinished(), default=None)
        return oldest or (self.next, self.stream_time)

    def _unfinished(self) -> Iterator[tuple[int, int]]:
        for request in self._unpublished.values():
            yield request.first_offset, request.opened_at
        for opened in self._open.values():
            yield opened.first_offset, opened.opened_at
            return

    def _forget(self, time: int) -> None:
        while self._expiries and self._expiries[0][0] < time:
            expires, request_id = heappop(self._expiries)
            published = self._published.get(request_id)
            if published is not None and published.expires == expires:
                del self._published[request_id]

    # What can be seen

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
