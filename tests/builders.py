"""Small, valid values to start a test from."""

from collections.abc import Sequence
from typing import Any

from workers.ranking.features import FeatureSet
from workers.ranking.refusal import CandidateReason, RefusedCandidate
from workers.ranking.request import Completion, Event, Request
from workers.ranking.surface import Surface
from workers.ranking.weights import WeightRules

PAIR = FeatureSet("pair", ("a", "b"))


def surface(name: str = "home", **changes: Any) -> Surface:
    rules = WeightRules(
        {"quality": 0.5, "engagement": 0.5}, {"quality": (0.0, 1.0), "engagement": (0.0, 1.0)}
    )
    values: dict[str, Any] = {
        "feature_set": PAIR,
        "objectives": ("quality", "engagement"),
        "weight_rules": rules,
        "deadline_ms": 2000,
        "horizon_ms": 30_000,
        "max_candidates": 1000,
    }
    return Surface(name, **(values | changes))


HOME = surface()


def rows(*item_ids: str) -> bytes:
    """Features of items, as they are joined in an event or a request."""
    return b"".join(PAIR.pack_positional([float(len(item_id)), 1.0]) for item_id in item_ids)


def refused(identity: str | bytes, place: int = 0) -> RefusedCandidate:
    return RefusedCandidate(
        place, identity, CandidateReason.FEATURE_COUNT, "features: got 1 numbers, expected 2"
    )


def event(request_id: str = "r", *item_ids: str, **changes: Any) -> Event:
    values: dict[str, Any] = {
        "surface": HOME,
        "user_id": "u",
        "requested_at": 1000,
        "expected": None,
        "last": False,
        "item_ids": list(item_ids),
        "sources": [None for _ in item_ids],
        "rows": rows(*item_ids),
        "refused": (),
    }
    return Event(request_id, **(values | changes))


def request(item_ids: Sequence[str], **changes: Any) -> Request:
    values: dict[str, Any] = {
        "request_id": "r",
        "surface": HOME,
        "user_id": "u",
        "requested_at": 1000,
        "sources": tuple(None for _ in item_ids),
        "rows": rows(*item_ids),
        "completion": Completion.FULL,
        "refused": 0,
        "first_offset": 0,
        "opened_at": -1,
    }
    return Request(item_ids=tuple(item_ids), **(values | changes))
