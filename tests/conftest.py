"""Fixtures that many rooms share: one real Kafka and one real Redis for the whole run, in a home of
their own.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from workers.local import Stack
from workers.settings import SETTINGS


def pytest_configure() -> None:
    # A run that is told to end still tears down: its servers must not stay behind.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", returncode=1))


@pytest.fixture(autouse=True)
def logs_of_its_own() -> None:
    """A command that a test ran in this process has configured its logs, for itself alone."""
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def cache() -> Path:
    """The user's own cache: Maven fetches Kafka once, not once a run."""
    setting = SETTINGS["cache"]
    return Path(os.environ.get(setting.variable) or str(setting.default)).expanduser()


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
