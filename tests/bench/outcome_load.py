"""What the join reads in a bench: feed records, and what readers did with the items of the feeds."""

import random
import time
from collections.abc import Iterator
from typing import NamedTuple

from workers.codec.feed_records import encode_feed_record, feed_record_headers
from workers.codec.formats import Format, Headers
from workers.codec.interactions import encode_interaction
from workers.outcomes.records import FeedRecord, Interaction
from workers.ranking.request import Completion

ITEMS = 50
"""Items of a feed."""
TAKE_AT_LEAST = 30
"""Seconds of a dwell that is a take."""

_CATALOGUE = 1_000_000
_STRIDE = 7919
_USERS = 50_000
_OPEN_AT_ONCE = 64
_FEED_HEADERS = feed_record_headers(Format.JSON)
_HEADERS: Headers = [("content-type", b"application/json")]


class OutcomeMessage(NamedTuple):
    """A record to send to `interactions`. Its key is the request id."""

    key: bytes
    value: bytes
    headers: Headers


class OutcomeLoad:
    """Feeds of numbered requests on the surface `home`, and interactions with their items. Equal for
    equal seeds, except times.

    An interaction is a view (8 of 10), a dwell of 1 to 60 seconds, or a hide (1 of 20), of an item
    that is drawn. So some repeat what was counted before, as readers do. `seen` and `taken` have
    the (request, place) of every item that must be counted so.
    """

    def __init__(self, seed: int, window_s: int) -> None:
        self.window_s = window_s
        self.seen: set[tuple[int, int]] = set()
        self.taken: set[tuple[int, int]] = set()
        self._draw = random.Random(seed)

    @staticmethod
    def user_id(request: int) -> str:
        """The user of a request."""
        return f"user-{request * 17 % _USERS:05d}"

    @staticmethod
    def item_id(request: int, place: int) -> str:
        """The item at a place of the feed of a request."""
        return f"item-{(request * 31 + place * _STRIDE) % _CATALOGUE:06d}"

    def feed(self, request: int) -> OutcomeMessage:
        """The feed record of a request."""
        record = FeedRecord(
            request_id=f"request-{request:06d}",
            surface="home",
            user_id=self.user_id(request),
            arm="control" if request % 2 else "canary",
            experiment="0123456789ab",
            weights="9f86d081884c",
            models={"quality": 3, "engagement": 12},
            completion=Completion.FULL,
            window_s=self.window_s,
            item_ids=tuple(self.item_id(request, place) for place in range(ITEMS)),
            score_sums={"quality": 21.5 + request % 7, "engagement": 3.25},
        )
        value = encode_feed_record(record, Format.JSON)
        return OutcomeMessage(record.request_id.encode(), value, _FEED_HEADERS)

    def interaction(self, request: int) -> OutcomeMessage:
        """Something that the reader of a request did with one of its items."""
        place = self._draw.randrange(ITEMS)
        kind = "view"
        value = None
        chance = self._draw.random()
        if chance >= 0.95:
            kind = "hide"
        elif chance >= 0.8:
            kind = "dwell"
            value = float(self._draw.randrange(1, 61))
        is_take = value is not None and value >= TAKE_AT_LEAST
        if is_take:
            self.taken.add((request, place))
        if is_take or kind != "dwell":
            self.seen.add((request, place))

        interaction = Interaction(
            request_id=f"request-{request:06d}",
            surface="home",
            user_id=self.user_id(request),
            item_id=self.item_id(request, place),
            kind=kind,
            value=value,
            at=time.time_ns() // 1_000_000,
        )
        key = interaction.request_id.encode()
        return OutcomeMessage(key, encode_interaction(interaction), _HEADERS)

    def log(self, feeds: int, interactions: int) -> Iterator[OutcomeMessage]:
        """Feeds, each followed by this many interactions, while 64 readers are active at a time."""
        begun = 0
        running: list[list[int]] = []  # request, interactions left
        while begun < feeds or running:
            if begun < feeds and len(running) < _OPEN_AT_ONCE:
                yield self.feed(begun)
                running.append([begun, interactions])
                begun += 1
                continue

            place = self._draw.randrange(len(running))
            reader = running[place]
            if reader[1] == 0:
                running.pop(place)
                continue
            yield self.interaction(reader[0])
            reader[1] -= 1
