"""How far a surface thins out further items of one source."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Diversity:
    """The n-th further item of a source keeps `floor + (1 - floor) * decay^n` of what is positive of its score.

    Both are shares, from 0 to 1. Raises ValueError naming the key.
    """

    decay: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        for key, value in (("decay", self.decay), ("floor", self.floor)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"diversity.{key}: got {value!r}, expected 0 to 1")
