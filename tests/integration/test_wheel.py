"""The wheel starts a new user: another user than the one who installed it, in a folder of theirs,
without HOME, and with the package read-only. tests/deploy has the same with the lock alone.
"""

import json
import os
from pathlib import Path

import pytest

from tests.rig.wheel import Installed, build_wheel
from workers.codec.compiled import IS_COMPILED


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Installed:
    return Installed.into_folder(wheel, wheel.parent)


@pytest.fixture(scope="module")
def project(installed: Installed) -> Path:
    installed.trimtab("init", "feeds")
    return installed.home / "feeds"


def test_the_package_is_the_installed_one_and_typed(installed: Installed) -> None:
    package = installed.imported_from()
    assert package.parent == installed.package_path
    assert (package / "py.typed").is_file()


def test_it_has_the_compiled_codec_if_this_environment_has_it(wheel: Path) -> None:
    """Both are built on this machine, in the same way."""
    is_for_any_machine = wheel.name.endswith("-none-any.whl")
    assert is_for_any_machine != IS_COMPILED


def test_init_writes_a_project_that_belongs_to_the_user(project: Path) -> None:
    written = project / "deploy" / "surfaces.toml"
    assert written.stat().st_uid == (65_534 if os.getuid() == 0 else os.getuid())


def test_its_models_verify(installed: Installed, project: Path) -> None:
    words = ("models", "verify", "--surfaces", "deploy/surfaces.toml")
    printed = installed.trimtab(*words, folder=project)
    assert printed.splitlines() == ["ok       engagement/1", "ok       quality/1"]


def test_its_events_are_ranked(installed: Installed, project: Path) -> None:
    printed = installed.trimtab("rank", "events.jsonl", folder=project)
    feeds = [json.loads(line) for line in printed.splitlines()]
    assert [len(feed["items"]) for feed in feeds] == [12] * 20
