"""The mix of a surface: its weights and those of an experiment's arms. What a feed is ranked under is drawn of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from workers.ranking.experiment import CONTROL, Experiment
from workers.ranking.weights import Weights

_NO_ARMS: Mapping[str, Weights] = {}


class Drawn(NamedTuple):
    """What one feed is ranked under, and the arm that it is stamped with."""

    arm: str
    weights: Weights


@dataclass(frozen=True)
class Mix:
    """One immutable whole. `arms` has a set for every arm of the experiment that has users."""

    weights: Weights
    experiment: Experiment | None = None
    arms: Mapping[str, Weights] = field(default_factory=lambda: _NO_ARMS)

    def draw(self, user_id: str) -> Drawn:
        """The user's arm and its weights; `control` and the surface's without an experiment."""
        arm = CONTROL if self.experiment is None else self.experiment.draw(user_id)
        return Drawn(arm, self.weights if arm == CONTROL else self.arms[arm])
