"""What became of the requests that were sent, judged from the feeds alone. Pure.

Lost: a request without a feed. Doubled: a request with more than one. Torn: a feed that no single,
whole set of weights explains, nor one version of each objective's model, or that is not what its
own numbers say.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from workers.commands.demo.claims import is_full
from workers.ranking.feed import Feed, FeedItem
from workers.ranking.weights import Weights

Sent = Mapping[str, Collection[str]]
"""Request id to the ids of its posts."""

InForce = Mapping[str, Sequence[Weights]]
"""Arm to the sets of weights that were in force for it."""

InUse = Mapping[str, Mapping[int, Mapping[str, float]]]
"""Objective to the versions of its model that may have been in force, and to what each gives each
post.
"""


@dataclass(frozen=True)
class Audit:
    """`lost`, `doubled` and `partial` hold request ids, `torn` request id and reason.

    `under` counts feeds by arm and weights version, `by` by objective and the version of its model.
    A partial feed lacks posts, which came too late or were refused.
    """

    requests: int
    feeds: int
    lost: list[str]
    doubled: list[str]
    torn: list[tuple[str, str]]
    partial: list[str]
    under: Mapping[tuple[str, str], int]
    by: Mapping[tuple[str, int], int]

    @property
    def clean(self) -> bool:
        """Whether nothing is lost, doubled or torn."""
        return not (self.lost or self.doubled or self.torn)


def audit(sent: Sent, feeds: Iterable[Feed], written: InForce, models: InUse) -> Audit:
    """Hold every feed against the requests that were sent, the sets of weights of its arm, and the
    models.
    """
    seen: Counter[str] = Counter()
    under: Counter[tuple[str, str]] = Counter()
    by: Counter[tuple[str, int]] = Counter()
    torn, partial = [], []
    for feed in feeds:
        seen[feed.request_id] += 1
        under[feed.arm, feed.weights.version] += 1
        by.update(feed.models.items())
        why = tear(feed, sent.get(feed.request_id, ()), written, models)
        if why is not None:
            torn.append((feed.request_id, why))
        if not is_full(feed):
            partial.append(feed.request_id)
    return Audit(
        requests=len(sent),
        feeds=seen.total(),
        lost=[request_id for request_id in sent if request_id not in seen],
        doubled=[request_id for request_id, times in seen.items() if times > 1],
        torn=torn,
        partial=partial,
        under=under,
        by=by,
    )


def tear(feed: Feed, posts: Collection[str], written: InForce, models: InUse) -> str | None:
    """Why a feed is torn, or None where it is whole."""
    if feed.weights not in written.get(feed.arm, ()):
        held = f"{dict(feed.weights.values)} ({feed.weights.version})"
        return f"its weights {held} are no set that was in force for the arm {feed.arm}"
    item_ids = [item.item_id for item in feed.items]
    if len(set(item_ids)) < len(item_ids) or not set(item_ids) <= set(posts):
        return "its items are not the posts that were sent with its request"
    misscored = _misscored(feed, models)
    if misscored is not None:
        return misscored
    for item in feed.items:
        if item.final_score != _sum(feed.weights, item):
            return f"the final score of {item.item_id} is not the weighted sum of its scores, adjusted as it says"
    if item_ids != [item.item_id for item in sorted(feed.items, key=_place)]:
        return "its items are not in the order of their final scores"
    return None


def _misscored(feed: Feed, models: InUse) -> str | None:
    """Why no one version of each objective explains the scores, or None where the versions do that
    it names.
    """
    if list(feed.models) != list(feed.weights.values):
        return f"its models are of {', '.join(feed.models)}, its weights of {', '.join(feed.weights.values)}"
    for place, (objective, version) in enumerate(feed.models.items()):
        gives = models.get(objective, {}).get(version)
        if gives is None:
            return f"{objective}/{version}, which it names, is no model that may have been in force"
        if any(item.scores[place] != gives[item.item_id] for item in feed.items):
            return f"not all of its scores of {objective} are those of {objective}/{version}, which it names"
    return None


def _sum(weights: Weights, item: FeedItem) -> float:
    """Bit for bit as a worker sums: in float64, one objective after the other, then the
    adjustments.
    """
    total = 0.0
    for weight, score in zip(weights.values.values(), item.scores, strict=True):
        total += weight * score
    for adjustment in item.adjustments.values():
        total += adjustment
    return total


def _place(item: FeedItem) -> tuple[float, bytes]:
    return -item.final_score, item.item_id.encode()
