"""`trimtab worker`, but the consumer's `poll` never returns once, when the file named first is
there.

It stands in for a client that ignores its own limit, which a real one cannot be made to do at will.
Like that, it hangs outside of Python: a handler of a signal does not run meanwhile.
"""

import ctypes
import sys
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer

from workers.commands import worker as command
from workers.streaming import clients


def hang() -> None:
    """Lock a mutex twice: no signal ends that."""
    mutex = ctypes.create_string_buffer(256)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)


class HangingConsumer(Consumer):
    """Hangs in one poll, as soon as the file exists."""

    signal = Path(sys.argv[1])

    def poll(self, *limits: Any) -> Any:
        if self.signal.exists():
            self.signal.unlink()
            hang()
        return super().poll(*limits)


if __name__ == "__main__":
    vars(clients)["Consumer"] = HangingConsumer
    command.STUCK_SECONDS = 2.0
    command.worker(args=sys.argv[2:])
