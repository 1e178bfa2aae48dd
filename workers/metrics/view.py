"""What one process answers over HTTP: metrics, health and status, by path.

| path     | answers                                                     | status          |
|----------|-------------------------------------------------------------|-----------------|
| /metrics | the text that Prometheus reads                              | 200             |
| /livez   | whether it is alive, and what it does                       | 200, 503        |
| /readyz  | whether it is ready, and if not, why                        | 200, 503        |
| /status  | JSON: what `trimtab status` knows of it                     | 200             |
| /samples | the series for its parent, as MessagePack; only if it has   | 200             |
|          |   one                                                       |                 |

Every answer is made when somebody asks. The series are read at most once a second: who asks again
sooner gets the same.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from workers.metrics.exposition import render
from workers.metrics.health import Health
from workers.metrics.names import READY
from workers.metrics.process_samples import process_samples
from workers.metrics.samples import Sample, Snapshot, encode, sample

_SAME_FOR_S: Final = 1.0
TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"

# What a start waits for.
MODELS: Final = "models to be verified"
KAFKA: Final = "Kafka, its topics and rights"


class Answer(NamedTuple):
    """An answer over HTTP."""

    status: int
    body: bytes
    content_type: str = TEXT


Answers = Callable[[str, str], Answer | None]
"""The answer for a path and the header `accept`; None for a path that is not there."""


class Sources(NamedTuple):
    """Where a process that is put together reads its answers. All are called in another thread."""

    samples: Callable[[], list[Sample]]
    live: Callable[[], Health]
    ready: Callable[[], Health]
    status: Callable[[], bytes]


class ProcessView:
    """The answers of one process. `sources` is None until it is put together: until then the process
    is alive and not ready, and `waits_for` says for what.
    """

    def __init__(
        self, stage: str, slot: int, *, waits_for: str = KAFKA, has_parent: bool = False
    ) -> None:
        self.sources: Sources | None = None
        self.waits_for = waits_for
        self._stage = stage
        self._slot = slot
        self._has_parent = has_parent
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._read_at = float("-inf")

    def answer(self, path: str, accept: str) -> Answer | None:
        """Answers."""
        sources = self.sources
        starting = f"starting: waits for {self.waits_for}"
        match path:
            case "/metrics":
                text, content_type = render([self.snapshot()], accept)
                return Answer(200, text, content_type)
            case "/livez":
                return of_health(Health(True, starting) if sources is None else sources.live())
            case "/readyz":
                return of_health(Health(False, starting) if sources is None else sources.ready())
            case "/status":
                status = b'{"starting":true}' if sources is None else sources.status()
                return Answer(200, status, JSON)
            case "/samples" if self._has_parent:
                return Answer(200, encode(self.snapshot()), "application/msgpack")
        return None

    def snapshot(self) -> Snapshot:
        """The series, at most a second old."""
        with self._lock:
            now = time.monotonic()
            if self._snapshot is None or now - self._read_at >= _SAME_FOR_S:
                self._snapshot = self._read()
                self._read_at = now
            return self._snapshot

    def _read(self) -> Snapshot:
        sources = self.sources
        samples = process_samples()
        is_ready = sources is not None and sources.ready().is_good
        samples.append(sample(READY, is_ready))
        if sources is not None:
            samples += sources.samples()
        return Snapshot(self._stage, self._slot, tuple(samples))


def of_health(health: Health) -> Answer:
    """The answer that says it."""
    return Answer(200 if health.is_good else 503, f"{health.why}\n".encode())
