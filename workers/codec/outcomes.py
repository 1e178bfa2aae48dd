"""What the join publishes, in JSON or Protobuf: `request-outcomes` and `feed-outcomes`.

A record of `request-outcomes` is final: one for each feed, when its window has closed. A record of
`feed-outcomes` holds absolute sums: the latest of a key and a partition counts.

The header `content-type` says the format of the value, and JSON is meant without it. So a topic may
hold both formats. The key of `feed-outcomes` is JSON in either, so that a key stays the same.
"""

import sys
from typing import NamedTuple

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Struct

from workers.codec.formats import Format, Headers, stated_format
from workers.codec.generated.feed_outcomes_pb2 import FeedOutcomes as WireFeedOutcomes
from workers.codec.generated.request_outcomes_pb2 import RequestOutcomes as WireRequestOutcomes
from workers.outcomes.records import HOUR_MS, ClosedFeed, SumsKey
from workers.outcomes.sums import ClusterSums, Sums
from workers.ranking.outcome_rules import SEEN, TAKE
from workers.ranking.refusal import EventRefused


class ItemOutcome(Struct, gc=False):
    """An item that had an outcome. `outcomes` has the names."""

    item_id: str
    position: int
    outcomes: list[str]


class RequestOutcomes(Struct, gc=False, omit_defaults=True):
    """What readers did with one feed. Times in ms since the epoch. `outcomes` has every item that
    had one, in the order of the feed.
    """

    request_id: str
    surface: str
    user_id: str
    arm: str
    weights: str
    models: dict[str, int]
    completion: str
    published_at: int
    closed_at: int
    items: int
    seen: int
    takes: int
    outcomes: list[ItemOutcome]
    others: dict[str, int] = {}
    experiment: str | None = None
    unlisted: int = 0


class _Key(Struct, gc=False, omit_defaults=True):
    hour: int
    surface: str
    arm: str
    weights: str
    models: dict[str, int]
    experiment: str | None = None


class _Positions(Struct, gc=False):
    seen: list[int]
    takes: list[int]


class _Clusters(Struct, gc=False):
    cluster: list[int]
    feeds: list[int]
    deadline_feeds: list[int]
    items: list[int]
    seen: list[int]
    takes: list[int]
    others: dict[str, list[int]]
    scores: dict[str, list[float]]


class _FeedOutcomes(Struct, gc=False, omit_defaults=True):
    hour: int
    surface: str
    arm: str
    weights: str
    models: dict[str, int]
    partition: int
    closed_until: int
    feeds: int
    deadline_feeds: int
    items: int
    seen: int
    takes: int
    others: dict[str, int]
    positions: _Positions
    clusters: _Clusters
    experiment: str | None = None


class _FeedOutcomesHead(Struct, gc=False):
    """The fields of a record of `feed-outcomes` that say what it is about."""

    hour: int
    surface: str
    arm: str
    weights: str
    models: dict[str, int]
    partition: int
    closed_until: int
    experiment: str | None = None


class FeedOutcomesHead(NamedTuple):
    """What a record of `feed-outcomes` is about: its fields as in FeedOutcomes."""

    key: SumsKey
    partition: int
    closed_until: int


class FeedOutcomes(NamedTuple):
    """The sums of one key in one partition. `closed_until` (ms): every feed that was published
    before this time is in the sums of its key.
    """

    key: SumsKey
    partition: int
    closed_until: int
    sums: Sums


_encode_json = msgspec.json.Encoder().encode
_decode_request_json = msgspec.json.Decoder(RequestOutcomes).decode
_decode_sums_json = msgspec.json.Decoder(_FeedOutcomes).decode
_decode_head_json = msgspec.json.Decoder(_FeedOutcomesHead).decode


def outcome_headers(form: Format) -> Headers:
    """The headers of a record in this format."""
    return [("content-type", form.content_type)]


def encode_request_outcomes(
    feed: ClosedFeed, form: Format, limit_bytes: int = sys.maxsize
) -> bytes:
    """The record of one closed feed in `request-outcomes`, in at most `limit_bytes`.

    If it is larger, the list of items is left out, and `unlisted` counts them.
    """
    outcomes: list[ItemOutcome] = []
    counts = dict.fromkeys(feed.names, 0)
    for place, bits in enumerate(feed.marks):
        if not bits:
            continue
        names = [name for bit, name in enumerate(feed.names) if bits >> bit & 1]
        for name in names:
            counts[name] += 1
        outcomes.append(ItemOutcome(feed.item_ids[place], feed.first_position + place, names))

    key = feed.key
    record = RequestOutcomes(
        request_id=feed.request_id,
        surface=key.surface,
        user_id=feed.user_id,
        arm=key.arm,
        experiment=key.experiment,
        weights=key.weights,
        models=dict(key.models),
        completion=feed.completion,
        published_at=feed.time,
        closed_at=feed.due,
        items=len(feed.item_ids),
        seen=counts.pop(SEEN, 0),
        takes=counts.pop(TAKE, 0),
        others=counts,
        outcomes=outcomes,
    )
    encode = _request_to_protobuf if form is Format.PROTOBUF else _encode_json
    value = encode(record)
    if len(value) <= limit_bytes:
        return value
    record.unlisted = len(outcomes)
    record.outcomes = []
    return encode(record)


def decode_request_outcomes(value: bytes | None, headers: Headers | None) -> RequestOutcomes:
    """Read a record of `request-outcomes`. Raises ValueError if it is not one."""
    if _format_of(headers) is Format.PROTOBUF:
        return _request_from_protobuf(value or b"")
    return _decode_request_json(value or b"")


def encode_sums_key(key: SumsKey) -> bytes:
    """The key of a record in `feed-outcomes`. The same key has the same bytes."""
    return _encode_json(
        _Key(
            hour=key.hour * HOUR_MS,
            surface=key.surface,
            arm=key.arm,
            experiment=key.experiment,
            weights=key.weights,
            models=dict(key.models),
        )
    )


def encode_feed_outcomes(
    key: SumsKey, partition: int, closed_until: int, sums: Sums, form: Format
) -> bytes:
    """The record of one key in `feed-outcomes`."""
    numbers = sorted(sums.clusters)
    clusters = [sums.clusters[number] for number in numbers]
    others: dict[str, list[int]] = {}
    scores: dict[str, list[float]] = {}
    for place, cluster in enumerate(clusters):
        for name, count in cluster.others.items():
            others.setdefault(name, [0] * len(clusters))[place] = count
        for objective, score in cluster.scores.items():
            scores.setdefault(objective, [0.0] * len(clusters))[place] = score
    columns = _Clusters(
        cluster=numbers,
        feeds=[cluster.feeds for cluster in clusters],
        deadline_feeds=[cluster.deadline_feeds for cluster in clusters],
        items=[cluster.items for cluster in clusters],
        seen=[cluster.seen for cluster in clusters],
        takes=[cluster.takes for cluster in clusters],
        others=others,
        scores=scores,
    )

    length = max(sums.positions, default=-1) + 1
    positions = _Positions(seen=[0] * length, takes=[0] * length)
    for position, (seen, takes) in sums.positions.items():
        positions.seen[position] = seen
        positions.takes[position] = takes

    record = _FeedOutcomes(
        hour=key.hour * HOUR_MS,
        surface=key.surface,
        arm=key.arm,
        experiment=key.experiment,
        weights=key.weights,
        models=dict(key.models),
        partition=partition,
        closed_until=closed_until,
        feeds=sum(columns.feeds),
        deadline_feeds=sum(columns.deadline_feeds),
        items=sum(columns.items),
        seen=sum(columns.seen),
        takes=sum(columns.takes),
        others={name: sum(column) for name, column in others.items()},
        positions=positions,
        clusters=columns,
    )
    return _sums_to_protobuf(record) if form is Format.PROTOBUF else _encode_json(record)


def decode_feed_outcomes(value: bytes | None, headers: Headers | None) -> FeedOutcomes:
    """Read a record of `feed-outcomes`. Raises ValueError if it is not one."""
    if _format_of(headers) is Format.PROTOBUF:
        wire = _sums_from_protobuf(value or b"")
    else:
        wire = _decode_sums_json(value or b"")

    columns = wire.clusters
    _check_lengths(columns)
    sums = Sums()
    for place, number in enumerate(columns.cluster):
        sums.clusters[number] = ClusterSums(
            feeds=columns.feeds[place],
            deadline_feeds=columns.deadline_feeds[place],
            items=columns.items[place],
            seen=columns.seen[place],
            takes=columns.takes[place],
            others={name: column[place] for name, column in columns.others.items()},
            scores={objective: column[place] for objective, column in columns.scores.items()},
        )
    for position, row in enumerate(zip(wire.positions.seen, wire.positions.takes, strict=True)):
        if any(row):
            sums.positions[position] = list(row)
    return FeedOutcomes(_key_of(wire), wire.partition, wire.closed_until, sums)


def decode_feed_outcomes_head(value: bytes | None, headers: Headers | None) -> FeedOutcomesHead:
    """Read what a record of `feed-outcomes` is about, and not its sums, which costs a tenth.

    Raises ValueError if it is not such a record; what is wrong with its sums may stay unnoticed.
    """
    if _format_of(headers) is Format.PROTOBUF:
        message = _parse_sums(value or b"")
        head = _FeedOutcomesHead(
            hour=message.hour,
            surface=message.surface,
            arm=message.arm,
            experiment=message.experiment or None,
            weights=message.weights,
            models=dict(message.models.items()),
            partition=message.partition,
            closed_until=message.closed_until,
        )
    else:
        head = _decode_head_json(value or b"")
    return FeedOutcomesHead(_key_of(head), head.partition, head.closed_until)


def _key_of(wire: _FeedOutcomes | _FeedOutcomesHead) -> SumsKey:
    return SumsKey(
        hour=wire.hour // HOUR_MS,
        surface=wire.surface,
        arm=wire.arm,
        experiment=wire.experiment,
        weights=wire.weights,
        models=tuple(sorted(wire.models.items())),
    )


def _format_of(headers: Headers | None) -> Format:
    """The format that the headers state, JSON if they state none. Raises ValueError."""
    try:
        return stated_format(headers) or Format.JSON
    except EventRefused as refusal:
        raise ValueError(refusal.message) from None


def _check_lengths(columns: _Clusters) -> None:
    """Raises ValueError if the columns do not have one entry for each cluster."""
    by_name = {
        "feeds": len(columns.feeds),
        "deadline_feeds": len(columns.deadline_feeds),
        "items": len(columns.items),
        "seen": len(columns.seen),
        "takes": len(columns.takes),
    }
    for name, counts in columns.others.items():
        by_name[f"others.{name}"] = len(counts)
    for objective, scores in columns.scores.items():
        by_name[f"scores.{objective}"] = len(scores)

    expected = len(columns.cluster)
    for name, length in by_name.items():
        if length != expected:
            raise ValueError(f"clusters.{name}: got {length} entries, expected {expected}")


# Protobuf


def _request_to_protobuf(record: RequestOutcomes) -> bytes:
    wire = WireRequestOutcomes(
        request_id=record.request_id,
        surface=record.surface,
        user_id=record.user_id,
        arm=record.arm,
        experiment=record.experiment or "",
        weights=record.weights,
        models=record.models,
        completion=record.completion,
        published_at=record.published_at,
        closed_at=record.closed_at,
        items=record.items,
        seen=record.seen,
        takes=record.takes,
        others=record.others,
        unlisted=record.unlisted,
    )
    for item in record.outcomes:
        wire.outcomes.add(item_id=item.item_id, position=item.position, outcomes=item.outcomes)
    return wire.SerializeToString(deterministic=True)


def _request_from_protobuf(value: bytes) -> RequestOutcomes:
    try:
        wire = WireRequestOutcomes.FromString(value)
    except DecodeError as error:
        raise ValueError(f"Protobuf: {error}, expected trimtab.v1.RequestOutcomes") from None
    _check_texts(request_id=wire.request_id, surface=wire.surface, user_id=wire.user_id)

    outcomes: list[ItemOutcome] = []
    for item in wire.outcomes:
        outcomes.append(ItemOutcome(item.item_id, item.position, list(item.outcomes)))
    return RequestOutcomes(
        request_id=wire.request_id,
        surface=wire.surface,
        user_id=wire.user_id,
        arm=wire.arm,
        experiment=wire.experiment or None,
        weights=wire.weights,
        models=dict(sorted(wire.models.items())),
        completion=wire.completion,
        published_at=wire.published_at,
        closed_at=wire.closed_at,
        items=wire.items,
        seen=wire.seen,
        takes=wire.takes,
        others=dict(sorted(wire.others.items())),
        outcomes=outcomes,
        unlisted=wire.unlisted,
    )


def _sums_to_protobuf(record: _FeedOutcomes) -> bytes:
    columns = record.clusters
    clusters = WireFeedOutcomes.Clusters(
        cluster=columns.cluster,
        feeds=columns.feeds,
        deadline_feeds=columns.deadline_feeds,
        items=columns.items,
        seen=columns.seen,
        takes=columns.takes,
    )
    for name, counts in columns.others.items():
        clusters.others[name].values.extend(counts)
    for objective, scores in columns.scores.items():
        clusters.scores[objective].values.extend(scores)

    positions = record.positions
    wire = WireFeedOutcomes(
        hour=record.hour,
        surface=record.surface,
        arm=record.arm,
        experiment=record.experiment or "",
        weights=record.weights,
        models=record.models,
        partition=record.partition,
        closed_until=record.closed_until,
        feeds=record.feeds,
        deadline_feeds=record.deadline_feeds,
        items=record.items,
        seen=record.seen,
        takes=record.takes,
        others=record.others,
        positions=WireFeedOutcomes.Positions(seen=positions.seen, takes=positions.takes),
        clusters=clusters,
    )
    return wire.SerializeToString(deterministic=True)


def _parse_sums(value: bytes) -> WireFeedOutcomes:
    """The message of a record of `feed-outcomes`. Raises ValueError."""
    try:
        wire = WireFeedOutcomes.FromString(value)
    except DecodeError as error:
        raise ValueError(f"Protobuf: {error}, expected trimtab.v1.FeedOutcomes") from None
    _check_texts(surface=wire.surface)
    if not (wire.HasField("positions") and wire.HasField("clusters")):
        raise ValueError("positions, clusters: one is missing, expected both")
    return wire


def _sums_from_protobuf(value: bytes) -> _FeedOutcomes:
    wire = _parse_sums(value)
    clusters = wire.clusters
    others = {name: list(column.values) for name, column in sorted(clusters.others.items())}
    scores = {name: list(column.values) for name, column in sorted(clusters.scores.items())}
    return _FeedOutcomes(
        hour=wire.hour,
        surface=wire.surface,
        arm=wire.arm,
        experiment=wire.experiment or None,
        weights=wire.weights,
        models=dict(sorted(wire.models.items())),
        partition=wire.partition,
        closed_until=wire.closed_until,
        feeds=wire.feeds,
        deadline_feeds=wire.deadline_feeds,
        items=wire.items,
        seen=wire.seen,
        takes=wire.takes,
        others=dict(sorted(wire.others.items())),
        positions=_Positions(list(wire.positions.seen), list(wire.positions.takes)),
        clusters=_Clusters(
            cluster=list(clusters.cluster),
            feeds=list(clusters.feeds),
            deadline_feeds=list(clusters.deadline_feeds),
            items=list(clusters.items),
            seen=list(clusters.seen),
            takes=list(clusters.takes),
            others=others,
            scores=scores,
        ),
    )


def _check_texts(**texts: str) -> None:
    """Raises ValueError if a text is empty: Protobuf reads a record of another kind, or no bytes at
    all, as a message of empty fields.
    """
    for name, text in texts.items():
        if not text:
            raise ValueError(f"{name}: got an empty text, expected at least one character")
