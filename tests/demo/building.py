"""Posts with known scores, and feeds that a worker would rank from them."""

from workers.ranking.feed import Feed, FeedItem
from workers.ranking.request import Completion
from workers.ranking.weights import Weights

EVEN = Weights.of({"quality": 0.5, "engagement": 0.5})
OTHER_WEIGHTS = Weights.of({"quality": 0.1, "engagement": 0.9})
WEIGHTS = {"control": (EVEN, OTHER_WEIGHTS)}
SCORES = {"a": (0.875, 0.25), "b": (0.25, 0.75), "c": (0.125, 0.125)}
OTHER_SCORES = {"a": 0.5, "b": 0.625, "c": 0.0}
"""What another version of the model of quality gives."""
MODEL_SCORES = {
    "quality": {1: {item_id: quality for item_id, (quality, _) in SCORES.items()}, 2: OTHER_SCORES},
    "engagement": {1: {item_id: engagement for item_id, (_, engagement) in SCORES.items()}},
}


def ranked(request_id: str, weights: Weights = EVEN, version: int = 1) -> Feed:
    """The posts a, b and c ranked as a worker does, by a version of the model of quality."""
    quality, engagement = weights.values.values()
    scores = {
        item_id: (MODEL_SCORES["quality"][version][item_id], e)
        for item_id, (_, e) in SCORES.items()
    }
    items = [
        FeedItem(item_id, quality * q + engagement * e, (q, e))
        for item_id, (q, e) in scores.items()
    ]
    items.sort(key=lambda item: -item.final_score)
    models = {"quality": version, "engagement": 1}
    return Feed(
        request_id, "home", "u", 1, 2, Completion.FULL, 0, "control", weights, models, items
    )


def sent(*request_ids: str) -> dict[str, frozenset[str]]:
    return {request_id: frozenset(SCORES) for request_id in request_ids}
