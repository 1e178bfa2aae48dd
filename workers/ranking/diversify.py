"""Diversity: further items of a source count for less.

Items are visited in the order of their combined scores. The n-th further item of a source
(n = 1, 2, ...) gets the adjustment

    combined * (share - 1)    where  share = floor + (1 - floor) * decay^n

- Only positive combined scores are adjusted. A share of a negative score would raise it. So an
  adjustment is never positive.
- The power is computed by n multiplications, so that every language gets the same float64.
- The form of the share is that of X's author diversity scorer
  (https://github.com/xai-org/x-algorithm, home-mixer/scorers).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Sources = tuple[str | None, ...]
"""The source of each candidate. None if it has none."""

DIVERSITY = "diversity"
"""The name of the adjustment."""


@dataclass(frozen=True, slots=True)
class Diversity:
    """`decay` and `floor` are shares from 0 to 1. If either is 1, nothing changes. Raises
    ValueError.
    """

    decay: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        for key, value in (("decay", self.decay), ("floor", self.floor)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{key}: got {value!r}, expected 0 to 1")

    def adjustment(self, combined: float, power: float) -> float:
        """The adjustment, 0 or less, of a positive combined score. `power` is decay^n."""
        return combined * (self.floor + (1.0 - self.floor) * power - 1.0)


def diversify(
    combined: NDArray[np.float64], order: Iterable[int], sources: Sources, diversity: Diversity
) -> NDArray[np.float64]:
    """The adjustments `[candidates]`. 0 if an item has none. `order` are indices by combined score,
    best first.
    """
    adjustments = np.zeros_like(combined)
    scores = combined.tolist()
    # By source: decay^n, where n counts the items of the source so far without the first.
    powers: dict[str, float] = {}
    for index in order:
        if scores[index] <= 0.0:
            break
        source = sources[index]
        if source is None:
            continue
        if source not in powers:
            powers[source] = 1.0
            continue

        powers[source] *= diversity.decay
        adjustments[index] = diversity.adjustment(scores[index], powers[source])
    return adjustments
