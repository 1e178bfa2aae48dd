"""Programs of Debian packages, unpacked into a folder: nothing is installed on the machine, no
service is started, and no root is needed.
"""

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

_PROGRAMS = ("prometheus", "promtool", "redis-server")
_PACKAGES = (
    "prometheus",
    "redis-server",
    # redis-server is a link to a file of this package. The libraries are what it is linked with.
    "redis-tools",
    "libatomic1",
    "libjemalloc2",
    "liblua5.1-0",
    "liblzf1",
    "lua-bitop",
    "lua-cjson",
)
_DONE = "complete"


class Programs(NamedTuple):
    """Each program as a file that can be run."""

    prometheus: Path
    promtool: Path
    redis_server: Path


class CannotInstall(Exception):
    """apt-get did not give a package. The message has what it said."""


def install_programs(folder: Path) -> Programs:
    """Download and unpack the packages, unless the folder has them. Raises CannotInstall."""
    if not (folder / _DONE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _unpack_packages(folder)
        _write_starters(folder)
        (folder / _DONE).touch()
    return Programs(*(folder / "starters" / name for name in _PROGRAMS))


def _unpack_packages(folder: Path) -> None:
    if shutil.which("apt-get") is None:
        raise CannotInstall("apt-get: not found. These tests need Debian 12 or later, or Ubuntu")
    with TemporaryDirectory(prefix="trimtab-packages-") as name:
        downloads = Path(name)
        # apt may write here as its own user
        downloads.chmod(0o755)
        said = _run("apt-get", "download", *_PACKAGES, cwd=downloads)
        if said and os.geteuid() == 0:
            # The lists of packages are missing, or are older than the packages.
            _run("apt-get", "update", cwd=downloads)
            said = _run("apt-get", "download", *_PACKAGES, cwd=downloads)
        if said:
            raise CannotInstall(f"apt-get download: {said}\nTry `apt-get update` as root first.")

        for package in sorted(downloads.glob("*.deb")):
            said = _run("dpkg-deb", "--extract", str(package), str(folder), cwd=downloads)
            if said:
                raise CannotInstall(f"dpkg-deb --extract {package.name}: {said}")


def _write_starters(folder: Path) -> None:
    """A script for each program, because the libraries are not where the system looks for them."""
    libraries = ":".join(str(path) for path in sorted((folder / "usr/lib").glob("*-linux-gnu*")))
    starters = folder / "starters"
    starters.mkdir()
    for name in _PROGRAMS:
        program = shlex.quote(str(folder / "usr/bin" / name))
        starter = starters / name
        starter.write_text(
            f'#!/bin/sh\nLD_LIBRARY_PATH={shlex.quote(libraries)} exec {program} "$@"\n'
        )
        starter.chmod(0o755)


def _run(*command: str, cwd: Path) -> str:
    """Run a command. What it said, if it failed."""
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if ended.returncode == 0:
        return ""
    return (ended.stderr or ended.stdout).strip() or f"exit code {ended.returncode}"
