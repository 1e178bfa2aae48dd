"""The feed of a request that no model could score: every request that opened ends in exactly one
feed.
"""

from workers.ranking.feed import Feed
from workers.ranking.mix import Assignment
from workers.ranking.removal import Removal, RemovalReason
from workers.ranking.request import Request


def unscored(
    request: Request,
    assignment: Assignment,
    ranked_at: int,
    reason: RemovalReason = RemovalReason.NOT_SCORED,
) -> Feed:
    """A feed without items and without models: every candidate is removed for one reason.
    `ranked_at` in ms.
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
        weights=assignment.weights,
        models={},
        items=[],
        removed=[Removal(item_id, reason) for item_id in sorted(request.item_ids)],
    )
