"""Which models are swapped, in which order and how far apart: the same for the same seed. Pure."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import cycle
from typing import NamedTuple

from tests.rig.environment import OBJECTIVES

ADDED = "freshness"
_ALTERNATING_FIRST = 2 * len(OBJECTIVES)
_PAUSES = (0.3, 1.3)


class Kind(StrEnum):
    """What is done to an objective's models; the bad ones say what is wrong with the version that
    is copied.
    """

    COPIED = "copied"
    ACTIVATED = "activated"
    ROLLED_BACK = "rolled back"
    LATEST = "latest again"
    ADDED = "objective added"
    REMOVED = "objective removed"
    WRONG_HASH = "wrong hash"
    WRONG_SHAPE = "wrong shape"
    GOLDEN_OFF = "golden rows off"
    CUT = "cut in half"
    REORDERED = "feature order changed"


REASONS = {
    Kind.WRONG_HASH: "hash",
    Kind.WRONG_SHAPE: "shape",
    Kind.GOLDEN_OFF: "golden",
    Kind.CUT: "hash",
    Kind.REORDERED: "features",
}
"""What a bad version must be refused for."""


class Swap(NamedTuple):
    """One swap: `pause` seconds after the last, with `gap` seconds between a copied file and its
    manifest.

    `version` must score next. That of a bad one must not. It is 0 if the objective is removed.
    """

    kind: Kind
    objective: str
    version: int
    pause: float
    gap: float


@dataclass
class _Versions:
    """An objective's versions by now: those that verify, those that were pinned in turn, and the last
    number.
    """

    good: list[int] = field(default_factory=lambda: [1])
    pinned: list[int] = field(default_factory=list)
    last: int = 1

    def copy(self) -> int:
        self.last += 1
        self.good.append(self.last)
        return self.last

    def add_bad(self) -> int:
        self.last += 1
        return self.last

    def activate(self, draw: random.Random) -> int:
        """Pin one that is neither the highest nor the lowest, so that each rollback has a version to
        go to, and each is a swap.
        """
        self.pinned.append(draw.choice(self.good[1:-1]))
        return self.pinned[-1]

    def roll_back(self) -> int:
        """To what was pinned before, else to the next lower one."""
        pinned = self.pinned[-1]
        before = [version for version in self.pinned if version != pinned]
        lower = [version for version in self.good if version < pinned]
        self.pinned.append(before[-1] if before else lower[-1])
        return self.pinned[-1]


def plan(copies: int, trips: int, seed: int) -> list[Swap]:
    """`copies` good copies, each kind of bad one, and `trips` trips: an older version pinned, rolled
    back, latest again.

    Copies and trips come to both objectives in turn, and two copies to each before anything else.
    In the middle third there is one objective more.
    """
    draw = random.Random(seed)
    others = [Kind.COPIED] * (copies - _ALTERNATING_FIRST) + [*REASONS] + [Kind.ACTIVATED] * trips
    draw.shuffle(others)
    kinds = [Kind.COPIED] * _ALTERNATING_FIRST + others
    kinds.insert(len(kinds) // 3, Kind.ADDED)
    kinds.insert(len(kinds) * 2 // 3, Kind.REMOVED)
    return list(_swaps(kinds, draw))


def _swaps(kinds: list[Kind], draw: random.Random) -> Iterator[Swap]:
    versions = {objective: _Versions() for objective in OBJECTIVES}
    copying = cycle(OBJECTIVES)
    travelling = cycle(OBJECTIVES)
    for kind in kinds:
        for one, objective, version in _steps(kind, versions, copying, travelling, draw):
            yield Swap(one, objective, version, draw.uniform(*_PAUSES), draw.uniform(0.0, 0.3))


def _steps(
    kind: Kind,
    versions: dict[str, _Versions],
    copying: Iterator[str],
    travelling: Iterator[str],
    draw: random.Random,
) -> Iterator[tuple[Kind, str, int]]:
    match kind:
        case Kind.ADDED | Kind.REMOVED:
            yield kind, ADDED, int(kind is Kind.ADDED)
        case Kind.COPIED:
            objective = next(copying)
            yield kind, objective, versions[objective].copy()
        case Kind.ACTIVATED:
            objective = next(travelling)
            own = versions[objective]
            yield kind, objective, own.activate(draw)
            yield Kind.ROLLED_BACK, objective, own.roll_back()
            yield Kind.LATEST, objective, own.good[-1]
        case _:
            objective = draw.choice(OBJECTIVES)
            yield kind, objective, versions[objective].add_bad()
