"""Kafka's libraries: fetched once by Maven into a cache folder of the user's.

The folder is named after the pom.xml, filled under another name and renamed when whole: one that
exists is complete.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path

from workers.local.errors import StackError, tail
from workers.local.processes import run
from workers.local.state import Say, locked


def settings_file(name: str) -> Path:
    """A file of deploy/local: in a checkout from there, in an installed wheel from beside this
    module.
    """
    here = Path(__file__).parent
    beside = here / "deploy" / name
    return beside if beside.is_file() else here.parents[1] / "deploy" / "local" / name


def program(name: str, package: str) -> str:
    """The full path of a program on PATH. Raises StackError that says what to install."""
    found = shutil.which(name)
    if found is None:
        raise StackError(
            f"{name}: not found on PATH. The local Kafka needs it; on Debian: apt install {package}"
        )
    return found


def kafka_jars(cache: Path, say: Say) -> Path:
    """The folder of Kafka's libraries, filled by Maven where this is the first use. Raises
    StackError.
    """
    pom = settings_file("pom.xml")
    folder = cache / f"kafka-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    mvn = program("mvn", "maven")
    # Two at once would fetch everything twice, and Maven's own repository is not made for two
    # writers.
    with locked(cache / "fetch.lock", lambda: say("another command fetches Kafka: waiting for it")):
        if not folder.is_dir():
            say("fetching Kafka with Maven, this once (about 45 MB)")
            _fill(folder, mvn, pom)
    return folder


def _fill(folder: Path, mvn: str, pom: Path) -> None:
    new = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        _copy_dependencies(mvn, pom, new)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _copy_dependencies(mvn: str, pom: Path, folder: Path) -> None:
    quietly = ("--batch-mode", "--quiet", "--no-transfer-progress", "--strict-checksums")
    command = (
        mvn,
        *quietly,
        f"--file={pom}",
        "dependency:copy-dependencies",
        f"-DoutputDirectory={folder}",
    )
    code, said = run(command, folder)
    if code != 0 or not any(folder.iterdir()):
        raise StackError(
            f"Maven could not fetch Kafka's libraries (exit {code}); is a Maven repository reachable? "
            f"The end of its output:\n{tail(said)}"
        )
