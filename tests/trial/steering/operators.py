"""The operators who change the weights: by plain HSET, whole or torn or wrong, and two at once by
compare and set.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.rig.process import pause
from tests.trial.steering.plan import Change, Kind, Texts
from tests.trial.steering.weights_history import WeightsHistory, version_of
from tests.trial.workload import SURFACE
from workers.steering.connection import RedisLink
from workers.steering.content import RawFields, decode_fields
from workers.steering.documents import WEIGHTS
from workers.steering.history import (
    NewContent,
    ReadContent,
    read_entries,
    revision_after,
    write_command,
)
from workers.steering.keys import Keys

_MAX_ATTEMPTS = 50
_WRONG = {
    Kind.NOT_A_NUMBER: {"quality": "nan"},
    Kind.OUT_OF_BOUNDS: {"engagement": "1.000001"},
    Kind.UNKNOWN: {"clicks": "0.5"},
    Kind.EMPTY: {"quality": ""},
}


@dataclass
class Races:
    """How often two operators wrote at once, how often both had to read again, and how often not
    exactly one won.
    """

    run: int = 0
    read_again: int = 0
    wrong: int = 0


@dataclass
class Operators:
    """They write in turn what is planned, and keep the history of what they wrote."""

    client: Any
    url: str
    keys: Keys
    history: WeightsHistory = field(default_factory=WeightsHistory)
    races: Races = field(default_factory=Races)

    def make(self, change: Change) -> None:
        """Make a change; returns once Redis has taken all of it."""
        match change.kind:
            case Kind.WHOLE:
                self.hset(change.texts)
            case Kind.TORN:
                self._one_by_one(change)
            case Kind.RACE:
                self._race(change)
            case Kind.UNKNOWN:
                self.hset({**change.texts, **_WRONG[change.kind]})
                pause(change.gap)
                self._hdel("clicks")
            case _:
                self.hset({**change.texts, **_WRONG[change.kind]})

    def hset(self, fields: Texts) -> int:
        """HSET of these fields; the moment before it (ns)."""
        sent = time.time_ns()
        self.client.hset(self._key, mapping=dict(fields))
        self.history.add(sent, time.time_ns(), {**self.history.content, **fields})
        return sent

    def lost(self) -> None:
        """Redis has started again empty."""
        moment = time.time_ns()
        self.history.add(moment, moment, {})

    @property
    def _key(self) -> str:
        return self.keys.document(SURFACE, WEIGHTS)

    def _one_by_one(self, change: Change) -> None:
        for objective, text in change.texts.items():
            self.hset({objective: text})
            pause(change.gap)

    def _hdel(self, name: str) -> None:
        sent = time.time_ns()
        self.client.hdel(self._key, name)
        left = {
            objective: text for objective, text in self.history.content.items() if objective != name
        }
        self.history.add(sent, time.time_ns(), left)

    def _race(self, change: Change) -> None:
        """Two operators read, then both write: exactly one must win.

        If a worker records a change by hand between their reading and their writing, neither wins,
        and they read again.
        """
        self.races.run += 1
        attempts = self._attempt_both(change)
        for _ in range(_MAX_ATTEMPTS):
            if any(attempt.won for attempt in attempts):
                break
            self.races.read_again += 1
            attempts = self._attempt_both(change)

        content = self.client.hgetall(self._key)
        winners = [attempt for attempt in attempts if attempt.won]
        if [dict(winner.texts) for winner in winners] != [content]:
            self.races.wrong += 1
        for winner in winners:
            self.history.add(winner.sent, winner.returned, winner.texts)

    def _attempt_both(self, change: Change) -> list["_Attempt"]:
        both_have_read = threading.Barrier(2)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(self._attempt, change.texts, both_have_read)
            second = pool.submit(self._attempt, change.others, both_have_read)
            return [first.result(), second.result()]

    def _attempt(self, texts: Texts, both_have_read: threading.Barrier) -> "_Attempt":
        history = self.keys.history(SURFACE)
        with RedisLink(self.url) as link:
            fields, newest = link.execute(
                ("HGETALL", self._key), ("XREVRANGE", history, "+", "-", "COUNT", 1)
            )
            assert isinstance(fields, dict), fields
            revision = max((entry.revision for entry in read_entries(newest)), default=0)
            written = NewContent(texts, version_of(texts))
            command = write_command(
                history, [(_read(self._key, fields), written)], revision, "trial", "two at once"
            )
            both_have_read.wait()
            sent = time.time_ns()
            (reply,) = link.execute(command)
            returned = time.time_ns()
        return _Attempt(texts, sent, returned, won=revision_after(reply) is not None)


class _Attempt(NamedTuple):
    """One operator's attempt to write, and its moments (ns)."""

    texts: Texts
    sent: int
    returned: int
    won: bool


def _read(key: str, fields: RawFields) -> ReadContent:
    version = version_of(decode_fields(dict(fields)))
    refused = None if version is not None or not fields else "refused by the workers"
    return ReadContent(key, "weights", fields, version, refused)
