"""What is known about every version in the models folder, as one immutable snapshot."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import msgspec

from workers.ranking.features import FeatureSet
from workers.scoring.manifest import Manifest
from workers.scoring.model import Model
from workers.scoring.refusal import ModelReason, Refusal, Version
from workers.scoring.session_cache import CachedSession, SessionKey


class VersionState(StrEnum):
    """How far a version has come."""

    LISTED = "listed"  # in the folder, not verified yet
    AVAILABLE = "available"  # verified; loaded when a request needs it
    LOADED = "loaded"  # verified, and ready to score
    REFUSED = "refused"  # verified again only when its files change
    GONE = "gone"  # its folder is gone; it stays loaded while it is in force


class Verified(msgspec.Struct, frozen=True, tag=True):
    """The verdict on a version that passed verification.

    `size` is that of model.onnx in bytes. The manifest keeps only one golden row, which warms the
    model up.
    """

    manifest: Manifest
    rows_per_call: int
    size: int

    @property
    def session_key(self) -> SessionKey:
        """Two versions with equal keys share a session."""
        manifest = self.manifest
        return SessionKey(
            sha256=manifest.sha256,
            input=str(manifest.input),
            output=str(manifest.output),
            features=manifest.features,
        )

    def model(self, cached: CachedSession) -> Model:
        """This version, scored by a loaded session."""
        return Model(self.manifest, cached.session, self.rows_per_call)


class Rejected(msgspec.Struct, frozen=True, tag=True):
    """The verdict on a version that failed verification, and why."""

    reason: ModelReason
    message: str


Verdict = Verified | Rejected


class FileStamp(NamedTuple):
    """Inode, size and time of change of a version's files. It differs if the files have changed."""

    manifest: tuple[int, int, int] | None
    model: tuple[int, int, int] | None


@dataclass(frozen=True)
class CatalogueEntry:
    """One version. `stamp` is that of the files that the verdict is about."""

    version: Version
    stamp: FileStamp
    verdict: Verdict | None = None
    cached_session: CachedSession | None = None
    listed: bool = True

    @property
    def state(self) -> VersionState:
        """How far it has come."""
        if isinstance(self.verdict, Rejected):
            return VersionState.REFUSED
        if not self.listed:
            return VersionState.GONE
        if self.verdict is None:
            return VersionState.LISTED
        if self.cached_session is None:
            return VersionState.AVAILABLE
        return VersionState.LOADED

    @property
    def verified(self) -> Verified | None:
        """The verdict, if the version passed verification."""
        return self.verdict if isinstance(self.verdict, Verified) else None

    @property
    def is_available(self) -> bool:
        """Whether it may come into force."""
        return self.listed and isinstance(self.verdict, Verified)

    @property
    def refusal(self) -> Refusal | None:
        """Why it is refused, if it is."""
        if not isinstance(self.verdict, Rejected):
            return None
        return Refusal(self.version, self.verdict.reason, self.verdict.message)

    @property
    def features(self) -> tuple[str, ...]:
        """The features that it reads, in its order. Empty before it is verified."""
        return self.verified.manifest.features if self.verified else ()

    @property
    def size(self) -> int:
        """The size of its model.onnx in bytes. 0 before it is verified."""
        return self.verified.size if self.verified else 0

    @property
    def bytes(self) -> int:
        """The estimated memory of its session. 0 if it is not loaded."""
        return self.cached_session.bytes if self.cached_session else 0

    def suits(self, feature_set: FeatureSet) -> bool:
        """Whether it is verified, and the feature set holds every feature that it reads."""
        return self.verified is not None and set(self.features) <= set(feature_set.names)


VersionEntries = Mapping[int, CatalogueEntry]
_NO_ENTRIES: VersionEntries = {}


@dataclass(frozen=True)
class Catalogue:
    """Objective to version number to entry, the highest version first. `revision` rises with every
    change.
    """

    revision: int
    entries: Mapping[str, VersionEntries]

    def versions(self, objective: str) -> VersionEntries:
        """The versions of an objective, the highest first."""
        return self.entries.get(objective, _NO_ENTRIES)

    def entry(self, objective: str, number: int) -> CatalogueEntry | None:
        """One version, if it is known."""
        return self.versions(objective).get(number)

    def highest(self, objective: str, feature_set: FeatureSet) -> CatalogueEntry | None:
        """The highest available version that reads only features of the set."""
        for entry in self.versions(objective).values():
            if entry.is_available and entry.suits(feature_set):
                return entry
        return None

    def highest_listed(self, objective: str) -> CatalogueEntry | None:
        """The highest version that is not verified yet."""
        for entry in self.versions(objective).values():
            if entry.state is VersionState.LISTED:
                return entry
        return None

    def next_to_verify(self, objective: str) -> CatalogueEntry | None:
        """The highest listed version, unless a higher one is available."""
        for entry in self.versions(objective).values():
            if entry.is_available:
                return None
            if entry.state is VersionState.LISTED:
                return entry
        return None

    def __iter__(self) -> Iterator[CatalogueEntry]:
        for versions in self.entries.values():
            yield from versions.values()

    def changed(
        self, put: Iterable[CatalogueEntry] = (), dropped: Iterable[Version] = ()
    ) -> "Catalogue":
        """The catalogue with these entries added or replaced, and without the dropped versions."""
        entries: dict[str, VersionEntries] = dict(self.entries)
        changed: dict[str, dict[int, CatalogueEntry]] = {}

        def versions_to_change(objective: str) -> dict[int, CatalogueEntry]:
            if objective not in changed:
                changed[objective] = dict(self.versions(objective))
            return changed[objective]

        for version in dropped:
            versions_to_change(version.objective).pop(version.number, None)
        for entry in put:
            versions_to_change(entry.version.objective)[entry.version.number] = entry

        for objective, versions in changed.items():
            entries[objective] = dict(sorted(versions.items(), reverse=True))
        return replace(self, revision=self.revision + 1, entries=entries)
