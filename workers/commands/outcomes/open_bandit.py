"""The Open Bandit sample as feed records and interactions.

- An impression is a feed of one item, which keeps its position: 1 to 3 become 0 to 2.
- The campaign is the surface and the policy is the arm.
- Each row is its own user. The published hash of an experiment, half and half, must give the user
  the arm of the row. So the id gets a number behind it until it does.
- An impression is seen, and a click is a take.
"""

import csv
import gzip
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import resources
from io import TextIOWrapper
from itertools import count
from typing import NamedTuple

from workers.outcomes.records import FeedRecord, Interaction
from workers.ranking.experiment import BUCKETS, Experiment
from workers.ranking.mix import Mix
from workers.ranking.request import Completion
from workers.ranking.weights import Weights

CAMPAIGNS = ("all", "men", "women")
POLICIES = ("random", "bts")
WINDOW_S = 5
"""How long the replayed feeds are open, in seconds."""

_FILE = "data/open_bandit_sample.csv.gz"
_OBJECTIVE = "click"
_WEIGHTS = Weights.of({_OBJECTIVE: 1.0})
EXPERIMENT = Experiment("open-bandit", dict.fromkeys(POLICIES, BUCKETS // len(POLICIES)))
"""Its salt is `open-bandit`, and each policy has half of the users."""
_PHASE = Mix(_WEIGHTS, EXPERIMENT, arms=dict.fromkeys(POLICIES, _WEIGHTS)).phase


class Impression(NamedTuple):
    """An item that was shown. `row` counts the rows of the file from 1, `position` from 0."""

    row: int
    campaign: str
    policy: str
    item_id: str
    position: int
    is_clicked: bool


class ArmCount(NamedTuple):
    """What the file says about one policy on one campaign."""

    seen: int
    clicks: int


def read_impressions() -> Iterator[Impression]:
    """The impressions in the order of the file, which is part of this package."""
    file = resources.files(__package__).joinpath(_FILE)
    with file.open("rb") as packed, gzip.open(packed) as unpacked:
        rows = csv.DictReader(TextIOWrapper(unpacked, encoding="utf-8", newline=""))
        for number, row in enumerate(rows, 1):
            yield Impression(
                row=number,
                campaign=row["campaign"],
                policy=row["policy"],
                item_id=row["item_id"],
                position=int(row["position"]) - 1,
                is_clicked=row["click"] == "1",
            )


def count_directly(impressions: Iterable[Impression]) -> dict[tuple[str, str], ArmCount]:
    """By campaign and policy: impressions and clicks, counted without any join."""
    seen: Counter[tuple[str, str]] = Counter()
    clicks: Counter[tuple[str, str]] = Counter()
    for impression in impressions:
        place = (impression.campaign, impression.policy)
        seen[place] += 1
        clicks[place] += impression.is_clicked
    return {place: ArmCount(seen[place], clicks[place]) for place in seen}


def user_of(impression: Impression) -> str:
    """The id of the impression's user."""
    user_id = f"row-{impression.row}"
    for number in count(1):
        if EXPERIMENT.assign(user_id) == impression.policy:
            break
        user_id = f"row-{impression.row}-{number}"
    return user_id


def feed_of(impression: Impression) -> FeedRecord:
    """The impression as the record of a feed. No model scored it."""
    return FeedRecord(
        request_id=f"open-bandit-{impression.row}",
        surface=impression.campaign,
        user_id=user_of(impression),
        arm=impression.policy,
        experiment=_PHASE,
        weights=_WEIGHTS.version,
        models={},
        completion=Completion.FULL,
        window_s=WINDOW_S,
        item_ids=(impression.item_id,),
        score_sums={},
        first_position=impression.position,
    )


def interactions_of(impression: Impression, feed: FeedRecord, at: int) -> list[Interaction]:
    """What the reader of the feed did `at` this time (ms since the epoch)."""
    view = Interaction(
        request_id=feed.request_id,
        surface=feed.surface,
        user_id=feed.user_id,
        item_id=impression.item_id,
        kind="view",
        value=None,
        at=at,
    )
    if not impression.is_clicked:
        return [view]
    return [view, view._replace(kind="click")]


def surfaces_toml() -> str:
    """The surfaces as a file. Nothing is ranked on them."""
    lines = ["[feature_sets.none]", 'names = ["position"]']
    for campaign in CAMPAIGNS:
        lines += [
            "",
            f"[surfaces.{campaign}]",
            'feature_set = "none"',
            f'objectives = ["{_OBJECTIVE}"]',
            f"weights = {{ {_OBJECTIVE} = 1.0 }}",
            f"[surfaces.{campaign}.outcomes]",
            f"window_s = {WINDOW_S}",
            'seen = { kind = "view" }',
            'take = { kind = "click" }',
        ]
    return "\n".join([*lines, ""])
