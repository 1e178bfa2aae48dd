"""The wheel in a clean environment of each Python that this machine has: with the packages of the
lock alone, read-only, used by another user without HOME.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from tests.docs.documents import blocks
from tests.rig.redis import free_port
from tests.rig.wheel import Installed, build_wheel

TEN_MINUTES_S = 600.0
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


def test_an_empty_folder_and_the_wheel_lead_to_feeds_and_metrics_by_the_commands_of_the_readme(
    wheel: Path, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new user has ten minutes. How many seconds it took is printed: deploy/README.md has it."""
    begun = time.monotonic()
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = environment / "bin" / "pip"
    subprocess.run([pip, "install", "--quiet", f"{wheel}[local]"], check=True)
    installed_s = time.monotonic() - begun

    variables = {"PATH": f"{environment / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    variables |= {"TRIMTAB_CACHE": str(cache), "JAVA_HOME": os.environ.get("JAVA_HOME", "")}
    trimtab = environment / "bin" / "trimtab"
    subprocess.run([trimtab, "init", "feeds"], cwd=tmp_path, env=variables, check=True)
    project = tmp_path / "feeds"
    port = free_port()
    script = "set -euo pipefail\n"
    for block in blocks(project / "README.md", "bash"):
        script += block.text.replace("9464", str(port))
    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=project,
        env=variables,
        capture_output=True,
        text=True,
        timeout=TEN_MINUTES_S - installed_s,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    with capsys.disabled():
        click.echo(f"installed in {installed_s:.0f} s, all in {time.monotonic() - begun:.0f} s")

    counted = re.findall(r"^trimtab_feeds_total.* (\d+)", ended.stdout, re.MULTILINE)
    assert counted == ["20", "40"]
    assert "ok       redis" in ended.stdout


def test_without_a_c_compiler_the_wheel_is_for_any_machine_and_ranks_the_same(
    wheel: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "compiled").mkdir()
    (tmp_path / "plain").mkdir()
    plain_wheel = build_wheel(tmp_path / "plain", compiler="no-such-compiler")
    assert plain_wheel.name.endswith("-py3-none-any.whl")

    ranked = []
    for name, each in (("compiled", wheel), ("plain", plain_wheel)):
        installed = Installed.into_folder(each, tmp_path / name)
        installed.trimtab("init", "feeds")
        ranked.append(installed.trimtab("rank", "events.jsonl", folder=installed.home / "feeds"))
    assert ranked[0] == ranked[1]


def test_the_python_of_this_environment_is_among_those_tried() -> None:
    major, minor = sys.version_info[:2]
    assert f"{major}.{minor}" in interpreters()
