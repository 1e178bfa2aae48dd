"""Posts with known scores, and feeds that a worker would rank from them."""

from workers.ranking.feed import Feed, FeedItem
from workers.ranking.request import Completion
from workers.ranking.weights import Weights

EVEN = Weights.of({"quality": 0.5, "engagement": 0.5})
OTHER_WEIGHTS = Weights.of({"quality": 0.1, "engagement": 0.9})
WEIGHTS = {"control": (EVEN, OTHER_WEIGHTS)}

POSTS = ("a", "b", "c")
MODEL_SCORES = {
    "quality": {
        1: {"a": 0.875, "b": 0.25, "c": 0.125},
        2: {"a": 0.5, "b": 0.625, "c": 0.0},
    },
    "engagement": {1: {"a": 0.25, "b": 0.75, "c": 0.125}},
}


def ranked(request_id: str, weights: Weights = EVEN, version: int = 1) -> Feed:
    """The posts a, b and c ranked as a worker does, by a version of the model of quality."""
    items: list[FeedItem] = []
    for item_id in POSTS:
        quality = MODEL_SCORES["quality"][version][item_id]
        engagement = MODEL_SCORES["engagement"][1][item_id]
        final_score = (
            weights.values["quality"] * quality + weights.values["engagement"] * engagement
        )
        items.append(FeedItem(item_id, final_score, (quality, engagement)))
    items.sort(key=lambda item: -item.final_score)

    return Feed(
        request_id=request_id,
        surface="home",
        user_id="u",
        requested_at=1,
        ranked_at=2,
        completion=Completion.FULL,
        refused=0,
        arm="control",
        weights=weights,
        models={"quality": version, "engagement": 1},
        items=items,
    )
