"""The models folder: scanned again and again, and compared with the catalogue.

Rules:

- A version is a folder `<root>/<objective>/<number>/`. The manifest is written last, so a folder
  without manifest.json is not a version yet.
- Folders that have not changed since the last scan are not read again.
- A version that was verified is not read again either. If its file is replaced by another model,
  the hash shows it when the version is loaded again.
- A refused version is listed again when its files change.
- A version that is loaded and in force stays in the catalogue when its folder goes.
"""

import os
import re
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from workers.scoring.catalogue import Catalogue, CatalogueEntry, FileStamp, VersionState
from workers.scoring.files import MANIFEST, MODEL
from workers.scoring.refusal import Version

_NUMBER = re.compile("[0-9]+")
# A folder that changes twice within one tick of the file system's clock shows one time of change.
_TICK_NS = 2_000_000_000

Listing = Mapping[str, Mapping[int, Version]]
"""Objective to number to version."""


class _ScannedFolder(NamedTuple):
    """An objective's folder at the last scan.

    `stat` is its inode and its time of change in ns. `settled`: that time can be trusted.
    """

    stat: tuple[int, int]
    versions: list[Version]
    settled: bool


class Folder:
    """The models folder, and what was seen of it at the last scan."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._scanned: dict[str, _ScannedFolder] = {}
        self._complete: set[Path] = set()

    def scan(self) -> Listing:
        """Every version that is complete, by objective and number."""
        self._scanned = self._scan_objectives()

        listing: dict[str, dict[int, Version]] = {}
        complete = set[Path]()
        for objective, scanned in self._scanned.items():
            for version in scanned.versions:
                folder = version.folder
                if folder in self._complete or (folder / MANIFEST).exists():
                    listing.setdefault(objective, {})[version.number] = version
                    complete.add(folder)
        self._complete = complete
        return listing

    def _scan_objectives(self) -> dict[str, _ScannedFolder]:
        """The folders that have versions, by objective. Unchanged folders are not read again."""
        now = time.time_ns()
        scanned: dict[str, _ScannedFolder] = {}
        for name, folder in _folders(self._root):
            try:
                status = folder.stat()
            except OSError:
                continue  # it was removed in the meantime

            stat = (status.st_ino, status.st_mtime_ns)
            current = self._scanned.get(name)
            if current is None or current.stat != stat or not current.settled:
                settled = now - status.st_mtime_ns > _TICK_NS
                current = _ScannedFolder(stat, list(_versions(name, folder)), settled)
            if current.versions:
                scanned[name] = current
        return scanned


class CatalogueChanges(NamedTuple):
    """Entries to add or replace, and versions that are gone."""

    put: list[CatalogueEntry]
    dropped: list[Version]


def changes_of(
    catalogue: Catalogue, listing: Listing, in_force: Collection[tuple[str, int]]
) -> CatalogueChanges:
    """Compare a listing with the catalogue. `in_force` has pairs of objective and number.

    | In the listing | In the catalogue                  | Change                  |
    |----------------|-----------------------------------|-------------------------|
    | yes            | no                                | put it                  |
    | yes            | refused or gone, its files differ | put it as a new version |
    | yes            | gone, its files are the same      | put it as listed again  |
    | yes            | otherwise                         | none                    |
    | no             | loaded and in force               | put it as gone          |
    | no             | otherwise                         | drop it                 |
    """
    put = list[CatalogueEntry]()
    dropped = list[Version]()

    for versions in listing.values():
        for version in versions.values():
            known = catalogue.entry(version.objective, version.number)
            if known is None:
                put.append(CatalogueEntry(version, stamp(version)))
            elif known.state in (VersionState.GONE, VersionState.REFUSED):
                current = stamp(version)
                if current != known.stamp:
                    put.append(CatalogueEntry(version, current))
                elif known.state is VersionState.GONE:
                    put.append(replace(known, listed=True))

    for entry in catalogue:
        objective = entry.version.objective
        number = entry.version.number
        if number in listing.get(objective, {}):
            continue
        if entry.cached_session is None or (objective, number) not in in_force:
            dropped.append(entry.version)
        elif entry.listed:
            put.append(replace(entry, listed=False))
    return CatalogueChanges(put, dropped)


def find_versions(root: Path) -> dict[str, list[Version]]:
    """Versions by objective, the highest first. Includes those without a manifest."""
    by_objective: dict[str, list[Version]] = {}
    for objective, folder in sorted(_folders(root)):
        versions = list(_versions(objective, folder))
        if versions:
            by_objective[objective] = sorted(versions, key=lambda version: -version.number)
    return by_objective


def stamp(version: Version) -> FileStamp:
    """The stamp of a version's files."""
    return FileStamp(_stamp(version.folder / MANIFEST), _stamp(version.folder / MODEL))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _versions(objective: str, folder: Path) -> Iterator[Version]:
    """Folders whose names are whole numbers. Of `1` and `01`, the one that a manifest can name."""
    numbered = {name: path for name, path in _folders(folder) if _NUMBER.fullmatch(name)}
    for name, path in sorted(numbered.items()):
        number = int(name)
        if name == str(number) or str(number) not in numbered:
            yield Version(objective, number, path)


def _folders(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and paths of the folders inside a folder. Empty if it cannot be read.

    Names that are not UTF-8 are left out: they cannot be written to a record, a document or a log.
    """
    try:
        with os.scandir(folder) as entries:
            folders = [entry for entry in entries if entry.is_dir()]
    except OSError:
        return

    for entry in folders:
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            continue
        yield entry.name, Path(entry.path)
