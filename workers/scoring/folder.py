"""The models' folder, looked at again and again: what has not changed is not read anew."""

import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from workers.scoring.catalogue import Stamp
from workers.scoring.manifest import MANIFEST, MODEL
from workers.scoring.refusal import Version

_NUMBER = re.compile("[0-9]+")
# A folder that changes twice within one tick of the file system's clock shows one time of change.
_TICK_NS = 2_000_000_000

Listing = Mapping[str, Mapping[int, Version]]


class _Seen(NamedTuple):
    stat: tuple[int, int]
    versions: list[Version]
    settled: bool


class Folder:
    """`<root>/<objective>/<version>/`. A version without manifest.json is not there yet: the
    manifest comes last.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: dict[str, _Seen] = {}
        self._complete: dict[Path, bool] = {}

    def look(self) -> Listing:
        """Every version that is there, by objective and number."""
        self._seen = {name: seen for name, seen in self._look_at_all() if seen.versions}
        found = {
            name: {
                version.number: version for version in seen.versions if self._is_complete(version)
            }
            for name, seen in self._seen.items()
        }
        kept = {version.folder for versions in found.values() for version in versions.values()}
        self._complete = dict.fromkeys(kept, True)
        return {objective: versions for objective, versions in found.items() if versions}

    def _look_at_all(self) -> Iterator[tuple[str, _Seen]]:
        now = time.time_ns()
        for name, folder in _folders(self._root):
            try:
                found = folder.stat()
            except OSError:
                continue  # it went between two looks
            stat, before = (found.st_ino, found.st_mtime_ns), self._seen.get(name)
            if before is not None and before.stat == stat and before.settled:
                yield name, before
            else:
                yield (
                    name,
                    _Seen(stat, list(_versions(name, folder)), now - found.st_mtime_ns > _TICK_NS),
                )

    def _is_complete(self, version: Version) -> bool:
        return version.folder in self._complete or (version.folder / MANIFEST).exists()


def find_versions(root: Path) -> dict[str, list[Version]]:
    """Versions by objective, the highest first, also those whose manifest is not there."""
    found = {name: list(_versions(name, folder)) for name, folder in sorted(_folders(root))}
    return {
        o: sorted(versions, key=lambda version: -version.number)
        for o, versions in found.items()
        if versions
    }


def stamp(version: Version) -> Stamp:
    """The state of a version's files."""
    return Stamp(_stamp(version.folder / MANIFEST), _stamp(version.folder / MODEL))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _versions(objective: str, folder: Path) -> Iterator[Version]:
    """Folders whose names are whole numbers; of `1` and `01` the one that a manifest can name."""
    named = {name: path for name, path in _folders(folder) if _NUMBER.fullmatch(name)}
    for name, path in sorted(named.items()):
        if name == str(int(name)) or str(int(name)) not in named:
            yield Version(objective, int(name), path)


def _folders(folder: Path) -> Iterator[tuple[str, Path]]:
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if entry.is_dir() and _is_text(entry.name)]
    except OSError:
        found = []
    for entry in found:
        yield entry.name, Path(entry.path)


def _is_text(name: str) -> bool:
    """Bytes that are no UTF-8 can name nothing in a record, a document or a log."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
