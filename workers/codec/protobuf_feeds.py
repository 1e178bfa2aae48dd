"""Ranked feeds in Protobuf: `trimtab.v1.RankedFeed` of schemas/feed.proto."""

import struct
from functools import lru_cache
from itertools import repeat

from google.protobuf.message import DecodeError

from workers.codec.compiled import item_writer
from workers.codec.generated.feed_pb2 import RankedFeed
from workers.codec.judge import ID_BYTES
from workers.ranking.diversify import Diversity
from workers.ranking.feed import Feed, FeedItem, FeedItems
from workers.ranking.removal import Removal
from workers.ranking.request import Completion
from workers.ranking.weights import Weights


def encode(feed: Feed) -> bytes:
    """The whole record. Objectives are in the order in which they are summed, and so are the scores
    of each item.

    The items of most feeds are written here, all other fields by the library. The fields stay in
    the order of their numbers, in which the library writes them too.
    """
    before_items = RankedFeed(
        request_id=feed.request_id,
        surface=feed.surface,
        user_id=feed.user_id,
        requested_at=feed.requested_at,
        ranked_at=feed.ranked_at,
        completion=feed.completion,
        refused=feed.refused,
        arm=feed.arm,
        weights_version=feed.weights.version,
    )
    for name, weight in feed.weights.values.items():
        before_items.objectives.add(name=name, weight=weight, model_version=feed.models.get(name))

    after_items = RankedFeed(
        truncated=feed.truncated,
        below_top_k=feed.below_top_k,
        max_per_source=feed.max_per_source,
        skipped=feed.skipped,
        defaulted=feed.defaulted,
        unlisted=feed.unlisted,
        experiment=feed.experiment or "",
    )
    for item_id, reason, source, scores in feed.removed:
        after_items.removed.add(item_id=item_id, reason=reason, source=source, scores=scores)
    if feed.diversity is not None:
        diversity = RankedFeed.Diversity(decay=feed.diversity.decay, floor=feed.diversity.floor)
        after_items.diversity.CopyFrom(diversity)

    items = FeedItems.of(feed.items)
    if items.sources is None and items.adjustments is None:
        item_fields = _write_items(items)
    else:
        item_fields = write_by_library(items)
    return before_items.SerializeToString() + item_fields + after_items.SerializeToString()


def write_by_library(items: FeedItems) -> bytes:
    """Any items, as fields of a feed."""
    wire = RankedFeed()
    for position, (item_id, final_score, scores, source, adjustments) in enumerate(items):
        item = wire.items.add(
            item_id=item_id, position=position, final_score=final_score, scores=scores
        )
        if source is not None:
            item.source = source
        for rule, adjustment in adjustments.items():
            item.adjustments.add(name=rule, value=adjustment)

    value: bytes = wire.SerializeToString()
    return value


# Items without source and adjustments, written directly. wire_codec.c does the same, and is used if
# it was built. In Python it costs a fifth of the library, which is called many times for each item.
#
# An item is a tag, its length, and its fields: the id, the position, the final score and the scores.
# All but the id have a fixed length, if the position has. A field that is 0 is left out.

_ITEM = b"\x5a"  # field 11 of a feed
_ITEM_ID = b"\x0a"
_POSITION = b"\x10"
_FINAL_SCORE = 0x19
_SCORES = 0x22
# Of a length in one byte.
_SHORT = 0x7F


def write_in_python(items: FeedItems) -> bytes:
    """Items without source and adjustments, as fields of a feed."""
    scores_bytes = 4 * items.scores.shape[1]
    if 0 < scores_bytes <= _SHORT and items.final_scores.all():
        return b"".join(_plain_parts(items))
    return write_by_library(items)


def _plain_parts(items: FeedItems) -> list[bytes]:
    """Items of which no final score is 0, as parts to be joined. Items whose positions have the
    same length are written together, column by column: `map` and `pack` need no line of Python for
    each item.
    """
    ids = list(map(str.encode, items.item_ids))
    finals = items.final_scores.tolist()
    columns = items.scores.T.tolist()

    parts: list[bytes] = []
    start = 0
    while start < len(ids):
        first = _position_field(start)
        end = min(len(ids), _next_longer(start))
        numbers = _numbers_struct(len(first), len(columns))
        heads = _heads(numbers.size)

        together = [b""] * (3 * (end - start))
        together[0::3] = [heads[len(item_id)] for item_id in ids[start:end]]
        together[1::3] = ids[start:end]
        together[2::3] = map(
            numbers.pack,
            map(_position_field, range(start, end)),
            repeat(_FINAL_SCORE),
            finals[start:end],
            repeat(_SCORES),
            repeat(4 * len(columns)),
            *[column[start:end] for column in columns],
        )
        parts += together
        start = end
    return parts


@lru_cache(maxsize=4096)
def _position_field(position: int) -> bytes:
    return _POSITION + _varint(position) if position else b""


def _next_longer(position: int) -> int:
    """The next position whose field is longer than that of this one."""
    return 1 if position == 0 else 1 << 7 * (len(_position_field(position)) - 1)


@lru_cache
def _numbers_struct(position_bytes: int, objectives: int) -> struct.Struct:
    """All fields of an item behind its id."""
    return struct.Struct(f"<{position_bytes}sBdBB{objectives}f")


@lru_cache
def _heads(numbers_bytes: int) -> list[bytes]:
    """By the length of an id in bytes: what precedes it in an item."""
    heads: list[bytes] = []
    for length in range(ID_BYTES + 1):
        id_head = _ITEM_ID + _varint(length)
        heads.append(_ITEM + _varint(len(id_head) + length + numbers_bytes) + id_head)
    return heads


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > _SHORT:
        encoded.append(number & _SHORT | _SHORT + 1)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_write_items = item_writer(write_in_python)


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
