"""Ranked feeds in JSON: the record as schemas/feed.schema.json describes it.

Numbers are written in the shortest form that reads back as the same float64.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any

import msgspec
from msgspec import Struct

from workers.ranking.diversify import Diversity
from workers.ranking.feed import NO_ADJUSTMENTS, Feed, FeedItem, FeedItems
from workers.ranking.removal import Removal
from workers.ranking.request import Completion
from workers.ranking.weights import Weights

# The record on the wire. The fields have the names and the order that they have in JSON. A field
# with a default is left out if it has it.


class _Item(Struct, gc=False, omit_defaults=True):
    item_id: str
    position: int
    final_score: float
    scores: dict[str, float]
    source: str | None = None
    adjustments: Mapping[str, float] = {}


class _Removal(Struct, gc=False, omit_defaults=True):
    item_id: str
    reason: str
    source: str | None = None
    scores: dict[str, float] = {}


class _Weights(Struct, gc=False):
    version: str
    values: dict[str, float]


class _Feed(Struct, gc=False, omit_defaults=True):
    request_id: str
    surface: str
    user_id: str
    requested_at: int
    ranked_at: int
    completion: str
    refused: int
    arm: str
    weights: _Weights
    models: dict[str, int]
    items: list[_Item]
    removed: list[_Removal] = []
    truncated: int = 0
    below_top_k: int = 0
    unlisted: int = 0
    diversity: Diversity | None = None
    max_per_source: int = 0
    skipped: Sequence[str] = []
    defaulted: Sequence[str] = []
    experiment: str | None = None


class _Identity(Struct, gc=False):
    """All that a restore needs. The rest of the record is not decoded."""

    requested_at: int
    surface: str
    request_id: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Feed).decode
_decode_identity = msgspec.json.Decoder(_Identity).decode


def encode(feed: Feed) -> bytes:
    """The whole record."""
    make_scores = _scores_maker(tuple(feed.weights.values))
    items = FeedItems.of(feed.items)

    wire = _Feed(
        request_id=feed.request_id,
        surface=feed.surface,
        user_id=feed.user_id,
        requested_at=feed.requested_at,
        ranked_at=feed.ranked_at,
        completion=feed.completion,
        refused=feed.refused,
        arm=feed.arm,
        weights=_Weights(feed.weights.version, dict(feed.weights.values)),
        models=dict(feed.models),
        items=_items(items, make_scores),
    )
    # The optional fields are set afterwards: for a call with more than 15 keywords Python makes a
    # dict, which takes ten times as long as all of this.
    wire.removed = [
        _Removal(item_id, reason, source, make_scores(*scores) if scores else {})
        for item_id, reason, source, scores in feed.removed
    ]
    wire.truncated = feed.truncated
    wire.below_top_k = feed.below_top_k
    wire.unlisted = feed.unlisted
    wire.diversity = feed.diversity
    wire.max_per_source = feed.max_per_source
    wire.skipped = feed.skipped
    wire.defaulted = feed.defaulted
    wire.experiment = feed.experiment
    return _encode(wire)


def _items(items: FeedItems, make_scores: Callable[..., Any]) -> list[_Item]:
    """The items on the wire. `map` makes them from columns, without a line of Python for each."""
    if not items:
        return []

    columns: list[Iterable[Any]] = [
        items.item_ids,
        range(len(items)),
        items.final_scores.tolist(),
        map(make_scores, *items.scores.T.tolist()),
    ]
    if items.sources is not None or items.adjustments is not None:
        columns.append(items.sources or repeat(None))
        columns.append(items.adjustments or repeat(NO_ADJUSTMENTS))
    return list(map(_Item, *columns))


@lru_cache
def _scores_maker(objectives: tuple[str, ...]) -> Callable[..., Any]:
    """What makes the scores of one item, from one score for each objective.

    It is a struct with a field for each objective. It is written like a dict, and costs a quarter
    of one.
    """
    fields = [(f"score_{column}", float) for column in range(len(objectives))]
    names = {f"score_{column}": objective for column, objective in enumerate(objectives)}
    try:
        return msgspec.defstruct("_Scores", fields, rename=names, gc=False)
    except ValueError:
        # JSON has to escape one of the names.
        return lambda *scores: dict(zip(objectives, scores, strict=True))


def decode(value: bytes) -> Feed:
    """Raises ValueError if the record is not a feed."""
    wire = _decode(value)
    objectives = tuple(wire.weights.values)

    items = list[FeedItem]()
    for item in wire.items:
        items.append(
            FeedItem(
                item_id=item.item_id,
                final_score=item.final_score,
                scores=_scores(item, objectives),
                source=item.source,
                adjustments=item.adjustments,
            )
        )

    removed = list[Removal]()
    for removal in wire.removed:
        scores = _scores(removal, objectives) if removal.scores else ()
        removed.append(Removal(removal.item_id, removal.reason, removal.source, scores))

    return Feed(
        request_id=wire.request_id,
        surface=wire.surface,
        user_id=wire.user_id,
        requested_at=wire.requested_at,
        ranked_at=wire.ranked_at,
        completion=Completion(wire.completion),
        refused=wire.refused,
        arm=wire.arm,
        weights=Weights(wire.weights.values, wire.weights.version),
        models=wire.models,
        items=items,
        removed=removed,
        truncated=wire.truncated,
        below_top_k=wire.below_top_k,
        unlisted=wire.unlisted,
        diversity=wire.diversity,
        max_per_source=wire.max_per_source,
        skipped=wire.skipped,
        defaulted=wire.defaulted,
        experiment=wire.experiment,
    )


def _scores(item: _Item | _Removal, objectives: tuple[str, ...]) -> tuple[float, ...]:
    try:
        return tuple(item.scores[objective] for objective in objectives)
    except KeyError as missing:
        raise ValueError(f"item {item.item_id!r}: scores.{missing.args[0]}: not given") from None


def identity(value: bytes) -> tuple[int, str, str]:
    """`(requested_at, surface, request_id)`. Raises ValueError if the record is not a feed."""
    wire = _decode_identity(value)
    return wire.requested_at, wire.surface, wire.request_id
