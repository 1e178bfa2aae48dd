"""Those who turn the weights: by plain HSET, whole or torn or wrong, and two at once by compare and
set.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.trial.ledger import Ledger, version_of
from tests.trial.plan import Change, Kind, Texts
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

SURFACE = "home"
_MOST_ATTEMPTS = 50
_WRONG = {
    Kind.NOT_A_NUMBER: {"quality": "nan"},
    Kind.OUT_OF_BOUNDS: {"engagement": "1.000001"},
    Kind.UNKNOWN: {"clicks": "0.5"},
    Kind.EMPTY: {"quality": ""},
}


@dataclass
class Races:
    """How often two operators wrote at once, how often both had to read again, and where not
    exactly one won.
    """

    run: int = 0
    read_again: int = 0
    wrong: int = 0


@dataclass
class Operators:
    """They write in turn what is planned, and keep the ledger."""

    client: Any
    url: str
    keys: Keys
    ledger: Ledger = field(default_factory=Ledger)
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
        self.ledger.note(sent, time.time_ns(), {**self.ledger.content, **fields})
        return sent

    def lost(self) -> None:
        """Redis has started again empty."""
        moment = time.time_ns()
        self.ledger.note(moment, moment, {})

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
            objective: text for objective, text in self.ledger.content.items() if objective != name
        }
        self.ledger.note(sent, time.time_ns(), left)

    def _race(self, change: Change) -> None:
        """Two operators read, then both write what they know nothing of each other: exactly one is
        to win.

        Where a worker records a change by hand between their reading and their writing, neither
        does: they read again.
        """
        self.races.run += 1
        tries = self._attempt(change)
        for _ in range(_MOST_ATTEMPTS):
            if any(one.done for one in tries):
                break
            self.races.read_again += 1
            tries = self._attempt(change)
        there = self.client.hgetall(self._key)
        won = [one for one in tries if one.done]
        self.races.wrong += [dict(one.texts) for one in won] != [there]
        for one in won:
            self.ledger.note(one.sent, one.returned, one.texts)

    def _attempt(self, change: Change) -> list["_Try"]:
        both = threading.Barrier(2)
        with ThreadPoolExecutor(2) as pool:
            return list(
                pool.map(lambda texts: self._try(texts, both), (change.texts, change.others))
            )

    def _try(self, texts: Texts, both: threading.Barrier) -> "_Try":
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
            both.wait()
            sent = time.time_ns()
            (reply,) = link.execute(command)
        return _Try(texts, sent, time.time_ns(), revision_after(reply) is not None)


class _Try(NamedTuple):
    """One operator's try to write, and its moments (ns)."""

    texts: Texts
    sent: int
    returned: int
    done: bool


def _read(key: str, fields: RawFields) -> ReadContent:
    version = version_of(decode_fields(dict(fields)))
    refused = None if version is not None or not fields else "refused by the workers"
    return ReadContent(key, "weights", fields, version, refused)


def pause(seconds: float) -> None:
    """Let time pass."""
    if seconds:
        threading.Event().wait(seconds)
