"""A ranked feed: the full record of how a request was ranked, enough to check it or to rank again.

Every request that opens ends in exactly one feed. A request that no model could score ends in one
without items: see `unscored_feed`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from workers.ranking.diversify import Diversity
from workers.ranking.mix import Assignment
from workers.ranking.removal import Removal, RemovalReason
from workers.ranking.request import Completion, Request
from workers.ranking.weights import Weights

NO_ADJUSTMENTS: Mapping[str, float] = {}


class FeedItem(NamedTuple):
    """One ranked item.

    - `scores` are float32 values held as float64, in the feed's order of objectives.
    - `source` is None if the surface has no rule on sources.
    - `adjustments` are what such rules added to the weighted sum, by the name of the rule, in the
      order in which they were added.
    """

    item_id: str
    final_score: float
    scores: tuple[float, ...]
    source: str | None = None
    adjustments: Mapping[str, float] = NO_ADJUSTMENTS


class FeedItems(Sequence[FeedItem]):
    """The items of a feed as columns. It reads, and compares, like a list of FeedItem.

    The hot path makes and encodes columns, and makes no FeedItem.

    - `final_scores` `[items]` and `scores` `[items, objectives]` are float64.
    - `sources` and `adjustments` are None if no item has any.
    """

    __slots__ = ("adjustments", "final_scores", "item_ids", "scores", "sources")
    __hash__ = None  # type: ignore[assignment]  # compares like a list

    def __init__(
        self,
        item_ids: Sequence[str],
        final_scores: NDArray[np.float64],
        scores: NDArray[np.float64],
        sources: Sequence[str | None] | None = None,
        adjustments: Sequence[Mapping[str, float]] | None = None,
    ) -> None:
        self.item_ids = item_ids
        self.final_scores = final_scores
        self.scores = scores
        self.sources = sources
        self.adjustments = adjustments

    @classmethod
    def of(cls, items: Sequence[FeedItem]) -> "FeedItems":
        """The columns of items. Columns are returned as they are."""
        if isinstance(items, FeedItems):
            return items

        sources = [item.source for item in items]
        adjustments = [item.adjustments for item in items]
        scores = np.array([item.scores for item in items], np.float64)
        return cls(
            item_ids=[item.item_id for item in items],
            final_scores=np.array([item.final_score for item in items], np.float64),
            scores=scores.reshape(len(items), -1) if items else np.empty((0, 0)),
            sources=sources if any(source is not None for source in sources) else None,
            adjustments=adjustments if any(adjustments) else None,
        )

    def __len__(self) -> int:
        return len(self.item_ids)

    def __iter__(self) -> Iterator[FeedItem]:
        count = len(self.item_ids)
        return map(
            FeedItem,
            self.item_ids,
            self.final_scores.tolist(),
            map(tuple, self.scores.tolist()),
            self.sources or [None] * count,
            self.adjustments or [NO_ADJUSTMENTS] * count,
        )

    @overload
    def __getitem__(self, index: int) -> FeedItem: ...
    @overload
    def __getitem__(self, index: slice) -> "FeedItems": ...
    def __getitem__(self, index: int | slice) -> "FeedItem | FeedItems":
        if not isinstance(index, slice):
            return list(self)[index]
        return FeedItems(
            item_ids=self.item_ids[index],
            final_scores=self.final_scores[index],
            scores=self.scores[index],
            sources=None if self.sources is None else self.sources[index],
            adjustments=None if self.adjustments is None else self.adjustments[index],
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FeedItems | list):
            return NotImplemented
        return list(self) == list(other)

    def __repr__(self) -> str:
        return repr(list(self))


class Feed(NamedTuple):
    """A ranked feed. The position of an item is its index in `items`. Times are ms since the epoch.

    Every candidate of the request is in `items` or in `removed`, or it is counted:
    - in `truncated` if it was cut from the end because the record was too large for the topic
    - in `below_top_k` if it ranked below the `top_k` of the surface
    - in `unlisted` if it was removed, and `removed` was left out because the record was too large

    `diversity` and `max_per_source` are the surface's rules as they were applied. None and 0: no
    rule. `skipped` names the look-ups that the request was ranked without. `defaulted` are the
    items that were scored with default features. `experiment` names the phase of the experiment.
    None: no user of the surface was in an arm.
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
    items: Sequence[FeedItem]
    removed: Sequence[Removal] = []
    truncated: int = 0
    below_top_k: int = 0
    unlisted: int = 0
    diversity: Diversity | None = None
    max_per_source: int = 0
    skipped: Sequence[str] = []
    defaulted: Sequence[str] = []
    experiment: str | None = None

    @property
    def has_source_rules(self) -> bool:
        """Whether its order depends on the sources of items, and not on their scores alone."""
        return self.diversity is not None or self.max_per_source > 0


def unscored_feed(
    request: Request,
    assignment: Assignment,
    ranked_at: int,
    reason: RemovalReason = RemovalReason.NOT_SCORED,
) -> Feed:
    """A feed without items and without models. Every candidate is removed, for the same reason.

    `ranked_at` is in ms.
    """
    return Feed(
        request_id=request.request_id,
        surface=request.surface.name,
        user_id=request.user_id,
        requested_at=request.requested_at,
        ranked_at=ranked_at,
        completion=request.completion,
        refused=request.refused,
        arm=assignment.arm,
        experiment=assignment.experiment,
        weights=assignment.weights,
        models={},
        items=[],
        removed=[Removal(item_id, reason) for item_id in sorted(request.item_ids)],
    )
