"""Loaded onnxruntime sessions, within a budget of bytes.

The rules:
- Identical files share one session.
- If the sessions exceed the budget, the least recently used are evicted.
- A session that is to be kept is not evicted, even if it alone exceeds the budget.
- A session that was loaded for requests which have not come back for it yet is not evicted for a
  while. Otherwise it would be loaded and evicted again, for ever.
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
    """What a session is made of. Two versions with equal keys share a session."""

    sha256: str
    input: str
    output: str
    features: tuple[str, ...]


def session_bytes(size: int) -> int:
    """The estimated memory of a session of a file of `size` bytes. Not below what it really takes.

    Measured on onnxruntime 1.30, resident: an ensemble of trees takes 2.7 to 3.2 times its file,
    Gemm layers 0.6 to 1.2 times (their packed weights beside the rest), and the session of a file
    of a few KiB up to 121 KiB. If sessions come and go, the allocator keeps room between them: a
    worker that held 200 of 1,000 models of 43 KiB, and loaded one 848 times, had 87 MiB more than
    a worker with a single model, which is 435 KiB for each.
    """
    return BYTES_A_FILE_BYTE * size + BYTES_A_MODEL


@dataclass(eq=False)
class CachedSession:
    """One session. All times are in monotonic seconds.

    `used_at` is written by the ranking loop alone. It is 0 before the first use.
    """

    key: SessionKey
    session: onnxruntime.InferenceSession
    bytes: int
    loaded_at: float
    used_at: float = 0.0
    holders: set[Version] = field(default_factory=set)

    @property
    def last_used_at(self) -> float:
        """When it was loaded or used last."""
        return max(self.loaded_at, self.used_at)


class SessionCache:
    """Sessions by key. Not thread-safe. Reads no clock but the one given, in seconds."""

    def __init__(self, budget_bytes: int, clock: Callable[[], float]) -> None:
        self._budget = budget_bytes
        self._clock = clock
        self._sessions: dict[SessionKey, CachedSession] = {}
        self.bytes = 0

    def __iter__(self) -> Iterator[CachedSession]:
        return iter(self._sessions.values())

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: SessionKey) -> CachedSession | None:
        """The session with this key, if it is loaded. It counts as loaded again."""
        cached = self._sessions.get(key)
        if cached is not None:
            cached.loaded_at = self._clock()
        return cached

    def put(
        self, key: SessionKey, session: onnxruntime.InferenceSession, size: int
    ) -> CachedSession:
        """Add a session made of a file of `size` bytes."""
        cached = CachedSession(key, session, session_bytes(size), loaded_at=self._clock())
        self._sessions[key] = cached
        self.bytes += cached.bytes
        return cached

    def remove(self, cached: CachedSession) -> None:
        """Remove a session, if it is still there."""
        if self._sessions.pop(cached.key, None) is not None:
            self.bytes -= cached.bytes

    def evict(self, keep: Callable[[CachedSession], bool]) -> list[CachedSession]:
        """Evict sessions until the rest is within the budget. Returns the evicted ones."""
        now = self._clock()
        evicted = list[CachedSession]()
        for cached in sorted(self, key=lambda cached: cached.last_used_at):
            if self.bytes <= self._budget:
                break

            is_unused = cached.used_at < cached.loaded_at
            is_awaited = is_unused and now - cached.loaded_at < _UNUSED_SECONDS
            if not is_awaited and not keep(cached):
                self.remove(cached)
                evicted.append(cached)
        return evicted
