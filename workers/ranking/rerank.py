"""Rank a published feed anew under another set of weights, from the scores on its own record.

A worker that ranks the same request under that set, and by the rules on sources that the feed
names, publishes the same final scores, bit for bit, in the same order. What a source had too much
of comes back in. What was removed otherwise stays removed: a score that is not finite ranks under
no weights.
"""

from dataclasses import replace

import numpy as np

from workers.ranking.feed import Feed, FeedItem
from workers.ranking.rank import Ranking, Scored, feed_items, over_limit, place
from workers.ranking.removal import Removal, RemovalReason
from workers.ranking.weights import Weights


class ObjectivesDiffer(ValueError):
    """The feed was scored by other objectives than the set weights; the message names both."""


def is_whole(feed: Feed) -> bool:
    """Whether every ranked item is on the record; if not, another set might bring in an item that
    is not.
    """
    return feed.truncated == feed.below_top_k == feed.unlisted == 0


def scored_of(feed: Feed, weights: Weights) -> Scored:
    """What can be ranked: the feed's items, then what was over the limit of its source.

    The scores' columns stand in the set's order. Raises ObjectivesDiffer.
    """
    named, wanted = list(feed.weights.values), list(weights.values)
    if set(named) != set(wanted):
        raise ObjectivesDiffer(
            f"feed {feed.request_id!r}: got objectives {named}, expected {wanted}"
        )
    found: list[FeedItem | Removal] = [*feed.items, *filter(_over_limit, feed.removed)]
    scores = np.array([one.scores for one in found], np.float32).reshape(-1, len(named))
    scores = (
        scores if named == wanted else scores[:, [named.index(objective) for objective in wanted]]
    )
    return Scored(tuple(one.item_id for one in found), tuple(one.source for one in found), scores)


def place_anew(feed: Feed, scored: Scored, weights: Weights) -> Ranking:
    """Place what can be ranked by the feed's own rules; of it as many items are kept as the feed
    has.

    More of them are there only where the feed is not whole.
    """
    ranking = place(scored, weights, feed.diversity, feed.max_per_source)
    return ranking._replace(kept=ranking.kept[: len(feed.items)])


def rerank(feed: Feed, weights: Weights) -> Feed:
    """The feed as it would have been published under `weights`. Raises ObjectivesDiffer.

    Of a feed that is not whole only what is on its record is ranked.
    """
    scored = scored_of(feed, weights)
    ranking = place_anew(feed, scored, weights)
    gone = [removal for removal in feed.removed if not _over_limit(removal)]
    return replace(
        feed,
        weights=weights,
        items=feed_items(scored, ranking, ranking.kept),
        removed=sorted(gone + over_limit(scored, ranking.over)),
        below_top_k=feed.below_top_k + len(scored.item_ids) - len(ranking.kept) - len(ranking.over),
    )


def _over_limit(removal: Removal) -> bool:
    return removal.reason == RemovalReason.SOURCE_LIMIT
