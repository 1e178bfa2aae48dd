"""The last good mixes on their way to the disk, in a thread of its own: a disk that stands still
delays no change.
"""

import threading
from collections.abc import Callable

from workers.steering.events import Events

_PAUSE_S = 0.1  # between a change and its copy: a storm of changes costs ten copies a second
_AGAIN_S = 1.0  # until a disk that could not be written to is tried again


class Keeper:
    """Has `keep` called after what was noted, and a last time at the end; it says whether all is
    kept.
    """

    def __init__(self, keep: Callable[[], bool], events: Events) -> None:
        self._keep = keep
        self._events = events
        self._noted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="last-good", daemon=True)

    def start(self) -> None:
        """Begin. To be called once."""
        self._thread.start()

    def note(self) -> None:
        """Something has changed; returns at once."""
        self._noted.set()

    def stop(self, patience_s: float) -> None:
        """End; returns once all is kept, after `patience_s` seconds at the latest."""
        self._stopping.set()
        self._noted.set()
        if self._thread.is_alive():
            self._thread.join(patience_s)

    def _run(self) -> None:
        try:
            all_kept = True
            while not self._stopping.is_set():
                self._noted.wait(None if all_kept else _AGAIN_S)
                self._stopping.wait(_PAUSE_S)
                self._noted.clear()
                all_kept = self._keep()
            self._keep()
        except BaseException as error:
            self._events.say("steering_failed", error=repr(error))
            raise
