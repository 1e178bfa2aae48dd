"""Marks the tests that need a server, so that `make check` can leave them out and `make test` can
begin with them.

Nobody sets the mark by hand:

- A test needs a server if it uses one of SERVER_FIXTURES, directly or through other fixtures.
  Whatever starts a Kafka takes its programs from `cache`. Whatever starts a Redis takes it from
  `make_redis`.
- A test without the mark fails if it reaches one of these fixtures in another way
  (`request.getfixturevalue`), and if it starts a server without them.
"""

import sys
from collections.abc import Sequence
from pathlib import Path, PurePath

import pytest

MARK = "server"
SERVER_FIXTURES = frozenset({"cache", "make_redis"})

_KAFKA = "kafka.Kafka"
_REDIS = frozenset({"redis-server", "valkey-server"})

_running: pytest.Item | None = None


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark, and watch the processes that are started."""
    config.addinivalue_line("markers", f"{MARK}: needs a real Kafka or Redis (set by itself)")
    sys.addaudithook(_check_process)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test that uses a server fixture. `fixturenames` holds those of fixtures, too.

    Files with such tests come first. They take long, and mostly wait. The short files that follow
    keep every process busy until the end.
    """
    with_servers: set[Path] = set()
    for item in items:
        if not SERVER_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(MARK)
            with_servers.add(item.path)
    items.sort(key=lambda item: item.path not in with_servers)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember which test runs."""
    global _running  # noqa: PLW0603  # the hooks of a plugin share nothing else
    _running = item


def pytest_fixture_setup(fixturedef: "pytest.FixtureDef[object]") -> None:
    """Fail if a test without the mark reaches a server fixture."""
    if fixturedef.argname in SERVER_FIXTURES and _runs_without_a_server():
        pytest.fail(f"reaches the fixture {fixturedef.argname!r}, but does not declare it")


def _check_process(event: str, arguments: tuple[object, ...]) -> None:
    """Fail if a test without the mark starts a server."""
    if event != "subprocess.Popen" or not _runs_without_a_server():
        return
    command = arguments[1]
    if isinstance(command, list | tuple) and _starts_server([str(word) for word in command]):
        raise AssertionError("starts a server, but uses none of the fixtures that do so")


def _starts_server(command: Sequence[str]) -> bool:
    return _KAFKA in command or any(PurePath(word).name in _REDIS for word in command)


def _runs_without_a_server() -> bool:
    return _running is not None and _running.get_closest_marker(MARK) is None
