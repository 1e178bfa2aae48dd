"""The rate line: on a terminal, what the worker does now, rewritten each second."""

import sys
import threading
from types import TracebackType

from workers.counts import Counts
from workers.log import LINE_START

_SECONDS = 1.0


class RateLine:
    """Shows rates on standard error while its block runs; silent where that is no terminal."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rate-line", daemon=True)

    def __enter__(self) -> "RateLine":
        if sys.stderr.isatty():
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
            sys.stderr.write("\n")

    def _run(self) -> None:
        counts = self._counts
        events, candidates, feeds = counts.events, counts.candidates, counts.feeds
        while not self._done.wait(_SECONDS):
            line = (
                f"{counts.events - events:,} events/s  {counts.candidates - candidates:,} candidates/s  "
                f"{counts.feeds - feeds:,} feeds/s  {counts.feeds:,} feeds  {counts.dead_letters:,} dead letters"
            )
            events, candidates, feeds = counts.events, counts.candidates, counts.feeds
            sys.stderr.write(f"{LINE_START}{line}")
            sys.stderr.flush()
