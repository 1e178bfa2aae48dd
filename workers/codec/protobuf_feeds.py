"""Ranked feeds in Protobuf: `trimtab.v1.RankedFeed` of schemas/feed.proto."""

from google.protobuf.message import DecodeError

from workers.codec.generated.feed_pb2 import RankedFeed
from workers.ranking.diversify import Diversity
from workers.ranking.feed import Feed, FeedItem
from workers.ranking.removal import Removal
from workers.ranking.request import Completion
from workers.ranking.weights import Weights


def encode(feed: Feed) -> bytes:
    """The whole record. Objectives are in the order in which they are summed, and so are the scores
    of each item.
    """
    wire = RankedFeed(
        request_id=feed.request_id,
        surface=feed.surface,
        user_id=feed.user_id,
        requested_at=feed.requested_at,
        ranked_at=feed.ranked_at,
        completion=feed.completion,
        refused=feed.refused,
        arm=feed.arm,
        experiment=feed.experiment or "",
        weights_version=feed.weights.version,
        truncated=feed.truncated,
        below_top_k=feed.below_top_k,
        unlisted=feed.unlisted,
        max_per_source=feed.max_per_source,
        skipped=feed.skipped,
        defaulted=feed.defaulted,
    )
    if feed.diversity is not None:
        diversity = RankedFeed.Diversity(decay=feed.diversity.decay, floor=feed.diversity.floor)
        wire.diversity.CopyFrom(diversity)

    for name, weight in feed.weights.values.items():
        wire.objectives.add(name=name, weight=weight, model_version=feed.models.get(name))

    for position, (item_id, final_score, scores, source, adjustments) in enumerate(feed.items):
        item = wire.items.add(
            item_id=item_id, position=position, final_score=final_score, scores=scores
        )
        if source is not None:
            item.source = source
        for rule, adjustment in adjustments.items():
            item.adjustments.add(name=rule, value=adjustment)

    for item_id, reason, source, scores in feed.removed:
        wire.removed.add(item_id=item_id, reason=reason, source=source, scores=scores)

    value: bytes = wire.SerializeToString()
    return value


def decode(value: bytes) -> Feed:
    """Raises ValueError if the record is not a feed."""
    wire = _parse(value)

    weights: dict[str, float] = {}
    models: dict[str, int] = {}
    for objective in wire.objectives:
        weights[objective.name] = objective.weight
        if objective.HasField("model_version"):
            models[objective.name] = objective.model_version

    items = list[FeedItem]()
    for item in wire.items:
        items.append(
            FeedItem(
                item_id=item.item_id,
                final_score=item.final_score,
                scores=_scores(item, len(wire.objectives)),
                source=item.source or None,
                adjustments={entry.name: entry.value for entry in item.adjustments},
            )
        )

    removed = list[Removal]()
    for removal in wire.removed:
        scores = _scores(removal, len(wire.objectives)) if removal.scores else ()
        removed.append(Removal(removal.item_id, removal.reason, removal.source or None, scores))

    diversity = None
    if wire.HasField("diversity"):
        diversity = Diversity(decay=wire.diversity.decay, floor=wire.diversity.floor)

    return Feed(
        request_id=wire.request_id,
        surface=wire.surface,
        user_id=wire.user_id,
        requested_at=wire.requested_at,
        ranked_at=wire.ranked_at,
        completion=Completion(wire.completion),
        refused=wire.refused,
        arm=wire.arm,
        experiment=wire.experiment or None,
        weights=Weights(weights, wire.weights_version),
        models=models,
        items=items,
        removed=removed,
        truncated=wire.truncated,
        below_top_k=wire.below_top_k,
        unlisted=wire.unlisted,
        diversity=diversity,
        max_per_source=wire.max_per_source,
        skipped=list(wire.skipped),
        defaulted=list(wire.defaulted),
    )


def _scores(wire: RankedFeed.Item | RankedFeed.Removal, objectives: int) -> tuple[float, ...]:
    if len(wire.scores) != objectives:
        raise ValueError(
            f"item {wire.item_id!r}: got {len(wire.scores)} scores, expected {objectives}"
        )
    return tuple(wire.scores)


def identity(value: bytes) -> tuple[int, str, str]:
    """`(requested_at, surface, request_id)`. Raises ValueError if the record is not a feed."""
    wire = _parse(value)
    return wire.requested_at, wire.surface, wire.request_id


def _parse(value: bytes) -> RankedFeed:
    try:
        wire = RankedFeed.FromString(value)
    except DecodeError as error:
        raise ValueError(f"{error}, expected trimtab.v1.RankedFeed") from None
    if not wire.request_id:
        raise ValueError("request_id: not given")
    return wire
