"""Fixtures that all tests share: one real Kafka and one real Redis for the whole run, and servers of
a test's own.
"""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import structlog

from tests.rig.redis import RedisServer
from tests.rig.servers import user_cache
from workers.local import Stack

_TEAR_DOWN_SECONDS = 60.0
_DEPLOY_TESTS = Path(__file__).parent / "deploy"
"""Collected only if they are named, as `make test-deploy` does: they install programs."""

pytest_plugins = ["pytester", "tests.rig.server_mark"]


def pytest_configure(config: pytest.Config) -> None:
    """A run that is ended by SIGTERM still tears down: its servers must not stay behind."""
    starts_workers = bool(config.getoption("numprocesses", None)) and not is_xdist_worker(config)

    def end_run(*_: object) -> None:
        if starts_workers:
            # xdist kills its processes when this one ends. They must tear down before, which has
            # happened once everything that they have started is gone.
            workers = psutil.Process().children()
            started = [process for worker in workers for process in worker.children(recursive=True)]
            for worker in workers:
                worker.terminate()
            psutil.wait_procs(started, timeout=_TEAR_DOWN_SECONDS)
        pytest.exit("terminated", returncode=1)

    signal.signal(signal.SIGTERM, end_run)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the tests of deploy/ unless the folder or a file of it is named."""
    if collection_path != _DEPLOY_TESTS:
        return None
    named = [Path(argument.split("::")[0]).resolve() for argument in config.args]
    is_named = any(path.is_relative_to(_DEPLOY_TESTS) for path in named)
    return None if is_named else True


def is_xdist_worker(config: pytest.Config) -> bool:
    """Whether this is one of the processes that xdist starts, and not the one that started them."""
    return hasattr(config, "workerinput")


@pytest.fixture(autouse=True)
def logs_of_its_own() -> None:
    """What a command in this process has configured for its logs ends with its test."""
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
