"""Steering: keeps each surface's weights as Redis has them, in a thread of its own.

The ranking thread reads one immutable snapshot and never waits: not for Redis, not for the disk, not for a lock.
Pushes only hasten: each second everything is read anew, and that is the truth. Without Redis the last good set
goes on; at a start without Redis the one kept on disk, else the surface's default.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from workers.ranking.surface import Surface
from workers.ranking.weights import Weights
from workers.steering import status
from workers.steering.connection import Command, Denied, Link, RedisLost
from workers.steering.events import Events, OnEvent
from workers.steering.standings import Standings

_PATIENCE_S = 1.0  # how long start() and stop() wait for the thread at most
_PAUSE_S = 0.5  # between attempts to reach Redis
_PACE_S = 0.005  # between two reads: a storm of writes costs at most 200 reads a second
_SLICE_S = 0.1  # how soon stop() is noticed
_STATUS_POLLS = 10  # the status of a worker that died is gone after so many polls


class Steering:
    """Weights of `surfaces` from the hashes `{prefix}weights:{surface}`, and this worker's status in return.

    `home` keeps the last good sets. `report` gives what the worker adds to its status: it is called in the steering
    thread and must neither block nor raise. `clock` is monotonic seconds, `now` milliseconds since the epoch.
    Raises ValueError for a URL that cannot be right.
    """

    def __init__(
        self,
        redis_url: str,
        prefix: str,
        surfaces: Mapping[str, Surface],
        worker_id: str,
        home: Path,
        on_event: OnEvent,
        *,
        report: Callable[[], Mapping[str, object]] = dict,
        poll_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        keys = {name: f"{prefix}weights:{name}" for name in surfaces}
        self._link = Link(redis_url)
        self._events = Events(on_event)
        self._standings = Standings(surfaces, keys, home, self._events, now)
        self._hashes = [("HGETALL", key) for key in keys.values()]
        # Turned on anew with each read: what a proxy or a failover has lost is back with the next poll.
        self._tracking = (
            ("CLIENT", "TRACKING", "OFF"),
            ("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", f"{prefix}weights:"),
        )
        self._worker_id = worker_id
        self._status_key = f"{prefix}workers:status:{worker_id}"
        self._report = report
        self._poll_s = poll_seconds
        self._clock = clock
        self._now = now
        self._connected = False
        self._pushes = False
        self._contact_at = -math.inf
        self._tried = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="steering", daemon=True)

    def start(self) -> None:
        """Begin; returns once Redis has been tried, after a second at the latest. To be called once."""
        self._standings.restore()
        self._thread.start()
        self._tried.wait(_PATIENCE_S)
        self._standings.say_fallbacks()

    def stop(self) -> None:
        """End the thread and take the status back; returns after a second at the latest."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def weights(self, surface: str) -> Weights:
        """The set to rank under now. Raises KeyError for an unknown surface."""
        return self._standings.snapshot[surface]

    def snapshot(self) -> Mapping[str, Weights]:
        """The sets of all surfaces as one immutable mapping."""
        return self._standings.snapshot

    def age_seconds(self) -> float:
        """Seconds since Redis last answered a read; infinite where it never has."""
        return self._clock() - self._contact_at

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._connect_and_follow()
                self._tried.set()
                self._stopping.wait(_PAUSE_S)
        except BaseException as error:
            self._events.say("steering_failed", error=repr(error))
            raise

    def _connect_and_follow(self) -> None:
        try:
            with self._link:
                self._follow()
        except RedisLost as lost:
            self._connected = False
            self._events.trouble("redis_lost", str(lost))
        finally:
            self._standings.keep()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            more_to_say = self._read()
            self._stopping.wait(_PACE_S)
            if not more_to_say:
                self._standings.keep()
                self._await_news()
        self._link.ask(("DEL", self._status_key))

    def _read(self) -> bool:
        """Say the status and read all surfaces in one round trip; True where there is more to say at once."""
        first = not self._connected
        _, tracking, written, *replies = self._link.ask(*self._tracking, self._status(), *self._hashes)
        self._contact_at = self._clock()
        self._say_connected(tracking, written)
        changed = self._standings.take(replies)
        self._tried.set()
        return first or changed

    def _status(self) -> Command:
        text = status.encode(self._worker_id, self._now(), self._pushes, self._standings.current, self._report())
        return ("SET", self._status_key, text, "PX", round(_STATUS_POLLS * self._poll_s * 1000))

    def _await_news(self) -> None:
        due = self._clock() + self._poll_s
        while self._clock() < due and not self._stopping.is_set():
            if self._link.has_news(_SLICE_S):
                return

    def _say_connected(self, tracking: object, written: object) -> None:
        if not self._connected:
            self._connected = True
            self._events.trouble("redis_lost", None)
            self._events.say("redis_connected", address=self._link.address)
        self._pushes = not isinstance(tracking, Denied)
        self._events.trouble("pushes_denied", _denial(tracking))
        self._events.trouble("status_denied", _denial(written))


def _denial(reply: object) -> str | None:
    return reply.message if isinstance(reply, Denied) else None
