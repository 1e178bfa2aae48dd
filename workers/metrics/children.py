"""What a parent answers for its children (`--processes N`): it alone listens where others ask.

Each child answers on a socket of loopback that its parent has made and that the child inherits, so
a child that starts again answers on the same one. The parent asks all of them at once and waits for
a second at most: what has not answered by then is left out.

| path     | answers                                                                            |
|----------|------------------------------------------------------------------------------------|
| /metrics | the series of the children that have answered, and `trimtab_child_up` of each      |
| /livez   | 503 if a child says that it is not alive, or has not answered for 60 s             |
| /readyz  | 200 if every child is ready                                                        |
| /status  | JSON: an object by number of the child, null for one that has not answered         |

A child that is stuck starts itself again after 15 s, so 60 s without an answer say that it cannot.
"""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

from workers.metrics.exposition import render
from workers.metrics.health import Health
from workers.metrics.samples import decode
from workers.metrics.server import listen
from workers.metrics.view import JSON, Answer, of_health

ANSWER_S: Final = 1.0
SILENT_S: Final = 60.0


class Reply(NamedTuple):
    """What a child has answered."""

    status: int
    body: bytes


class Children:
    """The sockets of the children, and what they answer. `clock`: monotonic seconds."""

    def __init__(self, count: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.listeners: Sequence[socket.socket] = [listen("127.0.0.1", 0) for _ in range(count)]
        self._clock = clock
        self._heard_at = [clock()] * count

    def close(self) -> None:
        """Close the sockets."""
        for listener in self.listeners:
            listener.close()

    def answer(self, path: str, accept: str) -> Answer | None:
        """Answers."""
        match path:
            case "/metrics":
                return self._metrics(accept)
            case "/livez":
                return of_health(self._live())
            case "/readyz":
                return of_health(self._ready())
            case "/status":
                return Answer(200, self._status(), JSON)
        return None

    def _metrics(self, accept: str) -> Answer:
        snapshots = []
        children_up: dict[int, bool] = {}
        for child, reply in enumerate(self._ask("/samples")):
            children_up[child] = reply is not None
            if reply is not None and reply.status == 200:
                snapshots.append(decode(reply.body))
        text, content_type = render(snapshots, accept, children_up)
        return Answer(200, text, content_type)

    def _live(self) -> Health:
        replies = self._ask("/livez")
        for child, reply in enumerate(replies):
            if reply is None:
                silent = self._clock() - self._heard_at[child]
                if silent >= SILENT_S:
                    return Health(False, f"child {child} has not answered for {silent:.0f} s")
            elif reply.status != 200:
                return Health(False, f"child {child}: {_text(reply)}")
        answered = sum(reply is not None for reply in replies)
        return Health(True, f"children that answer: {answered} of {len(replies)}")

    def _ready(self) -> Health:
        replies = self._ask("/readyz")
        for child, reply in enumerate(replies):
            if reply is None:
                return Health(False, f"child {child} does not answer")
            if reply.status != 200:
                return Health(False, f"child {child}: {_text(reply)}")
        return Health(True, f"children: {len(replies)}")

    def _status(self) -> bytes:
        statuses: dict[str, object] = {}
        for child, reply in enumerate(self._ask("/status")):
            statuses[str(child)] = None if reply is None else json.loads(reply.body)
        return json.dumps(statuses).encode()

    def _ask(self, path: str) -> list[Reply | None]:
        """The replies of all children. None for one that has not answered within a second."""
        replies: list[Reply | None] = [None] * len(self.listeners)
        answered: SimpleQueue[tuple[int, Reply]] = SimpleQueue()
        for child, listener in enumerate(self.listeners):
            address = listener.getsockname()
            threading.Thread(
                target=_ask_child, args=(child, address, path, answered), daemon=True
            ).start()

        until = time.monotonic() + ANSWER_S
        while None in replies:
            try:
                child, reply = answered.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                break
            replies[child] = reply
            self._heard_at[child] = self._clock()
        return replies


def _ask_child(
    child: int, address: tuple[str, int], path: str, answered: "SimpleQueue[tuple[int, Reply]]"
) -> None:
    """Ask one child, for at most a second. Nothing is answered if that fails."""
    connection = http.client.HTTPConnection(*address, timeout=ANSWER_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        answered.put((child, Reply(response.status, response.read())))
    except (OSError, http.client.HTTPException):
        return
    finally:
        connection.close()


def _text(reply: Reply) -> str:
    return reply.body.decode("utf-8", "replace").strip()
