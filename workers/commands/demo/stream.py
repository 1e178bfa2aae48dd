"""Sends requests at a steady pace, their events interleaved as several producers side by side would
send them.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Self

from onnx_models.home_requests import Event, Request, interleaved
from workers.codec.formats import Format
from workers.commands.demo.posts import asked_now, encoder
from workers.commands.produce import Pace
from workers.streaming.send import Sender

_HEADERS: list[tuple[str, bytes | None]] = [("content-type", Format.JSON.content_type)]
_PATIENCE_SECONDS = 5.0


class Stream:
    """A thread that begins `rate` requests a second, `batch` candidates an event.

    `sent` holds every request that was begun, by its id; one that was begun is sent to its end.
    """

    def __init__(
        self, sender: Sender, drawn: Iterator[Request], rate: float, batch: int, seed: int
    ) -> None:
        self.sent: dict[str, Request] = {}
        self.rate = rate
        self._sender = sender
        self._drawn = drawn
        self._batch = batch
        self._seed = seed
        self._encode = encoder()
        self._also: deque[Request] = deque()
        self._at_least: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)

    def send_alone(self) -> Request:
        """Send one request before the start."""
        first = self._begin(next(self._drawn))
        self._send(first.events(self._batch))
        return first

    def start(self) -> None:
        """Begin to stream."""
        self._thread.start()

    def send(self, request: Request) -> None:
        """Send this request in the place of the next one."""
        self._also.append(request)

    def finish(self, at_least: int) -> None:
        """Let it end once so many requests were begun; returns at once."""
        self._at_least = at_least

    @property
    def finished(self) -> bool:
        """Whether it was let to end, and has."""
        return self._at_least is not None and not self._thread.is_alive()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Begin no more, and wait until what was begun is sent and answered. Raises SendFailed."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_SECONDS)
        self._sender.finish(_PATIENCE_SECONDS)

    def _run(self) -> None:
        self._send(interleaved(self._paced(), self._batch, self._seed))

    def _paced(self) -> Iterator[Request]:
        pace = Pace(self.rate)
        while not self._stopping.is_set() and not self._has_enough():
            pace.wait()
            yield self._begin(self._also.popleft() if self._also else next(self._drawn))

    def _has_enough(self) -> bool:
        return self._at_least is not None and not self._also and len(self.sent) >= self._at_least

    def _begin(self, request: Request) -> Request:
        begun = self.sent[request.request_id] = asked_now(request)
        return begun

    def _send(self, events: Iterable[Event]) -> None:
        for event in events:
            self._sender.send(event.request.request_id.encode(), self._encode(event), _HEADERS)
