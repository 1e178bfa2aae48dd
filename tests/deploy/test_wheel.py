"""The wheel in a clean environment of each Python that this machine has: with the packages of the
lock alone, read-only, used by another user without HOME.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.wheel import Installed, build_wheel

VERSIONS = ("3.11", "3.12", "3.13")


def interpreters() -> dict[str, str]:
    """The Pythons of this machine by their version: on PATH, or installed beside this one."""
    found: dict[str, str] = {}
    for version in VERSIONS:
        beside = Path(sys.base_prefix).parent.glob(f"{version}*/bin/python{version}")
        candidates = [shutil.which(f"python{version}"), *map(str, beside)]
        for python in candidates:
            if python is not None and _is_version(python, version):
                found.setdefault(version, python)
    return found


def _is_version(python: str, version: str) -> bool:
    program = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    ended = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    return ended.stdout.strip() == version


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.mark.parametrize("version", interpreters())
def test_the_wheel_and_the_lock_are_all_that_a_new_user_needs(
    wheel: Path, tmp_path: Path, version: str
) -> None:
    tmp_path.chmod(0o755)
    installed = Installed.with_lock(wheel, tmp_path, interpreters()[version])

    installed.trimtab("init", "feeds")
    project = installed.home / "feeds"
    verified = installed.trimtab("models", "verify", folder=project)
    ranked = installed.trimtab("rank", "events.jsonl", folder=project)

    assert verified.splitlines() == ["ok       engagement/1", "ok       quality/1"]
    feeds = [json.loads(line) for line in ranked.splitlines()]
    assert [len(feed["items"]) for feed in feeds] == [12] * 20


def test_the_python_of_this_environment_is_among_those_tried() -> None:
    major, minor = sys.version_info[:2]
    assert f"{major}.{minor}" in interpreters()
