"""A real redis-server for each test, and followers whose log events a test can wait for."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders import surface
from tests.rig.redis import RedisServer
from workers.steering import Follower

PATIENCE_S = 15.0
SURFACES = {"home": surface("home"), "other": surface("other")}


class Events:
    """Keeps every log event. A test waits for an event, never for a time."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    def __call__(self, event: str, /, **fields: object) -> None:
        with self._changed:
            self._events.append({"event": event, **fields})
            self._changed.notify_all()

    def all(self, event: str, **fields: object) -> list[dict[str, Any]]:
        wanted = {"event": event, **fields}
        with self._changed:
            return [event for event in self._events if wanted.items() <= event.items()]

    def everything(self) -> list[dict[str, Any]]:
        with self._changed:
            return list(self._events)

    def wait(self, event: str, count: int = 1, **fields: object) -> dict[str, Any]:
        """The count-th such event, once it was logged."""
        with self._changed:
            came = self._changed.wait_for(
                lambda: len(self.all(event, **fields)) >= count, PATIENCE_S
            )
            assert came, f"no {event} {fields} in {self._events}"
        return self.all(event, **fields)[count - 1]


def read_once_more(server: RedisServer, *events: Events) -> None:
    """Return when all of these have read what was written by now: pushes come in the order of the
    writes.
    """
    counts = [len(one.all("weights_applied", surface="other")) for one in events]
    server.set("other", quality=(sum(counts) + 1) / 10_000)
    for one, count in zip(events, counts, strict=True):
        one.wait("weights_applied", count + 1, surface="other")


@pytest.fixture
def stopped_server(make_redis: Callable[..., RedisServer]) -> RedisServer:
    return make_redis()


@pytest.fixture
def server(stopped_server: RedisServer) -> RedisServer:
    stopped_server.start()
    return stopped_server


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def steer(
    stopped_server: RedisServer, events: Events, tmp_path: Path
) -> Iterator[Callable[..., Follower]]:
    """Start a follower of the surfaces `home` and `other`; each one is stopped at the end."""
    started: list[Follower] = []

    def start(**changes: Any) -> Follower:
        values: dict[str, Any] = {
            "redis_url": stopped_server.url,
            "prefix": "",
            "surfaces": SURFACES,
        }
        values |= {
            "worker_id": "w-1",
            "home": tmp_path / "home",
            "on_event": events,
            "poll_seconds": 0.1,
        }
        steering = Follower(**(values | changes))
        started.append(steering)
        steering.start()
        return steering

    yield start
    for steering in started:
        steering.stop()
