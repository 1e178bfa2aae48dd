"""The mix of a surface: its weights and pinned models, and those of an experiment's arms.

What a feed is ranked under is drawn of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from workers.ranking.experiment import CONTROL, Experiment
from workers.ranking.weights import Weights

_NO_ARMS: Mapping[str, Weights] = {}

Pinned = Mapping[str, int]
"""Objective to the version of its model that is in force; the highest available one for those that
are not named.
"""

NO_PINS: Pinned = {}
_NO_ARM_PINS: Mapping[str, Pinned] = {}


class Assignment(NamedTuple):
    """What one feed is ranked under, and the arm that it is stamped with."""

    arm: str
    weights: Weights
    pins: Pinned = NO_PINS


@dataclass(frozen=True)
class Mix:
    """One immutable whole. `arms` has a set for every arm of the experiment that has users.

    `arm_pins` has the objectives whose models an arm pins otherwise than the surface's own `pins`.
    """

    weights: Weights
    experiment: Experiment | None = None
    arms: Mapping[str, Weights] = field(default_factory=lambda: _NO_ARMS)
    pins: Pinned = field(default_factory=lambda: NO_PINS)
    arm_pins: Mapping[str, Pinned] = field(default_factory=lambda: _NO_ARM_PINS)

    def assign(self, user_id: str) -> Assignment:
        """The user's arm, its weights and its models; `control` and the surface's own without an
        experiment.
        """
        arm = CONTROL if self.experiment is None else self.experiment.assign(user_id)
        if arm == CONTROL:
            return Assignment(arm, self.weights, self.pins)
        others = self.arm_pins.get(arm)
        return Assignment(arm, self.arms[arm], {**self.pins, **others} if others else self.pins)
