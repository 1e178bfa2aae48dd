"""Why a candidate is not in its feed."""

from enum import StrEnum
from typing import NamedTuple


class RemovalReason(StrEnum):
    """Codes of `removed[].reason`. Any other reason is the name of a drop set of the surface."""

    NOT_FINITE = "score-not-finite"
    MODEL_ERROR = "model-error"
    NOT_SCORED = "not-scored"
    SOURCE_LIMIT = "source-limit"
    WORKER_ERROR = "worker-error"


class Removal(NamedTuple):
    """A candidate that is not in the feed. `reason` is a RemovalReason or the name of a drop set.

    An item that was removed because of the limit of its source keeps its `source` and its `scores`,
    as a FeedItem has them: under other weights it may be in the feed.
    """

    item_id: str
    reason: str
    source: str | None = None
    scores: tuple[float, ...] = ()
