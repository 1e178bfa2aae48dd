"""`trimtab worker` whose consumer hangs in one `poll`, as soon as the file exists that the first
argument names.

A real client ignores its own limit now and then, but cannot be made to. As in a real one, the hang is
outside of Python: no signal handler runs meanwhile.
"""

import ctypes
import sys
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer

from workers.commands import process
from workers.commands.worker import worker
from workers.streaming import clients


def hang() -> None:
    """Lock a mutex twice. No signal ends that."""
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
    process.STUCK_SECONDS = 2.0
    worker(args=sys.argv[2:])
