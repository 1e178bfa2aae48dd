"""What a worker may hold, and the closed requests that it holds until their models are loaded."""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from workers.assembly.open_request import bytes_of
from workers.ranking.request import Request


@dataclass
class Budget:
    """Open requests and the bytes they hold. Past either bound the oldest request closes
    (`evicted`).

    A closed request waits for its models for `max_wait_seconds`, and counts meanwhile as an open
    one.
    """

    max_requests: int = 100_000
    max_bytes: int = 1024 * 1024 * 1024
    max_wait_seconds: float = 30.0
    requests: int = 0
    bytes_held: int = 0

    @property
    def exceeded(self) -> bool:
        """Whether a request must close before more is taken."""
        return self.requests > self.max_requests or (
            self.bytes_held > self.max_bytes and self.requests > 1
        )


class Held:
    """Of one partition. A request that comes back and is held again waits no longer than it was to
    the first time.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._waiting: deque[Request] = deque()
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def hold(self, requests: Iterable[Request], now: float) -> None:
        """Hold requests; `now` is seconds of any clock that does not go back."""
        until = now + self._budget.max_wait_seconds
        for request in requests:
            self._until.setdefault(request.request_id, until)
            self._waiting.append(request)
            self._budget.requests += 1
            self._budget.bytes_held += bytes_of(request)

    def is_overdue(self, request: Request, now: float) -> bool:
        """Whether a request has waited for as long as it may: at once, where it may not wait at
        all.
        """
        return self._until.get(request.request_id, now + self._budget.max_wait_seconds) <= now

    def release(self) -> list[Request]:
        """Hand over everything, oldest first, to be looked at again."""
        return [self._take() for _ in range(len(self._waiting))]

    def give_up_oldest(self) -> Request:
        """Hand over the oldest, which is overdue from now on: to make room."""
        request = self._take()
        self._until[request.request_id] = -math.inf
        return request

    def forget(self, requests: Iterable[Request]) -> None:
        """These are ranked: how long they may wait is of no more interest."""
        if self._until:
            for request in requests:
                self._until.pop(request.request_id, None)

    def _take(self) -> Request:
        request = self._waiting.popleft()
        self._budget.requests -= 1
        self._budget.bytes_held -= bytes_of(request)
        return request
