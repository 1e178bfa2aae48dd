"""How long the machine itself lets a process wait for its turn: what no program on it can be
quicker than.
"""

import time
from typing import NamedTuple

from tests.trial.apart import Signals

_PERIOD_SECONDS = 0.005


class Waking(NamedTuple):
    """A process that was asleep for 5 ms woke at a moment (ns since the epoch), so many
    milliseconds late.
    """

    at: int
    late_ms: float


def sleep_and_wake(signals: Signals) -> list[Waking]:
    """Sleep 200 times a second until told to stop."""
    found: list[Waking] = []
    signals.ready.set()
    due = time.monotonic() + _PERIOD_SECONDS
    while not signals.stopping.wait(max(0.0, due - time.monotonic())):
        now = time.monotonic()
        found.append(Waking(time.time_ns(), (now - due) * 1000))
        due = now + _PERIOD_SECONDS
    return found
