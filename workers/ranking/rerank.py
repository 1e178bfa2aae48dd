"""Rank a published feed anew under another set of weights, from the scores on its own record.

A worker that ranks the same request under that set publishes the same final scores, bit for bit, in the same order.
What was removed stays removed: a score that is not finite ranks under no weights.
"""

from dataclasses import replace

import numpy as np

from workers.ranking.feed import Feed, FeedItem
from workers.ranking.rank import Scores, combine, order
from workers.ranking.weights import Weights


class OtherObjectives(ValueError):
    """The feed was scored by other objectives than the set weights; the message names both."""


def is_whole(feed: Feed) -> bool:
    """Whether every ranked item is on the record; if not, another set might bring in an item that is not."""
    return feed.truncated == 0 and feed.below_top_k == 0


def scores_for(feed: Feed, weights: Weights) -> Scores:
    """The feed's scores `[items, objectives]`, float32, columns in the set's order. Raises OtherObjectives."""
    named, wanted = list(feed.weights.values), list(weights.values)
    if set(named) != set(wanted):
        raise OtherObjectives(f"feed {feed.request_id!r}: got objectives {named}, expected {wanted}")
    scores = np.array([item.scores for item in feed.items], np.float32).reshape(-1, len(named))
    return scores if named == wanted else scores[:, [named.index(objective) for objective in wanted]]


def rerank(feed: Feed, weights: Weights) -> Feed:
    """The feed as it would have been published under `weights`. Raises OtherObjectives.

    Of a feed that is not whole only the items on its record are ranked.
    """
    scores = scores_for(feed, weights)
    final = combine(scores, weights)
    item_ids = tuple(item.item_id for item in feed.items)
    finals, rows = final.tolist(), scores.tolist()
    items = [FeedItem(item_ids[i], finals[i], tuple(rows[i])) for i in order(final, item_ids)]
    return replace(feed, weights=weights, items=items)
