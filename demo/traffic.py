"""The requests that the demo sends, and the feeds that it reads.

Requests are sent by a thread at a steady pace, with their events interleaved as several producers
would send them. Feeds are read as a downstream consumer reads them, under read_committed.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

from demo.environment import StepFailed
from demo.fixtures import SURFACE, TOPIC_CANDIDATES, TOPIC_FEEDS, load_posts
from onnx_models.event_encoding import JsonEvents
from onnx_models.home_requests import Communities, Event, Request, interleaved, requests
from onnx_models.posts import Post
from workers.codec.feeds import FeedUnreadable, decode_feed
from workers.codec.formats import Format
from workers.commands.produce import Pace
from workers.local import processes
from workers.local.processes import ProcessIdentity
from workers.ranking.feed import Feed
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import TopicReader
from workers.streaming.records import Record
from workers.streaming.send import Sender

POSTS = 50
"""Posts of a request."""
RATE = 60.0
"""Requests a second."""
KEPT_RATE = 5.0
"""Requests a second that go on with `--keep`, each in one event: few, since they run beside other
work.
"""

JSON_HEADERS: list[tuple[str, bytes | None]] = [("content-type", Format.JSON.content_type)]
"""The headers of what the demo sends."""

_KEPT_REQUESTS = 18_000  # an hour of them: half a gigabyte in Kafka's log
_SEND_SECONDS = 5.0  # how long sending the last events may take
_SILENCE_SECONDS = 0.1
_READ_SECONDS = 10.0
_NEWEST_FEEDS = 1000  # as many as a preview looks at


def now_ms() -> int:
    """The time in ms since the epoch."""
    return time.time_ns() // 1_000_000


def make_requests(posts: Sequence[Post], seed: int) -> Iterator[Request]:
    """Requests of POSTS posts each, without end."""
    return requests(Communities(posts), sys.maxsize, POSTS, seed)


def same_again(request: Request) -> Request:
    """A new request for the same user and the same posts."""
    return replace(request, request_id=f"{request.request_id}-again")


def keep_sending(bootstrap: str, seed: int) -> None:
    """Send requests for an hour, other ones than those of the demo. Raises SendFailed."""
    new_requests = make_requests(load_posts(seed), seed + 1)
    sender = Sender.to(Cluster(bootstrap), TOPIC_CANDIDATES)
    with RequestStream(sender, new_requests, KEPT_RATE, batch=POSTS, seed=seed) as stream:
        stream.finish(_KEPT_REQUESTS)
        stream.start()
        stream.join()


class RequestStream:
    """A thread that starts `rate` requests a second, with `batch` candidates in an event.

    `sent` holds every request that was started, by its id. A request that was started is sent whole.
    """

    def __init__(
        self,
        sender: Sender,
        new_requests: Iterator[Request],
        rate: float,
        batch: int,
        seed: int,
    ) -> None:
        self.sent: dict[str, Request] = {}
        self.rate = rate
        self._sender = sender
        self._new_requests = new_requests
        self._batch = batch
        self._seed = seed
        self._encode = JsonEvents(SURFACE, by_name=False)
        self._inserted: deque[Request] = deque()
        self._at_least: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="requests", daemon=True)

    def send_first(self) -> Request:
        """Send one request before the thread is started."""
        first = self._start_request(next(self._new_requests))
        self._send(first.events(self._batch))
        return first

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def insert(self, request: Request) -> None:
        """Send this request in place of the next one."""
        self._inserted.append(request)

    def finish(self, at_least: int) -> None:
        """Let the thread end once it has started `at_least` requests. Returns at once."""
        self._at_least = at_least

    @property
    def finished(self) -> bool:
        """Whether the thread was allowed to end, and has ended."""
        return self._at_least is not None and not self._thread.is_alive()

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Start no more requests, and wait until the broker has all events. Raises SendFailed."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_SEND_SECONDS)
        self._sender.finish(_SEND_SECONDS)

    def _run(self) -> None:
        self._send(interleaved(self._paced_requests(), self._batch, self._seed))

    def _paced_requests(self) -> Iterator[Request]:
        pace = Pace(self.rate)
        while not self._stopping.is_set() and not self._has_enough():
            pace.wait()
            request = self._inserted.popleft() if self._inserted else next(self._new_requests)
            yield self._start_request(request)

    def _has_enough(self) -> bool:
        if self._at_least is None or self._inserted:
            return False
        return len(self.sent) >= self._at_least

    def _start_request(self, request: Request) -> Request:
        started = replace(request, requested_at=now_ms())
        self.sent[request.request_id] = started
        return started

    def _send(self, events: Iterable[Event]) -> None:
        for event in events:
            key = event.request.request_id.encode()
            self._sender.send(key, self._encode(event), JSON_HEADERS)


@dataclass(frozen=True)
class ReadFeed:
    """A feed, and when it was read, in ms since the epoch."""

    feed: Feed
    readable_at: int


class FeedReader:
    """Reads the topic of feeds from its beginning, in the calling thread.

    - `answered`: the ids of the requests that have a feed.
    - `first_by_weights`: the first feed of each weights version.
    - `first_by_model`: the first feed of each objective and version of its model.
    - `newest`: the last feeds, as many as a preview looks at.

    `after_each` is called after each feed.
    """

    def __init__(
        self, cluster: Cluster, worker: ProcessIdentity, after_each: Callable[[], None]
    ) -> None:
        self.answered: set[str] = set()
        self.first_by_weights: dict[str, ReadFeed] = {}
        self.first_by_model: dict[tuple[str, int], Feed] = {}
        self.newest: deque[Feed] = deque(maxlen=_NEWEST_FEEDS)
        self._reader = TopicReader(cluster, TOPIC_FEEDS, from_beginning=True)
        self._worker = worker
        self._after_each = after_each

    def read_until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Read feeds until the condition holds.

        Raises StepFailed, naming `what` was expected, if the worker ends or `seconds` pass.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if not self._read_one():
                self.check_worker(what)
            if time.monotonic() > deadline:
                raise StepFailed(f"Not seen within {seconds:.0f} s: {what}")

    def read_feed_of(self, request_id: str, what: str, seconds: float) -> Feed:
        """Read until the feed of a request that was just sent. Raises StepFailed."""
        self.read_until(lambda: request_id in self.answered, what, seconds)
        # The condition is checked after each feed, so the feed of the request is the last one.
        return self.newest[-1]

    def check_worker(self, what: str) -> None:
        """Raise StepFailed if the worker has ended, naming `what` was expected."""
        if processes.has_ended(self._worker):
            raise StepFailed(f"The worker (pid {self._worker.pid}) has ended before {what}")

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()

    def _read_one(self) -> bool:
        """Read one feed. Return False if none comes for a moment."""
        record = next(self._reader.records(follow=True, timeout=_SILENCE_SECONDS), None)
        if record is None:
            return False

        feed = feed_of(record)
        self.newest.append(feed)
        self.answered.add(feed.request_id)
        self.first_by_weights.setdefault(feed.weights.version, ReadFeed(feed, now_ms()))
        for model in feed.models.items():
            self.first_by_model.setdefault(model, feed)
        self._after_each()
        return True


def read_all_feeds(cluster: Cluster) -> Iterator[Feed]:
    """Every feed that is in the topic now, under read_committed. Raises StepFailed if a record is
    not a feed.
    """
    reader = TopicReader(cluster, TOPIC_FEEDS, from_beginning=True)
    try:
        for record in reader.records(follow=False, timeout=_READ_SECONDS):
            yield feed_of(record)
    finally:
        reader.close()


def feed_of(record: Record) -> Feed:
    """The feed of a record. Raises StepFailed if it is not one."""
    try:
        return decode_feed(record.value, record.headers)
    except FeedUnreadable as error:
        where = f"{record.topic}/{record.partition}@{record.offset}"
        raise StepFailed(f"{where}: {error}") from None
