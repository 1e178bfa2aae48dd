"""The records of the topic `interactions`, and what comes out once a feed's window has closed."""

from collections.abc import Mapping
from typing import NamedTuple

from workers.ranking.feed import Feed, FeedItems
from workers.ranking.request import Completion

HOUR_MS = 3_600_000


class FeedRecord(NamedTuple):
    """What the worker writes about each feed that it publishes, in the same transaction.

    `window_s` (seconds) travels with it, so that a changed configuration does not change how long
    a feed is open. `experiment` names the phase, None if no user of the surface was in an arm.
    `item_ids` are in the order of the feed; the first is at `first_position`, which is 0 but for
    feeds that are part of a page. `score_sums` has, for each objective, the sum of the scores of
    these items.
    """

    request_id: str
    surface: str
    user_id: str
    arm: str
    experiment: str | None
    weights: str
    models: Mapping[str, int]
    completion: Completion
    window_s: int
    item_ids: tuple[str, ...]
    score_sums: Mapping[str, float]
    first_position: int = 0


def feed_record(feed: Feed, window_s: int) -> FeedRecord:
    """The record of a feed as it was published."""
    items = FeedItems.of(feed.items)
    score_sums: dict[str, float] = {}
    for column, objective in enumerate(feed.weights.values):
        # Not `sum`, which rounds differently from Python 3.12 on.
        total = 0.0
        if items:
            for score in items.scores[:, column].tolist():
                total += score
        score_sums[objective] = total
    return FeedRecord(
        request_id=feed.request_id,
        surface=feed.surface,
        user_id=feed.user_id,
        arm=feed.arm,
        experiment=feed.experiment,
        weights=feed.weights.version,
        models=feed.models,
        completion=feed.completion,
        window_s=window_s,
        item_ids=tuple(items.item_ids),
        score_sums=score_sums,
    )


class Interaction(NamedTuple):
    """Something that a reader did with an item of a feed. `at` is in milliseconds since the epoch."""

    request_id: str
    surface: str
    user_id: str
    item_id: str
    kind: str
    value: float | None
    at: int


class SumsKey(NamedTuple):
    """What feeds are counted by. `hour` is the UTC hour of the feed, in hours since the epoch.

    `models` holds pairs of objective and version, in the order of their objectives' names.
    """

    hour: int
    surface: str
    arm: str
    experiment: str | None
    weights: str
    models: tuple[tuple[str, int], ...]


class ArmHour(NamedTuple):
    """Feeds of one arm in one hour and phase: an experiment is judged by these. Fields as in
    SumsKey.
    """

    hour: int
    surface: str
    arm: str
    experiment: str | None

    @classmethod
    def of(cls, key: SumsKey) -> "ArmHour":
        """What the feeds of this key belong to."""
        return cls(key.hour, key.surface, key.arm, key.experiment)


class ClosedFeed(NamedTuple):
    """A feed whose window is over, with every outcome that counts.

    `offset` is the offset of its feed record, `time` (ms) when it was published by the clock of
    its partition, `due` (ms) when its window ended. `marks` has one byte of outcome bits for each
    item, and is empty if no item had an outcome. `names` has the name of each bit.
    """

    offset: int
    time: int
    due: int
    request_id: str
    user_id: str
    key: SumsKey
    completion: Completion
    item_ids: tuple[str, ...]
    first_position: int
    marks: bytes
    names: tuple[str, ...]
    score_sums: Mapping[str, float]
