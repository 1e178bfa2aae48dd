"""Ranked feeds in JSON: the record as schemas/feed.schema.json describes it.

Numbers are written in the shortest form that reads back as the same float64.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from workers.ranking.diversify import Diversity
from workers.ranking.feed import Feed, FeedItem
from workers.ranking.removal import Removal
from workers.ranking.request import Completion
from workers.ranking.weights import Weights


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
    skipped: list[str] = []
    defaulted: list[str] = []


class _Identity(Struct, gc=False):
    requested_at: int
    surface: str
    request_id: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Feed).decode
_decode_identity = msgspec.json.Decoder(_Identity).decode


def encode(feed: Feed) -> bytes:
    """The whole record."""
    scores_of = _scores_type(tuple(feed.weights.values))
    return _encode(
        _Feed(
            feed.request_id,
            feed.surface,
            feed.user_id,
            feed.requested_at,
            feed.ranked_at,
            feed.completion,
            feed.refused,
            feed.arm,
            _Weights(feed.weights.version, dict(feed.weights.values)),
            dict(feed.models),
            [
                _Item(item_id, position, final_score, scores_of(*scores), source, adjustments)
                for position, (item_id, final_score, scores, source, adjustments) in enumerate(
                    feed.items
                )
            ],
            [
                _Removal(item_id, reason, source, scores_of(*scores) if scores else {})
                for item_id, reason, source, scores in feed.removed
            ],
            feed.truncated,
            feed.below_top_k,
            feed.unlisted,
            feed.diversity,
            feed.max_per_source,
            feed.skipped,
            feed.defaulted,
        )
    )


@lru_cache
def _scores_type(objectives: tuple[str, ...]) -> Callable[..., Any]:
    """Makes what is written like a dict of scores and costs a quarter of it."""
    names = {f"score_{place}": objective for place, objective in enumerate(objectives)}
    try:
        return msgspec.defstruct(
            "_Scores", [(name, float) for name in names], rename=names, gc=False
        )
    except ValueError:  # a name that JSON has to escape
        return lambda *scores: dict(zip(objectives, scores, strict=True))


def decode(value: bytes) -> Feed:
    """Raises ValueError where the record is no feed."""
    wire = _decode(value)
    objectives = tuple(wire.weights.values)
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
        items=[
            FeedItem(i.item_id, i.final_score, _scores(i, objectives), i.source, i.adjustments)
            for i in wire.items
        ],
        removed=[_removal(r, objectives) for r in wire.removed],
        truncated=wire.truncated,
        below_top_k=wire.below_top_k,
        unlisted=wire.unlisted,
        diversity=wire.diversity,
        max_per_source=wire.max_per_source,
        skipped=wire.skipped,
        defaulted=wire.defaulted,
    )


def _removal(wire: _Removal, objectives: tuple[str, ...]) -> Removal:
    return Removal(
        wire.item_id, wire.reason, wire.source, _scores(wire, objectives) if wire.scores else ()
    )


def _scores(item: _Item | _Removal, objectives: tuple[str, ...]) -> tuple[float, ...]:
    try:
        return tuple(item.scores[objective] for objective in objectives)
    except KeyError as missing:
        raise ValueError(f"item {item.item_id!r}: scores.{missing.args[0]}: not given") from None


def identity(value: bytes) -> tuple[int, str, str]:
    """`(requested_at, surface, request_id)`. Raises ValueError where the record is no feed."""
    wire = _decode_identity(value)
    return wire.requested_at, wire.surface, wire.request_id
