"""Feeds without a worker, for tests of the join alone: a feed and its feed record are written in one
transaction, as a worker writes them.
"""

import json
import random
from typing import Any

from tests.rig.environment import Environment
from tests.rig.streams import Stream
from workers.codec.partitioner import partition_of

_ANSWER_SECONDS = 30.0
_SURFACES = ("home", "list", "plain")


def make_feed(request_id: str, surface: str = "home", items: int = 10, **changes: Any) -> Any:
    """A feed as far as readers and the judge look at it."""
    draw = random.Random(request_id)
    scores = [{"quality": draw.random(), "engagement": draw.random()} for _ in range(items)]
    feed = {
        "request_id": request_id,
        "surface": surface,
        "user_id": f"u{draw.randrange(50)}",
        "arm": draw.choice(["control", "canary"]),
        "weights": {"version": "0123456789ab", "values": {"quality": 0.5, "engagement": 0.5}},
        "models": {"engagement": 1, "quality": draw.choice([1, 2])},
        "completion": draw.choice(["full", "deadline"]),
        "items": [{"item_id": f"i{n}", "scores": each} for n, each in enumerate(scores)],
    }
    return feed | changes


class FeedWriter:
    """Writes feeds of an environment. `windows` has the outcome window (s) of each surface that
    counts outcomes. Two writers need different names.
    """

    def __init__(self, env: Environment, windows: dict[str, int], name: str = "feeds") -> None:
        self._env = env
        self._windows = windows
        self._producer = env.cluster.transactional(f"{env.name}-{name}", 100_000)
        self._producer.init_transactions(_ANSWER_SECONDS)

    def write(self, *feeds: Any, is_left_open: bool = False) -> None:
        """Write some feeds in one transaction, which is committed if it is not to be left open."""
        self._producer.begin_transaction()
        for feed in feeds:
            key = feed["request_id"].encode()
            partition = partition_of(key, self._env.partitions)
            self._producer.produce(self._env.feeds, json.dumps(feed).encode(), key, partition)
            window_s = self._windows.get(feed["surface"])
            if window_s is not None:
                self._producer.produce(
                    self._env.interactions,
                    json.dumps(_record_of(feed, window_s)).encode(),
                    key,
                    partition,
                    headers=[("trimtab.record", b"feed"), ("content-type", b"application/json")],
                )
        self._producer.flush(_ANSWER_SECONDS)
        if not is_left_open:
            self._producer.commit_transaction(_ANSWER_SECONDS)

    def abort(self) -> None:
        """Abort the transaction that was left open."""
        self._producer.abort_transaction(_ANSWER_SECONDS)


def _record_of(feed: Any, window_s: int) -> dict[str, Any]:
    score_sums = dict.fromkeys(feed["weights"]["values"], 0.0)
    for item in feed["items"]:
        for objective, score in item["scores"].items():
            score_sums[objective] += score
    same = ("request_id", "surface", "user_id", "arm", "models", "completion", "experiment")
    return {name: feed[name] for name in same if name in feed} | {
        "weights": feed["weights"]["version"],
        "window_s": window_s,
        "item_ids": [item["item_id"] for item in feed["items"]],
        "score_sums": score_sums,
    }


class FeedStream(Stream):
    """A thread that writes about 100 feeds a second until the end of the `with` block."""

    def __init__(self, writer: FeedWriter, seed: int) -> None:
        super().__init__("feeds")
        self.feeds = 0
        self._writer = writer
        self._draw = random.Random(seed)

    def _run(self) -> None:
        while not self._stopping.wait(0.05):
            feeds = []
            for _ in range(self._draw.randint(1, 9)):
                feeds.append(make_feed(f"r{self.feeds}", self._draw.choice(_SURFACES)))
                self.feeds += 1
            self._writer.write(*feeds)
