"""Takes verdicts and holds sessions: what the library's thread does, one model after the other."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

from workers.scoring.catalogue import Catalogue, Entry, Rejected, Verdict
from workers.scoring.folder import stamp
from workers.scoring.refusal import ModelRefused, Version
from workers.scoring.session_cache import SessionCache, session_bytes
from workers.scoring.verify import reopen


class LoadCounts(NamedTuple):
    """How often something was verified, refused, loaded and let go of."""

    verified: int = 0
    refused: int = 0
    loads: int = 0
    evictions: int = 0


@dataclass
class Loader:
    """Not thread-safe, but for `tally`, which is replaced whole."""

    budget_bytes: int
    size_limit: int
    say: Callable[..., None]
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self.sessions = SessionCache(self.budget_bytes, self.clock)
        self.tally = LoadCounts()

    def judge(self, entry: Entry, verdict: Verdict, load: bool) -> Entry:
        """The entry with the verdict of its exam; loaded where it is asked for, or where there is
        room for it.
        """
        if isinstance(verdict, Rejected):
            return self._refuse(entry, verdict)
        version = entry.version
        self.tally = self.tally._replace(verified=self.tally.verified + 1)
        name = f"{version.objective}/{version.number}"
        self.say("model_available", model=name, sha256=verdict.manifest.sha256[:12])
        entry = replace(entry, verdict=verdict)
        fits = self.sessions.bytes + session_bytes(verdict.size) <= self.budget_bytes
        return self.load(entry) if load or fits else entry

    def load(self, entry: Entry) -> Entry:
        """A verified entry with its session; to be verified anew where its files have become
        others.
        """
        sound = entry.sound
        if sound is None:
            return entry
        session_entry = self.sessions.find(sound.content)
        if session_entry is None:
            try:
                model = reopen(
                    entry.version.folder, sound.manifest, sound.rows_per_call, self.size_limit
                )
            except ModelRefused as refused:
                return self._not_opened(entry, refused)
            session_entry = self.sessions.put(sound.content, model.session, sound.size)
            self.tally = self.tally._replace(loads=self.tally.loads + 1)
        session_entry.holders.add(entry.version)
        return replace(entry, session_entry=session_entry)

    def let_go(self, version: Version) -> None:
        """A version is not there any more, and with the last that shares it goes the session."""
        for session_entry in list(self.sessions):
            session_entry.holders.discard(version)
            if not session_entry.holders:
                self.sessions.take_down(session_entry)

    def make_room(self, catalogue: Catalogue, keep: Collection[Version]) -> list[Entry]:
        """Let the least recently used sessions go; returns the entries of the catalogue that have
        lost theirs.
        """
        kept = {
            id(e.session_entry)
            for e in catalogue
            if e.session_entry is not None and e.version in keep
        }
        gone = self.sessions.make_room(lambda session_entry: id(session_entry) in kept)
        self.tally = self.tally._replace(evictions=self.tally.evictions + len(gone))
        lost = (
            [
                entry
                for entry in catalogue
                if entry.session_entry is not None and entry.session_entry in gone
            ]
            if gone
            else []
        )
        return [replace(entry, session_entry=None) for entry in lost]

    def _not_opened(self, entry: Entry, refused: ModelRefused) -> Entry:
        now = stamp(entry.version)
        if now != entry.stamp:
            return Entry(entry.version, now)
        return self._refuse(entry, Rejected(refused.reason, refused.message))

    def _refuse(self, entry: Entry, verdict: Rejected) -> Entry:
        unsound = replace(entry, verdict=verdict)
        self.tally = self.tally._replace(refused=self.tally.refused + 1)
        self.say("model_refused", model=str(unsound.refusal))
        return unsound
