"""A test without the mark `server` cannot reach a server."""

from pathlib import Path

import pytest

FIXTURES = """
import subprocess
import pytest

pytest_plugins = ["tests.rig.server_mark"]

@pytest.fixture
def cache(): ...

@pytest.fixture
def stack(cache): ...

@pytest.fixture
def kafka(stack): ...
"""


def run(pytester: pytest.Pytester, tests: str, *options: str) -> dict[str, int]:
    """The outcomes of these tests. They run in a process of their own, as the plugin has a state."""
    pytester.makeconftest(FIXTURES)
    pytester.makepyfile(f"import subprocess\n\n{tests}")
    pytester.makeini("[pytest]\naddopts = --strict-markers\n")
    outcomes = pytester.runpytest_subprocess("-p", "no:cacheprovider", *options).parseoutcomes()
    outcomes.pop("warnings", None)
    return outcomes


@pytest.fixture(autouse=True)
def importable(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rig can be imported in the process that runs those tests."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def test_a_test_that_uses_a_server_through_other_fixtures_is_marked_by_itself(
    pytester: pytest.Pytester,
) -> None:
    tests = """
def test_on_kafka(kafka): ...
def test_alone(tmp_path): ...
"""
    assert run(pytester, tests, "-m", "server") == {"passed": 1, "deselected": 1}
    assert run(pytester, tests, "-m", "not server") == {"passed": 1, "deselected": 1}


def test_a_test_without_the_mark_that_reaches_a_server_fixture_fails(
    pytester: pytest.Pytester,
) -> None:
    tests = 'def test_sly(request): request.getfixturevalue("kafka")'
    assert run(pytester, tests, "-m", "not server") == {"failed": 1}


@pytest.mark.parametrize(
    "command",
    [
        ["/opt/redis-server", "--version"],
        ["/opt/valkey-server", "--version"],
        ["/usr/bin/env", "java", "kafka.Kafka"],
    ],
)
def test_a_test_without_the_mark_that_starts_a_server_fails(
    pytester: pytest.Pytester, command: list[str]
) -> None:
    tests = f"def test_sly(): subprocess.Popen({command})"
    assert run(pytester, tests) == {"failed": 1}
