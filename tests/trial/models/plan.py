"""Which models are swapped, in which order and how far apart: the same for the same seed. Pure."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import cycle
from typing import NamedTuple

from tests.bench.rig import OBJECTIVES

ADDED = "freshness"
_ALTERNATING_FIRST = 2 * len(OBJECTIVES)
_PAUSES = 0.3, 1.3


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

    `version` is what is to score next; of a bad one, what must not; 0 where the objective is
    removed.
    """

    kind: Kind
    objective: str
    version: int
    pause: float
    gap: float


@dataclass
class _Shelf:
    """An objective's versions so far: those that verify, those that were pinned in turn, and the
    last number.
    """

    good: list[int] = field(default_factory=lambda: [1])
    pinned: list[int] = field(default_factory=list)
    last: int = 1

    def copy(self) -> int:
        self.last += 1
        self.good.append(self.last)
        return self.last

    def spoil(self) -> int:
        self.last += 1
        return self.last

    def activate(self, draw: random.Random) -> int:
        """One that is neither the highest nor the lowest: so each rollback has where to go, and
        each is a swap.
        """
        self.pinned.append(draw.choice(self.good[1:-1]))
        return self.pinned[-1]

    def roll_back(self) -> int:
        """To what was pinned before, else to the next lower one."""
        now = self.pinned[-1]
        lower = [version for version in self.good if version < now]
        self.pinned.append(
            next((version for version in reversed(self.pinned) if version != now), lower[-1])
        )
        return self.pinned[-1]


def plan(copies: int, trips: int, seed: int) -> list[Swap]:
    """So many good copies, each kind of bad one, and so many trips: an older version pinned, rolled
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
    shelves = {objective: _Shelf() for objective in OBJECTIVES}
    copying, travelling = cycle(OBJECTIVES), cycle(OBJECTIVES)
    for kind in kinds:
        for one, objective, version in _steps(kind, shelves, copying, travelling, draw):
            yield Swap(one, objective, version, draw.uniform(*_PAUSES), draw.uniform(0.0, 0.3))


def _steps(
    kind: Kind,
    shelves: dict[str, _Shelf],
    copying: Iterator[str],
    travelling: Iterator[str],
    draw: random.Random,
) -> Iterator[tuple[Kind, str, int]]:
    match kind:
        case Kind.ADDED | Kind.REMOVED:
            yield kind, ADDED, int(kind is Kind.ADDED)
        case Kind.COPIED:
            objective = next(copying)
            yield kind, objective, shelves[objective].copy()
        case Kind.ACTIVATED:
            objective = next(travelling)
            shelf = shelves[objective]
            yield kind, objective, shelf.activate(draw)
            yield Kind.ROLLED_BACK, objective, shelf.roll_back()
            yield Kind.LATEST, objective, shelf.good[-1]
        case _:
            objective = draw.choice(OBJECTIVES)
            yield kind, objective, shelves[objective].spoil()
