"""Verifies versions and holds their sessions: what the library's thread does, one model after the other."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec

from workers.ranking.features import FeatureSet
from workers.scoring.catalogue import Catalogue, Entry, Sound, Unsound
from workers.scoring.folder import stamp
from workers.scoring.manifest import MODEL
from workers.scoring.model import Model
from workers.scoring.refusal import ModelReason, ModelRefused, Version
from workers.scoring.shelves import Shelf, Shelves, session_bytes
from workers.scoring.verify import reopen, verify


class Read(NamedTuple):
    """How often something was verified, refused, loaded and let go of."""

    verified: int = 0
    refused: int = 0
    loads: int = 0
    evictions: int = 0


@dataclass
class Reader:
    """Not thread-safe, but for `tally`, which is replaced whole."""

    needed: Mapping[str, Sequence[FeatureSet]]
    budget_bytes: int
    size_limit: int
    say: Callable[..., None]
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self.shelves = Shelves(self.budget_bytes, self.clock)
        self.tally = Read()

    def verify(self, entry: Entry, load: bool) -> Entry:
        """The entry with a verdict. Its session stays where it is to be loaded, or where there is room for it."""
        version, seen = entry.version, stamp(entry.version)
        name = f"{version.objective}/{version.number}"
        try:
            model = verify(version.folder, self.needed.get(version.objective, ()), self.size_limit)
            size = (version.folder / MODEL).stat().st_size
        except ModelRefused as refused:
            return self._refuse(Entry(version, seen), refused)
        except OSError as error:
            unread = ModelRefused(ModelReason.UNREADABLE, f"model.onnx: cannot be read: {error}")
            return self._refuse(Entry(version, seen), unread)
        self.tally = self.tally._replace(verified=self.tally.verified + 1)
        self.say("model_available", model=name, sha256=model.manifest.sha256[:12])
        few = msgspec.structs.replace(model.manifest, golden=model.manifest.golden[:1])
        sound = Sound(few, model.rows_per_call, size)
        fits = self.shelves.bytes + session_bytes(size) <= self.budget_bytes
        shelf = self._shelve(sound, model, version) if load or fits else None
        return Entry(version, seen, sound, shelf)

    def load(self, entry: Entry) -> Entry:
        """A verified entry with its session; verified anew where its file has become another."""
        sound = entry.sound
        if sound is None:
            return entry
        shelf = self.shelves.find(sound.content)
        if shelf is not None:
            shelf.holders.add(entry.version)
            return replace(entry, shelf=shelf)
        try:
            model = reopen(entry.version.folder, sound.manifest, sound.rows_per_call, self.size_limit)
        except ModelRefused:
            return self.verify(entry, load=True)
        return replace(entry, shelf=self._shelve(sound, model, entry.version))

    def let_go(self, version: Version) -> None:
        """A version is not there any more, and with the last that shares it goes the session."""
        for shelf in list(self.shelves):
            shelf.holders.discard(version)
            if not shelf.holders:
                self.shelves.take_down(shelf)

    def make_room(self, catalogue: Catalogue, keep: Collection[Version]) -> list[Entry]:
        """Let the least recently used sessions go; returns the entries of the catalogue that have lost theirs."""
        kept = {id(e.shelf) for e in catalogue if e.shelf is not None and e.version in keep}
        gone = self.shelves.make_room(lambda shelf: id(shelf) in kept)
        self.tally = self.tally._replace(evictions=self.tally.evictions + len(gone))
        lost = [entry for entry in catalogue if entry.shelf is not None and entry.shelf in gone] if gone else []
        return [replace(entry, shelf=None) for entry in lost]

    def _shelve(self, sound: Sound, model: Model, version: Version) -> Shelf:
        shelf = self.shelves.find(sound.content)
        if shelf is None:
            shelf = self.shelves.put(sound.content, model.session, sound.size)
            self.tally = self.tally._replace(loads=self.tally.loads + 1)
        shelf.holders.add(version)
        return shelf

    def _refuse(self, entry: Entry, refused: ModelRefused) -> Entry:
        unsound = replace(entry, verdict=Unsound(refused.reason, refused.message))
        self.tally = self.tally._replace(refused=self.tally.refused + 1)
        self.say("model_refused", model=str(unsound.refusal))
        return unsound
