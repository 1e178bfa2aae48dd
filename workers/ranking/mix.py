"""The mix of a surface: its weights and pinned models, and those of the arms of its experiment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from workers.ranking.experiment import CONTROL, Experiment
from workers.ranking.weights import Weights

Pinned = Mapping[str, int]
"""Objective to the version of its model that is in force. Objectives that are not named use their
highest available version.
"""

NO_PINS: Pinned = {}
_NO_ARMS: Mapping[str, Weights] = {}
_NO_ARM_PINS: Mapping[str, Pinned] = {}


class Assignment(NamedTuple):
    """What one feed is ranked under. `arm` is written on the feed."""

    arm: str
    weights: Weights
    pins: Pinned = NO_PINS


@dataclass(frozen=True)
class Mix:
    """One immutable value, so that a feed is never ranked under parts of two.

    - `arms` has the weights of each arm of the experiment that has users.
    - `arm_pins` has, for each arm, the objectives that it pins to other versions than `pins`.
    """

    weights: Weights
    experiment: Experiment | None = None
    arms: Mapping[str, Weights] = field(default_factory=lambda: _NO_ARMS)
    pins: Pinned = field(default_factory=lambda: NO_PINS)
    arm_pins: Mapping[str, Pinned] = field(default_factory=lambda: _NO_ARM_PINS)

    def assign(self, user_id: str) -> Assignment:
        """The user's arm, with its weights and pins. Without an experiment all users are in
        `control`, which has the surface's own.
        """
        arm = CONTROL if self.experiment is None else self.experiment.assign(user_id)
        if arm == CONTROL:
            return Assignment(arm, self.weights, self.pins)

        pins = self.pins
        if arm in self.arm_pins:
            pins = {**pins, **self.arm_pins[arm]}
        return Assignment(arm, self.arms[arm], pins)
