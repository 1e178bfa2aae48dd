"""Which changes are made, in which order and how far apart: the same for the same seed. Pure."""

import random
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from tests.rig.environment import OBJECTIVES

Texts = Mapping[str, str]
_BURST_EVERY = 60
_BURST = 15
_PAUSES = (0.05, 0.15)


class Kind(StrEnum):
    """How a change is made."""

    WHOLE = "whole"
    TORN = "torn"
    RACE = "two operators"
    NOT_A_NUMBER = "not a number"
    OUT_OF_BOUNDS = "out of bounds"
    UNKNOWN = "unknown objective"
    EMPTY = "empty"


_VALID = {Kind.WHOLE: 70, Kind.TORN: 10, Kind.RACE: 10}
_SHARES = {
    **_VALID,
    Kind.NOT_A_NUMBER: 4,
    Kind.OUT_OF_BOUNDS: 4,
    Kind.UNKNOWN: 3,
    Kind.EMPTY: 3,
}


class Change(NamedTuple):
    """One change: `pause` seconds after the last, with `gap` seconds between its halves if it has
    two.

    `texts` is the set that is written, `others` what the second operator writes.
    """

    kind: Kind
    texts: Texts
    others: Texts
    pause: float
    gap: float


def sets_of(seed: int, count: int) -> Iterator[Texts]:
    """Valid sets, no value twice for one objective: so no two sets are alike, halves of two
    neither.
    """
    draw = random.Random(seed)
    steps = [draw.sample(range(1_000_001), count) for _ in OBJECTIVES]
    for values in zip(*steps, strict=True):
        yield {
            objective: f"{step / 1_000_000:.6f}"
            for objective, step in zip(OBJECTIVES, values, strict=True)
        }


def plan(changes: int, seed: int, sets: Iterator[Texts]) -> list[Change]:
    """About ten changes a second, and of every sixty the last fifteen at once; each kind is among
    the first ones.

    What is refused comes alone: right behind a valid set it would keep workers from ever seeing
    that.
    """
    draw = random.Random(seed)
    return [_change(draw, number, sets) for number in range(changes)]


def _change(draw: random.Random, number: int, sets: Iterator[Texts]) -> Change:
    kinds = list(_SHARES)
    kind = kinds[number] if number < len(kinds) else _drawn(draw, _SHARES)
    pause = draw.uniform(*_PAUSES)
    gap = draw.uniform(0.0, 0.03)
    if number % _BURST_EVERY >= _BURST_EVERY - _BURST:
        kind = _drawn(draw, _VALID)
        pause = 0.0
        gap = 0.0
    return Change(kind, next(sets), next(sets), pause, gap)


def _drawn(draw: random.Random, shares: Mapping[Kind, int]) -> Kind:
    return draw.choices([*shares], weights=[*shares.values()])[0]
