"""Loaded sessions within a budget of bytes: identical files share one, and the least recently used
go.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import onnxruntime

from workers.scoring.refusal import Version

BYTES_A_MODEL = 320 * 1024
BYTES_A_FILE_BYTE = 3
_UNUSED_SECONDS = 5.0


class SessionKey(NamedTuple):
    """What a session is made of: two versions that agree in all of it are one."""

    sha256: str
    input: str
    output: str
    features: tuple[str, ...]


def session_bytes(size: int) -> int:
    """What a session of a file of `size` bytes takes by estimate, not below what it takes in
    memory.

    Measured on onnxruntime 1.30, resident: an ensemble of trees 2.7 to 3.2 times its file, Gemm
    layers 0.6 to 1.2 times (their packed weights beside the rest), and up to 121 KiB for a session
    of a file of a few KiB. Where sessions come and go, the allocator keeps room between them: a
    worker that held 200 of 1,000 models of 43 KiB, and loaded one 848 times, had 87 MiB more than
    one of a single model, 435 KiB for each.
    """
    return BYTES_A_FILE_BYTE * size + BYTES_A_MODEL


@dataclass(eq=False)
class CachedSession:
    """One session. `used_at` is written by the loop alone, in monotonic seconds; 0 before its first
    use.
    """

    content: SessionKey
    session: onnxruntime.InferenceSession
    bytes: int
    loaded_at: float
    used_at: float = 0.0
    holders: set[Version] = field(default_factory=set)

    @property
    def last(self) -> float:
        """When it was last of use."""
        return max(self.loaded_at, self.used_at)


class SessionCache:
    """Sessions by content. Not thread-safe; reads no clock but the one given, in seconds."""

    def __init__(self, budget_bytes: int, clock: Callable[[], float]) -> None:
        self._budget, self._clock = budget_bytes, clock
        self._shelves: dict[SessionKey, CachedSession] = {}
        self.bytes = 0

    def __iter__(self) -> Iterator[CachedSession]:
        return iter(self._shelves.values())

    def __len__(self) -> int:
        return len(self._shelves)

    def find(self, content: SessionKey) -> CachedSession | None:
        """The shelf that holds this content, where one does; asking for it is a use."""
        session_entry = self._shelves.get(content)
        if session_entry is not None:
            session_entry.loaded_at = self._clock()
        return session_entry

    def put(
        self, content: SessionKey, session: onnxruntime.InferenceSession, size: int
    ) -> CachedSession:
        """Put up a session made of a file of `size` bytes."""
        session_entry = CachedSession(content, session, session_bytes(size), self._clock())
        self._shelves[content] = session_entry
        self.bytes += session_entry.bytes
        return session_entry

    def take_down(self, session_entry: CachedSession) -> None:
        """Let go of one."""
        if self._shelves.pop(session_entry.content, None) is not None:
            self.bytes -= session_entry.bytes

    def make_room(self, keep: Callable[[CachedSession], bool]) -> list[CachedSession]:
        """Take down the least recently used until the rest is within the budget; returns what went.

        What `keep` says yes to stays, also where it alone is past the budget, and so does for a
        while what was loaded for requests that have not come back for it: it would be loaded again
        at once, and for ever.
        """
        now, gone = self._clock(), list[CachedSession]()
        for session_entry in sorted(self, key=lambda session_entry: session_entry.last):
            if self.bytes <= self._budget:
                break
            awaited = (
                session_entry.used_at < session_entry.loaded_at
                and now - session_entry.loaded_at < _UNUSED_SECONDS
            )
            if not keep(session_entry) and not awaited:
                self.take_down(session_entry)
                gone.append(session_entry)
        return gone
