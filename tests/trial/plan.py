"""Which changes are made, in which order and how far apart: the same for the same seed. Pure."""

import random
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from tests.bench.rig import OBJECTIVES

Texts = Mapping[str, str]
_BURST_EVERY, _BURST = 60, 15
_PAUSES = 0.05, 0.15


class Kind(StrEnum):
    """How a change is made."""

    WHOLE = "whole"
    TORN = "torn"
    RACE = "two operators"
    NOT_A_NUMBER = "not a number"
    OUT_OF_BOUNDS = "out of bounds"
    UNKNOWN = "unknown objective"
    EMPTY = "empty"


_SHARES = {
    Kind.WHOLE: 72,
    Kind.TORN: 10,
    Kind.RACE: 8,
    Kind.NOT_A_NUMBER: 3,
    Kind.OUT_OF_BOUNDS: 3,
    Kind.UNKNOWN: 2,
    Kind.EMPTY: 2,
}


class Change(NamedTuple):
    """One change: `pause` seconds after the last, with `gap` seconds between its halves where it has two.

    `texts` is the set that is written, `others` what the second operator writes.
    """

    kind: Kind
    texts: Texts
    others: Texts
    pause: float
    gap: float


def sets_of(seed: int, count: int) -> Iterator[Texts]:
    """Valid sets, no value twice for one objective: so no two sets are alike, halves of two neither."""
    draw = random.Random(seed)
    steps = [draw.sample(range(1_000_001), count) for _ in OBJECTIVES]
    for values in zip(*steps, strict=True):
        yield {objective: f"{step / 1_000_000:.6f}" for objective, step in zip(OBJECTIVES, values, strict=True)}


def plan(changes: int, seed: int, sets: Iterator[Texts]) -> list[Change]:
    """About ten changes a second, and of every sixty the last fifteen at once; each kind is among the first ones."""
    draw = random.Random(seed)
    kinds = draw.choices([*_SHARES], weights=[*_SHARES.values()], k=changes)
    kinds[: len(_SHARES)] = [*_SHARES][:changes]
    return [
        Change(kind, next(sets), next(sets), *_pauses(draw, in_burst=number % _BURST_EVERY >= _BURST_EVERY - _BURST))
        for number, kind in enumerate(kinds)
    ]


def _pauses(draw: random.Random, in_burst: bool) -> tuple[float, float]:
    pause, gap = draw.uniform(*_PAUSES), draw.uniform(0.0, 0.03)
    return (0.0, 0.0) if in_burst else (pause, gap)
