"""The simulated readers of `--outcomes`: a thread that reads feeds and sends what readers do.

It reads as a product does, under read_committed, and it sends as a product would: with the key, the
header and the partitioner of an interaction.
"""

import threading
from collections import Counter
from typing import Self

from demo.environment import StepFailed
from demo.outcomes_audit import Answer
from demo.outcomes_fixtures import CLICK, HIDE, VIEW
from demo.taste import Taste
from demo.traffic import JSON_HEADERS, feed_of, now_ms
from workers.codec.interactions import encode_interaction
from workers.errors import Failure
from workers.outcomes.records import Interaction
from workers.ranking.feed import Feed
from workers.settings import SETTINGS
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import TopicReader
from workers.streaming.send import Sender

_TOPIC_FEEDS = str(SETTINGS["topic_feeds"].default)
_TOPIC_INTERACTIONS = str(SETTINGS["topic_interactions"].default)
_WAIT_SECONDS = 0.1
_SEND_SECONDS = 10.0


class Readers:
    """A thread that reacts to each feed at once.

    `answers` has each feed that was read, and `kept` the first `keep` whole feeds of an experiment.
    `sent` counts interactions by their kind.
    """

    def __init__(self, cluster: Cluster, taste: Taste, keep: int) -> None:
        self.answers: list[Answer] = []
        self.kept: list[Feed] = []
        self.sent: Counter[str] = Counter()
        self._keep = keep
        self._taste = taste
        self._reader = TopicReader(cluster, _TOPIC_FEEDS, from_beginning=True)
        self._sender = Sender.to(cluster, _TOPIC_INTERACTIONS)
        self._failure: Failure | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="readers", daemon=True)

    def check(self) -> None:
        """Raise StepFailed if the thread could not go on."""
        if self._failure is not None:
            raise StepFailed(f"The readers: {self._failure}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Read no more, and wait until the broker has all interactions. Raises SendFailed."""
        self._stopping.set()
        self._thread.join(_SEND_SECONDS)
        self._reader.close()
        self._sender.finish(_SEND_SECONDS)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                for record in self._reader.take(_WAIT_SECONDS):
                    self._react(feed_of(record))
        except Failure as failure:
            self._failure = failure

    def _react(self, feed: Feed) -> None:
        reactions = self._taste.react(feed)
        for kind, item_ids in (
            (VIEW, reactions.seen),
            (CLICK, reactions.taken),
            (HIDE, reactions.hidden),
        ):
            for item_id in item_ids:
                self._send(feed, item_id, kind)
            self.sent[kind] += len(item_ids)

        if feed.experiment is not None and len(self.kept) < self._keep:
            self.kept.append(feed)
        answer = Answer(
            request_id=feed.request_id,
            user_id=feed.user_id,
            arm=feed.arm,
            weights=feed.weights.version,
            ranked_at=feed.ranked_at,
        )
        self.answers.append(answer)

    def _send(self, feed: Feed, item_id: str, kind: str) -> None:
        interaction = Interaction(
            request_id=feed.request_id,
            surface=feed.surface,
            user_id=feed.user_id,
            item_id=item_id,
            kind=kind,
            value=None,
            at=now_ms(),
        )
        self._sender.send(feed.request_id.encode(), encode_interaction(interaction), JSON_HEADERS)
