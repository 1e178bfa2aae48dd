"""A ranked feed: the whole account of how a request was ranked, enough to check or recompute it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from workers.ranking.request import Completion
from workers.ranking.weights import Weights


class FeedItem(NamedTuple):
    """One ranked item. `scores` are float32 values held as float64, in the feed's order of objectives."""

    item_id: str
    final_score: float
    scores: tuple[float, ...]


class Removal(NamedTuple):
    """An item that was a candidate and is not in the feed, and why."""

    item_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Feed:
    """A ranked feed; an item's position is its place in `items`, from 0. Times are ms since the epoch.

    `truncated` counts the items cut from the end because the record would be too large for the topic, `below_top_k`
    those that ranked below the `top_k` of the surface; both stand where both cut. With `items` and `removed`, unless a
    feed too large leaves that out, they account for every candidate of the request.
    """

    request_id: str
    surface: str
    user_id: str
    requested_at: int
    ranked_at: int
    completion: Completion
    refused: int
    arm: str
    weights: Weights
    models: Mapping[str, int]
    items: list[FeedItem]
    removed: list[Removal] = field(default_factory=list)
    truncated: int = 0
    below_top_k: int = 0
