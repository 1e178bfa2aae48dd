"""Diversify: further items of a source that is there already count for less.

In the order of the combined scores, the n-th further item of a source (n = 1, 2, ...) has the
adjustment

    combined * (share - 1)    where  share = floor + (1 - floor) * decay^n

if its combined score is positive, else none: a share of a negative score would raise it. So an
adjustment is never positive. The power is n multiplications, so that every language comes to the
same float64. The form of the share is that of X's author diversity scorer
(https://github.com/xai-org/x-algorithm, home-mixer/scorers).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Sources = tuple[str | None, ...]
"""The source of each candidate; None if it has none."""

DIVERSITY = "diversity"
"""The name of the adjustment."""


@dataclass(frozen=True, slots=True)
class Diversity:
    """`decay` and `floor` are shares, from 0 to 1; with either at 1 nothing changes. Raises
    ValueError.
    """

    decay: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        for key, value in (("decay", self.decay), ("floor", self.floor)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{key}: got {value!r}, expected 0 to 1")

    def adjustment(self, combined: float, power: float) -> float:
        """What comes to a positive combined score, `power` being decay^n: 0 or less."""
        return combined * (self.floor + (1.0 - self.floor) * power - 1.0)


def diversify(
    combined: NDArray[np.float64], ranked: Iterable[int], sources: Sources, diversity: Diversity
) -> NDArray[np.float64]:
    """The adjustments `[candidates]`, 0 where there is none; `ranked` are the indices by combined
    score.
    """
    adjustments, scores = np.zeros_like(combined), combined.tolist()
    powers: dict[str, float] = {}
    for index in ranked:
        source = sources[index]
        if scores[index] <= 0.0:
            break
        if source is None:
            continue
        if source in powers:
            powers[source] *= diversity.decay
            adjustments[index] = diversity.adjustment(scores[index], powers[source])
        else:
            powers[source] = 1.0
    return adjustments
