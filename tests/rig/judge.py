"""What must hold of everything that was sent and everything that came of it.

- Lost: a request without a feed.
- Doubled: a request with more than one feed.
- Wrong: a feed that is not the one that the oracle computes.

`count` serves every kind of output; a new kind needs a `check_` function of its own beside it.
"""

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from hashlib import sha256
from typing import Any, Generic, NamedTuple, TypeVar

from tests.rig.environment import Environment
from tests.rig.oracle import Oracle
from tests.rig.traffic import RequestStream

Key = TypeVar("Key", bound=Hashable)


class Count(NamedTuple, Generic[Key]):
    """The keys without an output, and those with more than one; `extra` outputs are too many."""

    lost: list[Key]
    doubled: list[Key]
    extra: int


def count(expected: Iterable[Key], outputs: Iterable[Key]) -> Count[Key]:
    """Compare the keys of what was sent with the keys of what came, each to be there once."""
    times = Counter(outputs)
    lost = [key for key in expected if key not in times]
    doubled = [key for key, number in times.items() if number > 1]
    extra = sum(number - 1 for number in times.values())
    return Count(lost, doubled, extra)


def check_stream(env: Environment, stream: RequestStream) -> None:
    """Every request of a stream has one feed, which is the oracle's. Every event that must be
    refused is one dead letter.
    """
    feeds = env.read_feeds(len(stream), settle=3.0)
    found = count(stream.sent, (feed["request_id"] for feed in feeds))
    assert found.doubled == []
    assert found.lost == [], "\n".join(["lost", *(process.logged() for process in env.processes)])

    oracle = Oracle(env.folder / "models")
    for feed in feeds:
        oracle.check(feed, stream.sent[feed["request_id"]], completion="full")

    letters = env.read_letters(stream.refused)
    values = Counter(letter.value for letter in letters)
    why = Counter(letter.reason for letter in letters)
    assert len(values) == stream.refused, f"{len(values)} letters of {stream.refused}: {why}"
    assert set(values.values()) == {1}


def is_whole(feed: Mapping[str, Any], request: int, candidates: int) -> bool:
    """Whether a feed of a load holds all items of its request, in order, each with the final score
    that its own scores and weights give.
    """
    items = feed["items"]
    weights = feed["weights"]["values"]
    expected_ids = {f"item-{request:06d}-{place:02d}" for place in range(candidates)}
    order = [(-item["final_score"], item["item_id"].encode()) for item in items]
    return (
        feed["request_id"] == f"request-{request:06d}"
        and feed["completion"] == "full"
        and {item["item_id"] for item in items} == expected_ids
        and [item["position"] for item in items] == list(range(candidates))
        and order == sorted(order)
        and feed["weights"]["version"] == weights_version(weights)
        and all(item["final_score"] == _weighted_sum(item["scores"], weights) for item in items)
    )


def weights_version(weights: Mapping[str, float]) -> str:
    """The version of a set of weights, computed apart from the workers' code."""
    values = {objective: weight + 0.0 for objective, weight in weights.items()}  # no -0.0
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:12]


def _weighted_sum(scores: Mapping[str, float], weights: Mapping[str, float]) -> float:
    total = 0.0
    for objective, weight in weights.items():
        total += weight * scores[objective]
    return total
