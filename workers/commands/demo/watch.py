"""Watches the feeds as a downstream consumer does, under read_committed, and the worker's process
meanwhile.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from workers.codec.feeds import FeedUnreadable, decode_feed
from workers.errors import Failure
from workers.local import processes
from workers.local.processes import ProcessMark
from workers.ranking.feed import Feed
from workers.streaming.clients import Cluster
from workers.streaming.read import Reader
from workers.streaming.records import Record

_SILENCE_SECONDS = 0.1
_END_SECONDS = 10.0
_NEWEST = 1000


class StandStill(Failure):
    """What should have come did not; the message says what."""


class Seen(NamedTuple):
    """A feed, and when it was read, in ms since the epoch."""

    feed: Feed
    readable_at: int


class Watch:
    """Reads feeds in the calling thread, from the beginning of the topic; `each` is called after
    every one.

    `answered` holds the ids of the requests that have a feed, `first_under` the first feed of each
    weights version, `first_by` that of each version of an objective's model, and `newest` the last
    feeds, as many as a preview looks at.
    """

    def __init__(
        self, cluster: Cluster, topic: str, worker: ProcessMark, each: Callable[[], None]
    ) -> None:
        self.answered: set[str] = set()
        self.first_under: dict[str, Seen] = {}
        self.first_by: dict[tuple[str, int], Feed] = {}
        self.newest: deque[Feed] = deque(maxlen=_NEWEST)
        self._reader = Reader(cluster, topic, from_beginning=True)
        self._worker = worker
        self._each = each

    def feed_of(self, request_id: str, what: str, patience: float) -> Feed:
        """Read on to the feed of a request that is just sent. Raises StandStill as `until` does."""
        self.until(lambda: request_id in self.answered, what, patience)
        return self.newest[-1]  # the condition is looked at after each feed

    def until(self, condition: Callable[[], bool], what: str, patience: float) -> None:
        """Read on until the condition holds.

        Raises StandStill, naming `what` should have come, where the worker has ended or `patience`
        seconds passed.
        """
        deadline = time.monotonic() + patience
        while not condition():
            if not self._read_one():
                self.check_worker(what)
            if time.monotonic() > deadline:
                raise StandStill(f"Not seen within {patience:.0f} s: {what}")

    def _read_one(self) -> bool:
        record = next(self._reader.records(follow=True, timeout=_SILENCE_SECONDS), None)
        if record is None:
            return False
        seen = Seen(_decode(record), time.time_ns() // 1_000_000)
        self.newest.append(seen.feed)
        self.answered.add(seen.feed.request_id)
        self.first_under.setdefault(seen.feed.weights.version, seen)
        for model in seen.feed.models.items():
            self.first_by.setdefault(model, seen.feed)
        self._each()
        return True

    def check_worker(self, what: str) -> None:
        """Raise StandStill where the worker has ended, before `what`."""
        if processes.has_ended(self._worker):
            raise StandStill(f"The worker (pid {self._worker.pid}) has ended before {what}")

    def close(self) -> None:
        """Give the connection back."""
        self._reader.close()


def read_topic(cluster: Cluster, topic: str) -> Iterator[Feed]:
    """Every feed that is in the topic now, from its beginning, under read_committed.

    Raises StandStill where a record is no feed.
    """
    reader = Reader(cluster, topic, from_beginning=True)
    try:
        for record in reader.records(follow=False, timeout=_END_SECONDS):
            yield _decode(record)
    finally:
        reader.close()


def _decode(record: Record) -> Feed:
    try:
        return decode_feed(record.value, record.headers)
    except FeedUnreadable as error:
        raise StandStill(f"{record.topic}/{record.partition}@{record.offset}: {error}") from None
