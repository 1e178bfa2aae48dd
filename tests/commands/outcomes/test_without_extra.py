"""Without the extra `outcomes`, only the users stage is missing, and says how to install it."""

import subprocess
import sys

import pytest

_WITHOUT = """
import sys
sys.modules["faust"] = None
sys.modules["aiokafka"] = None
from workers.cli import main
sys.argv = ["trimtab", *sys.argv[1:]]
main()
"""


def trimtab_without_extra(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in a Python that does not have Faust and aiokafka."""
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("words", [("outcomes",), ("outcomes", "users")])
def test_the_users_stage_names_the_extra(words: tuple[str, ...]) -> None:
    ended = trimtab_without_extra(*words)
    assert ended.returncode == 2
    assert "pip install 'trimtab[outcomes]'" in ended.stderr


@pytest.mark.parametrize("words", [("outcomes", "--help"), ("outcomes", "join", "--help")])
def test_every_other_command_is_there(words: tuple[str, ...]) -> None:
    """All commands are imported for each of them."""
    ended = trimtab_without_extra(*words)
    assert ended.returncode == 0, ended.stderr
    assert "Usage: trimtab outcomes" in ended.stdout
