"""Fixtures that all tests share: one real Kafka and one real Redis for the whole run, and servers of
a test's own.
"""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from tests.rig.redis import RedisServer
from tests.rig.servers import user_cache
from workers.local import Stack

pytest_plugins = ["pytester", "tests.rig.server_mark"]


def pytest_configure() -> None:
    # A run that is ended by SIGTERM still tears down: its servers must not stay behind.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", returncode=1))


@pytest.fixture(autouse=True)
def logs_of_its_own() -> None:
    """A command that a test ran in this process has configured its logs, for itself alone."""
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def cache() -> Path:
    """Where Kafka's programs are: the user's own cache, so that Maven fetches them once.

    Everything that starts a Kafka takes this fixture: see tests/rig/server_mark.py.
    """
    return user_cache()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Stack]:
    """A stack that is up; a test that stops a server of it starts it again."""
    local = Stack(tmp_path_factory.mktemp("stack"), cache)
    try:
        local.up()
        yield local
    finally:
        local.down()


@pytest.fixture(scope="session")
def kafka(stack: Stack) -> str:
    """The bootstrap address."""
    return str(stack.status().kafka.address)


@pytest.fixture(scope="session")
def redis_url(stack: Stack) -> str:
    """The URL of the Redis."""
    return str(stack.status().redis.address)


@pytest.fixture
def make_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Make a redis-server that is not started yet. Each is killed at the end."""
    servers: list[RedisServer] = []

    def make(*options: str, binary: str | None = None) -> RedisServer:
        folder = tmp_path / f"redis-{len(servers)}"
        folder.mkdir()
        servers.append(RedisServer(folder, *options, binary=binary))
        return servers[-1]

    yield make
    for server in servers:
        server.kill()
