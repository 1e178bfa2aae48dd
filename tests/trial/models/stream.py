"""A feed as it is needed to judge which models scored it."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.trial.models.owner import WEIGHTS
from tests.trial.stream import is_sound, request_of
from workers.streaming.records import Fetched


class FeedScored(NamedTuple):
    """A feed: its request, where it lies, when the broker appended it and when it was ranked (ms),
    and by what.

    `scores` of each objective are in the order in which the candidates were sent; none where the
    record is not sound.
    """

    request: int
    partition: int
    appended: int
    ranked_at: int
    models: Mapping[str, int]
    scores: Mapping[str, list[float]]
    sound: bool


def see_scored(message: Fetched, candidates: int) -> FeedScored:
    """A feed that is readable now."""
    feed, request = json.loads(message.value() or b""), request_of(message)
    models: dict[str, int] = feed["models"]
    sound = is_sound(feed, request, candidates) and _is_weighted(feed)
    return FeedScored(
        request=request,
        partition=message.partition(),
        appended=message.timestamp()[1],
        ranked_at=feed["ranked_at"],
        models=models,
        scores={objective: _scores(feed, objective) for objective in models} if sound else {},
        sound=sound,
    )


def _is_weighted(feed: Mapping[str, Any]) -> bool:
    """Whether a feed names one version of each objective that has a weight, and all weights are the
    owner's.
    """
    weights: Mapping[str, float] = feed["weights"]["values"]
    return list(feed["models"]) == list(weights) and all(
        WEIGHTS[one] == weights[one] for one in weights
    )


def _scores(feed: Mapping[str, Any], objective: str) -> list[float]:
    items = sorted(feed["items"], key=lambda item: item["item_id"])
    return [item["scores"][objective] for item in items]
