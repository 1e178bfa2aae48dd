"""What is known of every version in the models' folder, as one immutable snapshot."""

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


class State(StrEnum):
    """How far a version has come."""

    LISTED = "listed"  # in the folder, not verified yet
    AVAILABLE = "available"  # verified; it is loaded when it is asked for
    LOADED = "loaded"  # verified, and ready to score
    REFUSED = "refused"  # looked at again when its files change
    GONE = "gone"  # its folder is not there any more; loaded, it goes on while it is in force


class Verified(msgspec.Struct, frozen=True, tag=True):
    """What verification found. `size` of model.onnx in bytes; the manifest keeps one golden row, to
    warm the model.
    """

    manifest: Manifest
    rows_per_call: int
    size: int

    @property
    def content(self) -> SessionKey:
        """What two versions share where one session serves both."""
        manifest = self.manifest
        return SessionKey(
            manifest.sha256, str(manifest.input), str(manifest.output), manifest.features
        )

    def model(self, session_entry: CachedSession) -> Model:
        """This version, scored by a session that is loaded."""
        return Model(self.manifest, session_entry.session, self.rows_per_call)


class Rejected(msgspec.Struct, frozen=True, tag=True):
    """Why verification refused."""

    reason: ModelReason
    message: str


Verdict = Verified | Rejected


class Stamp(NamedTuple):
    """By what it is seen that a version's files have changed: inode, size and time of change of
    each.
    """

    manifest: tuple[int, int, int] | None
    model: tuple[int, int, int] | None


@dataclass(frozen=True)
class Entry:
    """One version. `stamp` is of the files that the verdict is on; `shelf` holds its session while
    it is loaded.
    """

    version: Version
    stamp: Stamp
    verdict: Verdict | None = None
    session_entry: CachedSession | None = None
    listed: bool = True

    @property
    def state(self) -> State:
        """How far it has come."""
        if isinstance(self.verdict, Rejected):
            return State.REFUSED
        if not self.listed:
            return State.GONE
        if self.verdict is None:
            return State.LISTED
        return State.AVAILABLE if self.session_entry is None else State.LOADED

    @property
    def sound(self) -> Verified | None:
        """What verification found, where it passed."""
        return self.verdict if isinstance(self.verdict, Verified) else None

    @property
    def is_available(self) -> bool:
        """Whether it may be in force."""
        return self.listed and isinstance(self.verdict, Verified)

    @property
    def refusal(self) -> Refusal | None:
        """Why it is refused, where it is."""
        verdict = self.verdict
        return (
            Refusal(self.version, verdict.reason, verdict.message)
            if isinstance(verdict, Rejected)
            else None
        )

    @property
    def features(self) -> tuple[str, ...]:
        """The features that it reads, in its order; none before it is verified."""
        return self.sound.manifest.features if self.sound else ()

    @property
    def bytes(self) -> int:
        """What its session takes by estimate; 0 while it is not loaded."""
        return self.session_entry.bytes if self.session_entry else 0

    def suits(self, feature_set: FeatureSet) -> bool:
        """Whether a feature set holds every feature that it reads."""
        return self.sound is not None and set(self.sound.manifest.features) <= set(
            feature_set.names
        )


Versions = Mapping[int, Entry]
_NONE: Versions = {}


@dataclass(frozen=True)
class Catalogue:
    """Objective to version to entry, the highest version first; `revision` rises with every change."""

    revision: int
    entries: Mapping[str, Versions]

    def versions(self, objective: str) -> Versions:
        """An objective's versions, the highest first."""
        return self.entries.get(objective, _NONE)

    def entry(self, objective: str, number: int) -> Entry | None:
        """One version, where it is known."""
        return self.versions(objective).get(number)

    def highest(self, objective: str, feature_set: FeatureSet) -> Entry | None:
        """The highest available version that reads only features of the set."""
        suited = (
            e for e in self.versions(objective).values() if e.is_available and e.suits(feature_set)
        )
        return next(suited, None)

    def next_to_verify(self, objective: str) -> Entry | None:
        """The highest listed version above which nothing verifies; None where one does."""
        for entry in self.versions(objective).values():
            if entry.is_available:
                return None
            if entry.state is State.LISTED:
                return entry
        return None

    def __iter__(self) -> Iterator[Entry]:
        return (entry for versions in self.entries.values() for entry in versions.values())

    def changed(self, put: Iterable[Entry] = (), dropped: Iterable[Version] = ()) -> "Catalogue":
        """The catalogue with these entries put in or replaced, and without those dropped."""
        entries: dict[str, dict[int, Entry]] = {}
        for version in dropped:
            self._copied(entries, version.objective).pop(version.number, None)
        for entry in put:
            self._copied(entries, entry.version.objective)[entry.version.number] = entry
        highest_first = {
            o: {n: found[n] for n in sorted(found, reverse=True)} for o, found in entries.items()
        }
        return replace(self, revision=self.revision + 1, entries={**self.entries, **highest_first})

    def _copied(self, entries: dict[str, dict[int, Entry]], objective: str) -> dict[int, Entry]:
        if objective not in entries:
            entries[objective] = dict(self.versions(objective))
        return entries[objective]
