"""What the join publishes, in JSON: `request-outcomes` and `feed-outcomes`.

A record of `request-outcomes` is final: one for each feed, when its window has closed. A record of
`feed-outcomes` holds absolute sums: the latest of a key and a partition counts.
"""

import sys
from typing import NamedTuple

import msgspec
from msgspec import Struct

from workers.codec.formats import Headers
from workers.outcomes.records import HOUR_MS, ClosedFeed, SumsKey
from workers.outcomes.sums import ClusterSums, Sums
from workers.ranking.outcome_rules import SEEN, TAKE

OUTCOME_HEADERS: Headers = [("content-type", b"application/json")]


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


class FeedOutcomes(NamedTuple):
    """The sums of one key in one partition. `closed_until` (ms): every feed that was published
    before this time is in the sums of its key.
    """

    key: SumsKey
    partition: int
    closed_until: int
    sums: Sums


_encode = msgspec.json.Encoder().encode
_decode_request_outcomes = msgspec.json.Decoder(RequestOutcomes).decode
_decode_feed_outcomes = msgspec.json.Decoder(_FeedOutcomes).decode


def encode_request_outcomes(feed: ClosedFeed, limit_bytes: int = sys.maxsize) -> bytes:
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
    value = _encode(record)
    if len(value) <= limit_bytes:
        return value
    record.unlisted = len(outcomes)
    record.outcomes = []
    return _encode(record)


def decode_request_outcomes(value: bytes | None) -> RequestOutcomes:
    """Read a record of `request-outcomes`. Raises ValueError if it is none."""
    return _decode_request_outcomes(value or b"")


def encode_sums_key(key: SumsKey) -> bytes:
    """The key of a record in `feed-outcomes`. The same key has the same bytes."""
    return _encode(
        _Key(
            hour=key.hour * HOUR_MS,
            surface=key.surface,
            arm=key.arm,
            experiment=key.experiment,
            weights=key.weights,
            models=dict(key.models),
        )
    )


def encode_feed_outcomes(key: SumsKey, partition: int, closed_until: int, sums: Sums) -> bytes:
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

    return _encode(
        _FeedOutcomes(
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
    )


def decode_feed_outcomes(value: bytes | None) -> FeedOutcomes:
    """Read a record of `feed-outcomes`. Raises ValueError if it is none."""
    wire = _decode_feed_outcomes(value or b"")
    columns = wire.clusters
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
    key = SumsKey(
        hour=wire.hour // HOUR_MS,
        surface=wire.surface,
        arm=wire.arm,
        experiment=wire.experiment,
        weights=wire.weights,
        models=tuple(sorted(wire.models.items())),
    )
    return FeedOutcomes(key, wire.partition, wire.closed_until, sums)
