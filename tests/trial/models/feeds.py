"""A feed as it is needed to judge which models scored it."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.rig.judge import is_whole
from tests.rig.traffic import request_number
from tests.trial.models.owner import WEIGHTS
from workers.streaming.records import Fetched


class FeedScored(NamedTuple):
    """A feed: the number of its request, its partition, when the broker appended it and when it was
    ranked (ms), and the version of each objective's model.

    `scores` of each objective are in the order in which the candidates were sent. There are none if
    the record is not whole.
    """

    request: int
    partition: int
    appended: int
    ranked_at: int
    models: Mapping[str, int]
    scores: Mapping[str, list[float]]
    whole: bool


def see_scored(message: Fetched, candidates: int) -> FeedScored:
    """A feed that is readable now."""
    feed = json.loads(message.value() or b"")
    request = request_number(message.key())
    models: dict[str, int] = feed["models"]
    whole = is_whole(feed, request, candidates) and _has_owners_weights(feed)
    return FeedScored(
        request=request,
        partition=message.partition(),
        appended=message.timestamp()[1],
        ranked_at=feed["ranked_at"],
        models=models,
        scores={objective: _scores(feed, objective) for objective in models} if whole else {},
        whole=whole,
    )


def _has_owners_weights(feed: Mapping[str, Any]) -> bool:
    """Whether it names one version for each objective with a weight, and all weights are the
    owner's.
    """
    weights: Mapping[str, float] = feed["weights"]["values"]
    if list(feed["models"]) != list(weights):
        return False
    return all(WEIGHTS[objective] == weight for objective, weight in weights.items())


def _scores(feed: Mapping[str, Any], objective: str) -> list[float]:
    items = sorted(feed["items"], key=lambda item: item["item_id"])
    return [item["scores"][objective] for item in items]
