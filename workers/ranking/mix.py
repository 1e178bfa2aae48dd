"""The mix of a surface: its weights and pinned models, and those of the arms of its experiment."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
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
    """What one feed is ranked under. `arm` and `experiment`, its phase, are written on the feed."""

    arm: str
    weights: Weights
    pins: Pinned = NO_PINS
    experiment: str | None = None


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
        return self._assignments[arm]

    @cached_property
    def _assignments(self) -> Mapping[str, Assignment]:
        """By arm: all its users share one value."""
        by_arm = {CONTROL: Assignment(CONTROL, self.weights, self.pins, self.phase)}
        for arm, weights in self.arms.items():
            by_arm[arm] = Assignment(arm, weights, self._pins_of(arm), self.phase)
        return by_arm

    @cached_property
    def phase(self) -> str | None:
        """Names a stretch of an experiment in which nothing about it changed: 12 hex digits. None
        if no user is in an arm.

        They are the first of SHA-256 over the JSON of [salt, arms] in ASCII, without spaces and
        with keys in order. For `control` and each arm, `arms` has [hundredths of a percent, weights version,
        pins].
        """
        experiment = self.experiment
        if experiment is None or not experiment.running:
            return None

        arms: dict[str, list[object]] = {
            CONTROL: [experiment.control_share, self.weights.version, dict(self.pins)]
        }
        for arm, share in experiment.shares.items():
            # An arm without users has no weights, but its name decides which users others have.
            weights = self.arms.get(arm)
            version = None if weights is None else weights.version
            arms[arm] = [share, version, dict(self._pins_of(arm))]
        text = json.dumps([experiment.salt, arms], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def _pins_of(self, arm: str) -> Pinned:
        own = self.arm_pins.get(arm)
        return {**self.pins, **own} if own else self.pins
