"""Counts from sums: how many items were seen and taken, by arm, weights, model, position or hour."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from workers.outcomes.records import SumsKey
from workers.outcomes.statistics import Interval, wilson_interval
from workers.outcomes.sums import POSITIONS, Sums

Label = str | int
"""What a row counts: an arm, a version, a position, or an hour since the epoch."""


class GroupBy(StrEnum):
    """What rows are made by."""

    ARM = "arm"
    WEIGHTS = "weights"
    MODEL = "model"
    POSITION = "position"
    HOUR = "hour"


@dataclass
class OutcomeCounts:
    """Counts of one row. By position there are no feeds and no other outcomes: these are 0."""

    label: Label
    feeds: int = 0
    items: int = 0
    seen: int = 0
    takes: int = 0
    others: dict[str, int] = field(default_factory=dict)

    @property
    def take_rate(self) -> float | None:
        """Takes divided by items seen. None if no item was seen."""
        return self.takes / self.seen if self.seen else None

    @property
    def interval(self) -> Interval | None:
        """The 95 % Wilson interval of the take-rate. None if no item was seen."""
        return wilson_interval(self.takes, self.seen) if self.seen else None


def count_by(group_by: GroupBy, sums: Iterable[tuple[SumsKey, Sums]]) -> list[OutcomeCounts]:
    """Add up sums of one surface. The rows are in the order of their labels.

    A feed that several models scored counts once for each of them, so rows by model overlap.
    """
    rows: dict[Label, OutcomeCounts] = {}
    for key, of_key in sums:
        if group_by is GroupBy.POSITION:
            for position, (seen, takes) in of_key.positions.items():
                row = rows.setdefault(position, OutcomeCounts(position))
                row.seen += seen
                row.takes += takes
            continue
        for label in _labels(group_by, key):
            _add(rows.setdefault(label, OutcomeCounts(label)), of_key)
    return sorted(rows.values(), key=lambda row: row.label)


def position_label(position: int) -> str:
    """How a position is shown: the last row holds all positions from there on."""
    return f"{position}+" if position == POSITIONS else str(position)


def _labels(group_by: GroupBy, key: SumsKey) -> list[Label]:
    match group_by:
        case GroupBy.ARM:
            return [key.arm]
        case GroupBy.WEIGHTS:
            return [key.weights]
        case GroupBy.MODEL:
            return [f"{objective}:{version}" for objective, version in key.models]
        case GroupBy.HOUR:
            return [key.hour]
        case GroupBy.POSITION:
            return []


def _add(row: OutcomeCounts, sums: Sums) -> None:
    for cluster in sums.clusters.values():
        row.feeds += cluster.feeds
        row.items += cluster.items
        row.seen += cluster.seen
        row.takes += cluster.takes
        for name, count in cluster.others.items():
            row.others[name] = row.others.get(name, 0) + count
