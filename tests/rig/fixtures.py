"""Environments for the tests that need one. A conftest imports them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.environment import SURFACES, Environment, write_files

# A killed member leaves its group sooner than by the default of 6 s: these tests kill often.
_QUICK_SESSIONS = "session.timeout.ms=2000\nheartbeat.interval.ms=500\n"


def write_test_files(folder: Path, deadline_ms: int = 60_000) -> None:
    """The files of an environment, with the deadline of its surfaces.

    The default is longer than any pause of the machine, so no request closes early. Tests of
    deadlines ask for less.
    """
    write_files(folder, SURFACES.replace("deadline_ms = 60000", f"deadline_ms = {deadline_ms}"))
    (folder / "kafka.properties").write_text(_QUICK_SESSIONS)


@pytest.fixture
def make_env(kafka: str, redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Environment]]:
    """Make an environment on the shared servers; all its processes are killed at the end."""
    made: list[Environment] = []

    def make(
        deadline_ms: int = 60_000, variables: dict[str, str] | None = None, **changes: Any
    ) -> Environment:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        write_test_files(folder, deadline_ms)

        env = Environment(kafka, redis_url, folder, **changes)
        # Under the protocol `consumer` the broker sets the session, and the client may not.
        if env.protocol != "consumer":
            env.variables["TRIMTAB_KAFKA_CONFIG"] = str(folder / "kafka.properties")
        env.variables |= variables or {}
        made.append(env)
        env.create_topics()
        return env

    yield make
    for env in made:
        env.end()


@pytest.fixture
def env(make_env: Callable[..., Environment]) -> Environment:
    """One environment."""
    return make_env()
