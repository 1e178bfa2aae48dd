"""The programs of Debian's packages run."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy import programs as packages
from tests.deploy.programs import CannotInstall, Programs, install_programs
from tests.rig.redis import RedisServer


def test_prometheus_and_promtool_run(programs: Programs) -> None:
    for program in (programs.prometheus, programs.promtool):
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        assert f"{program.name}, version 2." in said.stdout + said.stderr


def test_redis_is_a_seven(programs: Programs, make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis(binary=str(programs.redis_server))
    server.start()
    assert str(server.client.info("server")["redis_version"]).startswith("7.")


def test_a_package_that_cannot_be_had_fails_with_what_apt_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "_PACKAGES", ("trimtab-has-no-such-package",))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(CannotInstall, match="trimtab-has-no-such-package"):
        install_programs(tmp_path / "programs")
    with pytest.raises(CannotInstall):
        install_programs(tmp_path / "programs")
