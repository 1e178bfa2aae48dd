"""Feeds made of a few scores."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.builders import request
from workers.ranking.feed import Feed
from workers.ranking.rank import rank
from workers.ranking.weights import Weights

MODELS = {"quality": 1, "engagement": 1}


def mix(quality: float, engagement: float) -> Weights:
    return Weights.of({"quality": quality, "engagement": engagement})


def feed_of(table: Mapping[str, tuple[float, float]], weights: Weights, **changes: Any) -> Feed:
    """The feed of one request whose items have these scores, as a worker ranks it. `sources` names
    them by item.
    """
    if "sources" in changes:
        changes["sources"] = tuple(changes["sources"].get(item_id) for item_id in table)
    scores = np.array(list(table.values()), np.float32).reshape(-1, 2)
    return rank(request(list(table), **changes), scores, weights, MODELS, 5000)
