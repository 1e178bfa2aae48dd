"""The wheel as whoever installs it has it: built, installed in a folder of its own, and used by
another user who may write nothing there.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.docs.documents import ROOT

_NOBODY = 65_534
_SOURCES = ("workers", "deploy", "onnx_models", "pyproject.toml", "README.md", "LICENSE")


def build_wheel(folder: Path, compiler: str | None = None) -> Path:
    """Build the wheel of this checkout, from a copy: a build must not leave anything in it.

    `compiler` is the C compiler. None for the one that this machine has.
    """
    source = folder / "source"
    for name in _SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(
                path, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so")
            )
        else:
            shutil.copy(path, source / name)
    environment = dict(os.environ)
    if compiler is not None:
        environment["CC"] = compiler
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder)]
    _run([*pip, str(source)], environment=environment)
    (wheel,) = folder.glob("trimtab-*.whl")
    return wheel


@dataclass(frozen=True)
class Installed:
    """An installation that nobody may write to, and the folder of its user."""

    python: Path
    package_path: Path | None
    home: Path

    @classmethod
    def into_folder(cls, wheel: Path, folder: Path) -> "Installed":
        """The package alone. Its requirements are those of the tests' own environment."""
        target = folder / "installed"
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
        _run([*pip, "--target", str(target), str(wheel)])
        _close(target)
        return cls(Path(sys.executable), target, _user_folder(folder))

    @classmethod
    def with_lock(cls, wheel: Path, folder: Path, python: str) -> "Installed":
        """A clean environment of that Python, with every package of the lock."""
        environment = folder / "environment"
        _run([python, "-m", "venv", str(environment)])
        own = environment / "bin" / "python"
        pip = [str(own), "-m", "pip", "install", "-q"]
        _run([*pip, "--require-hashes", "-r", str(ROOT / "deploy" / "requirements.lock")])
        _run([*pip, "--no-deps", str(wheel)])
        _close(environment)
        return cls(own, None, _user_folder(folder))

    def trimtab(self, *words: str, folder: Path | None = None) -> str:
        """What the command prints, run by another user without HOME. Raises if it fails."""
        return self._python("-m", "workers.cli", *words, folder=folder)

    def imported_from(self) -> Path:
        """Where the package is."""
        return Path(self._python("-c", "import workers; print(workers.__path__[0])").strip())

    def _python(self, *words: str, folder: Path | None = None) -> str:
        environment = {"PATH": os.defpath}
        if self.package_path is not None:
            environment["PYTHONPATH"] = str(self.package_path)
        command = [*_as_another_user(), str(self.python), "-P", *words]
        return _run(command, environment=environment, folder=folder or self.home)


def _as_another_user() -> list[str]:
    """What makes a command run as another user, if this one may do that. It may read what root may
    read, because the interpreter may be in root's home, and write nothing.
    """
    if os.getuid() != 0:
        return []
    user = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    return [*user, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def _user_folder(folder: Path) -> Path:
    """A folder that the other user may write to. Those above it may be entered."""
    home = folder / "user"
    home.mkdir()
    home.chmod(0o777)
    return home


def _close(folder: Path) -> None:
    """Make everything in a folder read-only."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)


def _run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    ended = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"{' '.join(command)}: {ended.stdout}{ended.stderr}"
    return ended.stdout
