"""Rank a published feed again under another set of weights, from the scores on its own record.

A worker that ranks the same request under that set, and under the rules on sources that the feed
names, publishes the same final scores, bit for bit, in the same order.

- An item that was removed because of the limit of its source is ranked again: other weights may
  bring it back.
- Any other removed item stays removed. A score that is not finite ranks under no weights.
"""

import numpy as np

from workers.ranking.feed import Feed, FeedItem
from workers.ranking.rank import (
    Ranking,
    ScoredCandidates,
    feed_items,
    rank_candidates,
    source_limit_removals,
)
from workers.ranking.removal import Removal, RemovalReason
from workers.ranking.weights import Weights


class ObjectivesDiffer(ValueError):
    """The feed was scored by other objectives than the set weights. The message names both."""


def rerank(feed: Feed, weights: Weights) -> Feed:
    """The feed as it would have been published under `weights`. Raises ObjectivesDiffer.

    If the feed is not whole, only what is on its record is ranked.
    """
    candidates = candidates_of(feed, weights)
    ranking = rank_again(feed, candidates, weights)

    removed = [removal for removal in feed.removed if not _is_over_limit(removal)]
    removed += source_limit_removals(candidates, ranking.over_limit)
    cut = len(candidates.item_ids) - len(ranking.kept) - len(ranking.over_limit)
    return feed._replace(
        weights=weights,
        items=feed_items(candidates, ranking, ranking.kept),
        removed=sorted(removed),
        below_top_k=feed.below_top_k + cut,
    )


def is_whole(feed: Feed) -> bool:
    """Whether every ranked item is on the record. If not, another set might bring in an item that
    is not.
    """
    return feed.truncated == 0 and feed.below_top_k == 0 and feed.unlisted == 0


def candidates_of(feed: Feed, weights: Weights) -> ScoredCandidates:
    """What can be ranked again: the items of the feed, then those over the limit of their source.

    The columns of the scores are in the set's order of objectives. Raises ObjectivesDiffer.
    """
    objectives = list(feed.weights.values)
    wanted = list(weights.values)
    if set(objectives) != set(wanted):
        raise ObjectivesDiffer(
            f"feed {feed.request_id!r}: got objectives {objectives}, expected {wanted}"
        )

    item_ids = list[str]()
    sources = list[str | None]()
    rows = list[tuple[float, ...]]()
    rankable: list[FeedItem | Removal] = [*feed.items, *filter(_is_over_limit, feed.removed)]
    for item in rankable:
        item_ids.append(item.item_id)
        sources.append(item.source)
        rows.append(item.scores)

    scores = np.array(rows, np.float32).reshape(-1, len(objectives))
    if objectives != wanted:
        columns = [objectives.index(objective) for objective in wanted]
        scores = scores[:, columns]
    return ScoredCandidates(tuple(item_ids), tuple(sources), scores)


def rank_again(feed: Feed, candidates: ScoredCandidates, weights: Weights) -> Ranking:
    """Rank candidates under the feed's own rules on sources. Keep as many items as the feed has.

    There can be more of them only if the feed is not whole.
    """
    ranking = rank_candidates(candidates, weights, feed.diversity, feed.max_per_source)
    return ranking._replace(kept=ranking.kept[: len(feed.items)])


def _is_over_limit(removal: Removal) -> bool:
    return removal.reason == RemovalReason.SOURCE_LIMIT
