"""Candidate events of the bench: single, JSON, features by position, as upstream producers would
send them.

The features come from a pool: drawing 32 numbers costs more than the worker needs for a whole
candidate, and no code of the worker or of a peer can tell.
"""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tests.scoring.building import FEATURES
from workers.streaming.records import Headers

HEADERS: Headers = [("content-type", b"application/json")]
_POOL = 4096


class Message(NamedTuple):
    """A record to send: its key is the request id."""

    key: bytes
    value: bytes


class Load:
    """Events of as many requests as are asked for, the same for the same seed but for their times.

    `surfaces` are those that the requests go to, one after the other and round again.
    """

    def __init__(self, seed: int, candidates: int, surfaces: Sequence[str] = ("home",)) -> None:
        self._draw = random.Random(seed)
        self.candidates = candidates
        self._surfaces = [surface.encode() for surface in surfaces]
        self._pool = [self._some_features() for _ in range(_POOL)]

    def _some_features(self) -> bytes:
        return json.dumps(
            [round(self._draw.gauss(0, 1), 5) for _ in FEATURES], separators=(",", ":")
        ).encode()

    @staticmethod
    def row(request: int, place: int) -> int:
        """The number of the row of features that a candidate has."""
        return (request * 31 + place * 7) % _POOL

    def rows(self) -> list[list[float]]:
        """Every row of features, by its number."""
        return [json.loads(row) for row in self._pool]

    def message(self, request: int, place: int, requested_at: int, expected: int) -> Message:
        """The event of one candidate; `requested_at` in ms since the epoch."""
        return self.event(request, range(place, place + 1), requested_at, expected)

    def event(
        self, request: int, places: Iterable[int], requested_at: int, expected: int
    ) -> Message:
        """The event of several candidates of a request."""
        key = b"request-%06d" % request
        return Message(
            key,
            b'{"request_id":"%b","surface":"%b","user_id":"user-%d","requested_at":%d,"expected":%d,"candidates":[%b]}'
            % (
                key,
                self._surfaces[request % len(self._surfaces)],
                request % 5000,
                requested_at,
                expected,
                b",".join(self._candidate(request, p) for p in places),
            ),
        )

    def _candidate(self, request: int, place: int) -> bytes:
        features = self._pool[self.row(request, place)]
        return b'{"item_id":"item-%06d-%02d","source":"source-%d","features":%b}' % (
            request,
            place,
            place % 8,
            features,
        )

    def request(self, request: int, requested_at: int) -> list[Message]:
        """One request that closes with its last candidate."""
        return [
            self.message(request, place, requested_at, self.candidates)
            for place in range(self.candidates)
        ]

    def interleaved(
        self, requests: int, requested_at: int, open_at_once: int = 64, missing: int = 0
    ) -> Iterator[Message]:
        """Requests as many producers at once send them; each lacks `missing` candidates that it
        says to expect.
        """
        expected, begun = self.candidates + missing, min(open_at_once, requests)
        running = [[request, 0] for request in range(begun)]
        while running:
            at = self._draw.randrange(len(running))
            request, place = running[at]
            yield self.message(request, place, requested_at, expected)
            running[at][1] += 1
            if place + 1 < self.candidates:
                continue
            if begun < requests:
                running[at], begun = [begun, 0], begun + 1
            else:
                running.pop(at)
