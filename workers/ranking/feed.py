"""A ranked feed: the full record of how a request was ranked, enough to check it or to rank again.

Every request that opens ends in exactly one feed. A request that no model could score ends in one
without items: see `unscored_feed`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

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


@dataclass(frozen=True, slots=True)
class Feed:
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
    items: list[FeedItem]
    removed: list[Removal] = field(default_factory=list)
    truncated: int = 0
    below_top_k: int = 0
    unlisted: int = 0
    diversity: Diversity | None = None
    max_per_source: int = 0
    skipped: list[str] = field(default_factory=list)
    defaulted: list[str] = field(default_factory=list)
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
