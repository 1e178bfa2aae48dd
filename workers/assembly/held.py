"""What a worker may hold in memory, and the closed requests that wait for their models."""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from workers.assembly.open_request import bytes_of
from workers.ranking.request import Request


@dataclass
class Budget:
    """Counts open requests and the bytes that they hold, over all partitions of a worker.

    Past either bound the oldest open request closes (`evicted`). A closed request may wait for its
    models for `max_wait_seconds`. While it waits, it counts as an open one.
    """

    max_requests: int = 100_000
    max_bytes: int = 1024 * 1024 * 1024
    max_wait_seconds: float = 30.0
    requests: int = 0
    bytes_held: int = 0

    def is_exceeded(self) -> bool:
        """Whether a request must close before more is taken. A single request may be larger than
        `max_bytes`.
        """
        if self.requests > self.max_requests:
            return True
        return self.bytes_held > self.max_bytes and self.requests > 1


class HeldRequests:
    """The closed requests of one partition that wait for their models.

    A request keeps its first deadline when it is held again.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._waiting: deque[Request] = deque()
        # By request id, in seconds of the clock that `hold` is given. An entry outlives the wait:
        # it is removed by `forget`.
        self._deadlines: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def hold(self, requests: Iterable[Request], now: float) -> None:
        """Hold requests. `now` is seconds of a monotonic clock."""
        deadline = now + self._budget.max_wait_seconds
        for request in requests:
            self._deadlines.setdefault(request.request_id, deadline)
            self._waiting.append(request)
            self._budget.requests += 1
            self._budget.bytes_held += bytes_of(request)

    def is_overdue(self, request: Request, now: float) -> bool:
        """Whether a request has waited long enough. Always True if no request may wait."""
        deadline = self._deadlines.get(request.request_id, now + self._budget.max_wait_seconds)
        return deadline <= now

    def release(self) -> list[Request]:
        """Hand over all held requests, oldest first, to be ranked again."""
        released: list[Request] = []
        while self._waiting:
            released.append(self._pop_oldest())
        return released

    def give_up_oldest(self) -> Request:
        """Hand over the oldest request, to make room. It is overdue from now on."""
        request = self._pop_oldest()
        self._deadlines[request.request_id] = -math.inf
        return request

    def forget(self, requests: Iterable[Request]) -> None:
        """Forget the deadlines of these requests: they are ranked."""
        if self._deadlines:
            for request in requests:
                self._deadlines.pop(request.request_id, None)

    def _pop_oldest(self) -> Request:
        request = self._waiting.popleft()
        self._budget.requests -= 1
        self._budget.bytes_held -= bytes_of(request)
        return request
