"""Kafka's libraries, and others that a pom.xml names: Maven fetches them once, into a folder of the
user's cache.

The folder is named after the hash of pom.xml. It is filled under another name and renamed once it
is complete, so a folder of this name is always complete.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path

from workers.local.processes import run
from workers.local.server import StackError, last_lines
from workers.local.state import Report, locked


def settings_file(name: str) -> Path:
    """A file of deploy/local. A wheel has its own copy beside this module."""
    here = Path(__file__).parent
    in_wheel = here / "deploy" / name
    if in_wheel.is_file():
        return in_wheel
    return here.parents[1] / "deploy" / "local" / name


def find_program(name: str, package: str) -> str:
    """The full path of a program on PATH. Raises StackError that says which package to install."""
    path = shutil.which(name)
    if path is None:
        raise StackError(
            f"{name}: not found on PATH. The local Kafka needs it; on Debian: apt install {package}"
        )
    return path


def kafka_jars(cache: Path, report: Report) -> Path:
    """The folder of Kafka's libraries. Maven fills it at the first use. Raises StackError."""
    return fetch_jars("Kafka", settings_file("pom.xml"), cache, report, size_mb=45)


def fetch_jars(title: str, pom: Path, cache: Path, report: Report, size_mb: int) -> Path:
    """The folder of the libraries that a pom.xml names. Maven fills it at the first use. Raises
    StackError.

    `title` is for people. `size_mb` says about how much is fetched.
    """
    name = title.lower().replace(" ", "-")
    folder = cache / f"{name}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    if folder.is_dir():
        return folder

    maven = find_program("mvn", package="maven")
    # Two at once would fetch everything twice, and Maven's own repository is not made for two
    # writers.
    with locked(
        cache / "fetch.lock", lambda: report(f"another command is fetching {title}: waiting for it")
    ):
        if not folder.is_dir():
            report(f"fetching {title} with Maven, this once (about {size_mb} MB)")
            _fill(title, folder, maven, pom)
    return folder


def _fill(title: str, folder: Path, maven: str, pom: Path) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    command = (
        maven,
        "--batch-mode",
        "--quiet",
        "--no-transfer-progress",
        "--strict-checksums",
        f"--file={pom}",
        "dependency:copy-dependencies",
        f"-DoutputDirectory={unfinished}",
    )
    try:
        exit_code, output = run(command, unfinished)
        if exit_code != 0 or not any(unfinished.iterdir()):
            raise StackError(
                f"Maven could not fetch {title}'s libraries (exit {exit_code}); "
                "is a Maven repository reachable? "
                f"The end of its output:\n{last_lines(output)}"
            )
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
