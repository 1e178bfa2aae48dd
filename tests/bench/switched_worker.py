"""`trimtab worker` that stops counting for metrics at SIGUSR2, and counts again at SIGUSR1.

    python -m tests.bench.switched_worker FILE worker ...

While it does not count, it reads no clock for the times of steps either. What only labels cost, a
small tuple for each feed, is left. At its end it writes to FILE how many seconds of CPU the thread of
each answer over HTTP took.
"""

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from workers.cli import main
from workers.counts import Histogram, RankedCounts
from workers.metrics import server as metrics_server
from workers.metrics.server import MetricsServer
from workers.streaming import ranker

_PLACES: tuple[tuple[Any, str, Callable[..., object]], ...] = (
    (RankedCounts, "note_feed", lambda *_: None),
    (Histogram, "observe", lambda *_: None),
    (ranker, "note_letter", lambda *_: None),
    (time, "perf_counter_ns", int),
)
_COUNTING = [getattr(owner, name) for owner, name, _ in _PLACES]


def count(*_: object) -> None:
    """Count as the product does."""
    for (owner, name, _none), function in zip(_PLACES, _COUNTING, strict=True):
        setattr(owner, name, function)


def count_nothing(*_: object) -> None:
    """Count nothing."""
    for owner, name, function in _PLACES:
        setattr(owner, name, function)


class TimedServer(MetricsServer):
    """Notes what the thread of each connection took, from its first instruction to its last."""

    seconds: ClassVar[list[float]] = []

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        super().process_request_thread(request, client_address)
        self.seconds.append(time.thread_time())


if __name__ == "__main__":
    path = Path(sys.argv.pop(1))
    metrics_server.MetricsServer = TimedServer  # type: ignore[misc]
    signal.signal(signal.SIGUSR1, count)
    signal.signal(signal.SIGUSR2, count_nothing)
    try:
        main()
    finally:
        path.write_text(json.dumps(TimedServer.seconds))
