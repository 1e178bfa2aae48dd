"""What the demo counts and claims, from the feeds alone. Pure.

- Lost: a request without a feed.
- Doubled: a request with more than one feed.
- Torn: a feed that one whole set of weights and one version of each objective's model do not
  explain, or that contradicts its own numbers.

The demo has this small audit of its own, and not the judge of tests/rig, because it must run and
be understood without the tests.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from workers.ranking.feed import Feed, FeedItem
from workers.ranking.request import Completion
from workers.ranking.rerank import rerank
from workers.ranking.weights import Weights
from workers.scoring.refusal import ModelReason

SentPosts = Mapping[str, Collection[str]]
"""Request id to the ids of its posts."""

WeightsByArm = Mapping[str, Sequence[Weights]]
"""Arm to the sets of weights that were in force for it at some time."""

ScoresByModel = Mapping[str, Mapping[int, Mapping[str, float]]]
"""Objective to version of its model to the score that this version gives each post.

It holds the versions that may have been in force.
"""


@dataclass(frozen=True)
class Audit:
    """The verdict on all feeds of the demo.

    `lost`, `doubled` and `partial` hold request ids, `torn` request id and reason. A partial feed
    lacks some of its request's posts, because they came too late or were refused. `by_weights`
    counts feeds by arm and weights version, `by_model` by objective and version of its model.
    """

    requests: int
    feeds: int
    lost: list[str]
    doubled: list[str]
    torn: list[tuple[str, str]]
    partial: list[str]
    by_weights: Mapping[tuple[str, str], int]
    by_model: Mapping[tuple[str, int], int]

    @property
    def clean(self) -> bool:
        """Whether nothing is lost, doubled or torn."""
        return not (self.lost or self.doubled or self.torn)


def audit(
    sent: SentPosts, feeds: Iterable[Feed], weights: WeightsByArm, scores: ScoresByModel
) -> Audit:
    """Check every feed against the requests that were sent, and against the weights and the models
    that were in force.
    """
    feeds_of_request: Counter[str] = Counter()
    by_weights: Counter[tuple[str, str]] = Counter()
    by_model: Counter[tuple[str, int]] = Counter()
    torn: list[tuple[str, str]] = []
    partial: list[str] = []

    for feed in feeds:
        feeds_of_request[feed.request_id] += 1
        by_weights[feed.arm, feed.weights.version] += 1
        by_model.update(feed.models.items())

        posts = sent.get(feed.request_id, ())
        reason = why_torn(feed, posts, weights, scores)
        if reason is not None:
            torn.append((feed.request_id, reason))
        if not is_full(feed):
            partial.append(feed.request_id)

    return Audit(
        requests=len(sent),
        feeds=feeds_of_request.total(),
        lost=[request_id for request_id in sent if request_id not in feeds_of_request],
        doubled=[request_id for request_id, count in feeds_of_request.items() if count > 1],
        torn=torn,
        partial=partial,
        by_weights=by_weights,
        by_model=by_model,
    )


def is_full(feed: Feed) -> bool:
    """Whether the feed has all posts that were sent with its request."""
    return feed.completion is Completion.FULL and not feed.refused


def why_torn(
    feed: Feed, posts: Collection[str], weights: WeightsByArm, scores: ScoresByModel
) -> str | None:
    """Why a feed is torn; None if it is whole.

    The checks, in this order:

    1. Its weights are one whole set that was in force for its arm.
    2. Its items are posts of its request, each once.
    3. Its scores are those of the versions that it names, bit for bit.
    4. Each final score is the weighted sum of the item's scores, plus its adjustments.
    5. Its items are in the order of their final scores.
    """
    if feed.weights not in weights.get(feed.arm, ()):
        named = f"{dict(feed.weights.values)} ({feed.weights.version})"
        return f"its weights {named} are not a set that was in force for the arm {feed.arm}"

    item_ids = [item.item_id for item in feed.items]
    distinct = set(item_ids)
    if len(distinct) < len(item_ids) or not distinct <= set(posts):
        return "its items are not the posts that were sent with its request"

    reason = _why_scores_are_wrong(feed, scores)
    if reason is not None:
        return reason

    for item in feed.items:
        if item.final_score != _final_score(feed.weights, item):
            return (
                f"the final score of {item.item_id} is not the weighted sum of its scores, "
                "plus its adjustments"
            )

    in_order = sorted(feed.items, key=_sort_key)
    if item_ids != [item.item_id for item in in_order]:
        return "its items are not in the order of their final scores"
    return None


def _why_scores_are_wrong(feed: Feed, scores: ScoresByModel) -> str | None:
    """Why the scores are not those of the versions that the feed names; None if they are."""
    if list(feed.models) != list(feed.weights.values):
        models = ", ".join(feed.models)
        weights = ", ".join(feed.weights.values)
        return f"its models are of {models}, its weights of {weights}"

    for column, (objective, version) in enumerate(feed.models.items()):
        expected = scores.get(objective, {}).get(version)
        if expected is None:
            return f"it names {objective}/{version}, which cannot have been in force"
        for item in feed.items:
            if item.scores[column] != expected[item.item_id]:
                return (
                    f"not all of its scores of {objective} are those of {objective}/{version}, "
                    "which it names"
                )
    return None


def _final_score(weights: Weights, item: FeedItem) -> float:
    """The final score as a worker computes it, bit for bit: in float64, first one objective after
    the other, then the adjustments.
    """
    total = 0.0
    for weight, score in zip(weights.values.values(), item.scores, strict=True):
        total += weight * score
    for adjustment in item.adjustments.values():
        total += adjustment
    return total


def _sort_key(item: FeedItem) -> tuple[float, bytes]:
    return -item.final_score, item.item_id.encode()


@dataclass(frozen=True)
class WeightChange:
    """A change of the weights by hand and the first feed under it. Times are ms since the epoch.

    `started_at` is just before redis-cli was started, `returned_at` just after it ended.
    `ranked_at` is that of the first feed under the new weights, `readable_at` is when it was read
    under read_committed.
    """

    started_at: int
    returned_at: int
    ranked_at: int
    readable_at: int

    @property
    def command_ms(self) -> int:
        """How long redis-cli took."""
        return self.returned_at - self.started_at

    @property
    def ranked_ms(self) -> int:
        """How long it took until the first feed was ranked under the new weights."""
        return self.ranked_at - self.started_at

    @property
    def readable_ms(self) -> int:
        """How long it took until that feed was readable."""
        return self.readable_at - self.started_at


@dataclass(frozen=True)
class PreviewCheck:
    """Previewed requests that were ranked again: feeds compared, and how many equal their preview."""

    compared: int
    as_previewed: int

    @property
    def holds(self) -> bool:
        """Whether all of them equal their preview."""
        return self.as_previewed == self.compared


def check_preview(pairs: Iterable[tuple[Feed, Feed]], weights: Weights) -> PreviewCheck:
    """Compare a preview with what a worker published.

    In each pair, the first feed is re-ranked under `weights`, as a preview does. The second is the
    worker's own feed for the same posts under `weights`. They are equal if they have the same
    items in the same order with the same scores and final scores, bit for bit. A pair is left out
    if one of its feeds is partial.
    """
    compared = 0
    as_previewed = 0
    for old, new in pairs:
        if not (is_full(old) and is_full(new)):
            continue
        expected = rerank(old, weights)
        compared += 1
        if expected.weights == new.weights and expected.items == new.items:
            as_previewed += 1
    return PreviewCheck(compared=compared, as_previewed=as_previewed)


@dataclass(frozen=True)
class ArmCounts:
    """Feeds of an experiment by arm. `returning` counts users with several of these feeds,
    `in_two_arms` those of them whose feeds are not all of one arm.
    """

    feeds: Mapping[str, int]
    returning: int
    in_two_arms: int

    @property
    def total(self) -> int:
        """The feeds of all arms."""
        return sum(self.feeds.values())

    def percent(self, arm: str) -> float:
        """The arm's share of the feeds; there must be some."""
        return 100 * self.feeds.get(arm, 0) / self.total


def count_arms(feeds: Iterable[Feed]) -> ArmCounts:
    """Count feeds that were ranked while one experiment ran unchanged."""
    feeds_of_arm: Counter[str] = Counter()
    arms_of_user: defaultdict[str, list[str]] = defaultdict(list)
    for feed in feeds:
        feeds_of_arm[feed.arm] += 1
        arms_of_user[feed.user_id].append(feed.arm)

    return ArmCounts(
        feeds=feeds_of_arm,
        returning=sum(len(arms) > 1 for arms in arms_of_user.values()),
        in_two_arms=sum(len(set(arms)) > 1 for arms in arms_of_user.values()),
    )


@dataclass(frozen=True)
class ModelSwap:
    """A new version of a model that came while requests were sent, a bad one after it, and a pin.

    `ranked_ms` is the time from the new version's manifest to the `ranked_at` of the first feed by
    it. `refused` is the reason why the bad version is refused. `pinned` counts feeds that were
    ranked once every worker had the pin, and `others` those of them by another version.
    """

    ranked_ms: int
    refused: str
    pinned: int
    others: int

    @property
    def holds(self) -> bool:
        """Whether the bad version was refused for its hash, and the pin held."""
        return self.refused == ModelReason.HASH and self.pinned > 0 and self.others == 0


def count_other_versions(feeds: Iterable[Feed], objective: str, version: int) -> int:
    """How many of the feeds are by another version of the objective's model."""
    return sum(feed.models[objective] != version for feed in feeds)


@dataclass(frozen=True)
class Outcome:
    """The result of the demo. The result of a step that was not reached is None.

    `before` and `after` are the feeds of the same request before and after the weights were
    changed by hand. `trouble` says why the demo was cut short.
    """

    audit: Audit
    weight_change: WeightChange | None = None
    before: Feed | None = None
    after: Feed | None = None
    preview: PreviewCheck | None = None
    arms: ArmCounts | None = None
    model_swap: ModelSwap | None = None
    trouble: str | None = None

    @property
    def good(self) -> bool:
        """Whether the demo came to its end and every claim holds.

        The claims: nothing is lost, doubled or torn, every feed is as previewed, no user is in two
        arms, the bad model was refused, and the pin held.
        """
        if self.trouble is not None or not self.audit.clean:
            return False
        if self.preview is not None and not self.preview.holds:
            return False
        if self.arms is not None and self.arms.in_two_arms > 0:
            return False
        return self.model_swap is None or self.model_swap.holds

    def document(self) -> dict[str, object]:
        """The outcome as `--json` prints it.

        `before` and `after` list item ids, the best first. `models` maps objective to version to
        feeds.
        """
        models: dict[str, dict[str, int]] = {}
        for (objective, version), feeds in sorted(self.audit.by_model.items()):
            models.setdefault(objective, {})[str(version)] = feeds

        document: dict[str, object] = {
            "requests": self.audit.requests,
            "feeds": self.audit.feeds,
            "lost": len(self.audit.lost),
            "doubled": len(self.audit.doubled),
            "torn": len(self.audit.torn),
            "partial": len(self.audit.partial),
            "ranked_ms": None,
            "readable_ms": None,
            "before": _order_document(self.before),
            "after": _order_document(self.after),
            "preview": None,
            "experiment": None,
            "models": models,
            "swap": None,
            "trouble": self.trouble,
        }
        if self.weight_change is not None:
            document["ranked_ms"] = self.weight_change.ranked_ms
            document["readable_ms"] = self.weight_change.readable_ms
        if self.preview is not None:
            document["preview"] = {
                "compared": self.preview.compared,
                "as_previewed": self.preview.as_previewed,
            }
        if self.arms is not None:
            document["experiment"] = {
                "arms": dict(self.arms.feeds),
                "returning_users": self.arms.returning,
                "users_in_two_arms": self.arms.in_two_arms,
            }
        if self.model_swap is not None:
            document["swap"] = {
                "ranked_ms": self.model_swap.ranked_ms,
                "refused": self.model_swap.refused,
                "pinned": self.model_swap.pinned,
                "others": self.model_swap.others,
            }
        return document


def _order_document(feed: Feed | None) -> dict[str, object] | None:
    if feed is None:
        return None
    return {
        "weights": dict(feed.weights.values),
        "items": [item.item_id for item in feed.items],
    }
