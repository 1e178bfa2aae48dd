"""Watchdog: notices that a loop does not turn any more, whichever call it hangs in.

Every call into a client library has a limit, and the client does not always keep it. Transactional
calls are bounded by a thread of their own (call_thread.py). All others, `poll` and `close` of the
consumer among them, are watched here.
"""

import threading
import time
from collections.abc import Callable

_LOOK_SECONDS = 0.5
# A machine that was paused, or a process that was stopped, is no reason: of each look at most this
# much counts.
_MOST_PER_LOOK = 1.0


class Pulse:
    """What a loop does now, and since when. Written by the loop, read by any thread.

    `is_bounded` is False while it may take as long as it takes: a model scores, or a drain has a
    limit of its own.
    """

    def __init__(self) -> None:
        self.turns = 0
        self.doing = "start"
        self.is_bounded = False
        self.since = time.monotonic()

    def begin(self, doing: str, *, is_bounded: bool = True) -> None:
        """Note that the loop begins with something."""
        self.turns += 1
        self.doing = doing
        self.is_bounded = is_bounded
        self.since = time.monotonic()

    def seconds(self) -> float:
        """For how long it has been doing that."""
        return time.monotonic() - self.since


class Watchdog:
    """Calls `on_stuck` once if the loop does one bounded thing for longer than `limit` seconds;
    `with` runs it.
    """

    def __init__(self, pulse: Pulse, on_stuck: Callable[[str, float], None], limit: float) -> None:
        self._pulse = pulse
        self._on_stuck = on_stuck
        self._limit = limit
        self._turns = -1
        self._waited = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def look(self, elapsed: float) -> bool:
        """Look at the loop `elapsed` seconds after the last look. Return whether it is stuck."""
        turns = self._pulse.turns
        if turns != self._turns or not self._pulse.is_bounded:
            self._turns = turns
            self._waited = 0.0
            return False
        self._waited += min(elapsed, _MOST_PER_LOOK)
        return self._waited > self._limit

    def _run(self) -> None:
        looked = time.monotonic()
        while not self._done.wait(_LOOK_SECONDS):
            now = time.monotonic()
            if self.look(now - looked):
                self._on_stuck(self._pulse.doing, self._waited)
                return
            looked = now
