"""What is not in a feed though it was a candidate, and why."""

from enum import StrEnum
from typing import NamedTuple


class RemovalReason(StrEnum):
    """Codes of `removed[].reason`; every other one is the name of a drop set of the surface."""

    NOT_FINITE = "score-not-finite"
    MODEL_ERROR = "model-error"
    NOT_SCORED = "not-scored"
    SOURCE_LIMIT = "source-limit"
    WORKER_ERROR = "worker-error"


class Removal(NamedTuple):
    """An item that was a candidate and is not in the feed, and why: a RemovalReason or a drop set.

    One that had a place, and that only a rule of the surface took it from, keeps its `source` and
    its `scores`, as a FeedItem has them: under other weights it may stand in the feed.
    """

    item_id: str
    reason: str
    source: str | None = None
    scores: tuple[float, ...] = ()
