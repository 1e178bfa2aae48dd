"""What one surface stands on: its weights, its experiment, and the weights of the experiment's arms. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from workers.ranking.experiment import CONTROL, MOST_ARMS, SALT, Experiment, ExperimentRefused, is_arm
from workers.ranking.mix import Mix
from workers.ranking.weights import WeightRules, Weights
from workers.steering.content import NoContent, texts_of
from workers.steering.standing import Applied, Moment, Source, Standing


class Replies(NamedTuple):
    """Redis's replies to HGETALL for the documents of a surface, all of one instant."""

    weights: object
    experiment: object
    arms: Mapping[str, object]


@dataclass(frozen=True)
class SurfaceStanding:
    """`mix` is what feeds are ranked under. The weights always stand on something: at first on the default."""

    weights: Standing[Weights]
    experiment: Standing[Experiment] = field(default_factory=Standing)
    arms: Mapping[str, Standing[Weights]] = field(default_factory=dict)

    @property
    def applied(self) -> Applied[Weights]:
        """The surface's own weights."""
        assert self.weights.applied is not None
        return self.weights.applied

    @property
    def mix(self) -> Mix:
        """The whole of what is in force."""
        experiment = self.experiment.applied
        return Mix(self.applied.value, None if experiment is None else experiment.value, self._armed())

    @property
    def documents(self) -> dict[str, Standing[Weights] | Standing[Experiment]]:
        """All standings, by the documents' names in the history."""
        arms = {document_of(arm): standing for arm, standing in self.arms.items()}
        return {document_of(): self.weights, EXPERIMENT: self.experiment, **arms}

    def arms_to_read(self, experiment: object) -> tuple[str, ...]:
        """The arms whose weights matter: those in force, and those that Redis's reply for the experiment names."""
        return tuple(sorted({*self._arms_in_force(), *_named_arms(experiment)}))

    def judge(self, replies: Replies, rules: WeightRules, moment: Moment) -> "SurfaceStanding":
        """Weigh the replies; returns itself where there is nothing new."""
        weights = self.weights.judge(replies.weights, rules.validate, moment)
        arms = {arm: self.arms[arm] for arm in self._arms_in_force()} | {
            arm: self.arms.get(arm, Standing[Weights]()).judge(reply, rules.validate, moment)
            for arm, reply in replies.arms.items()
        }
        armed = frozenset(arm for arm, standing in arms.items() if standing.applied)

        def read(fields: Mapping[str, str]) -> Experiment:
            return _all_armed(Experiment.read(fields), armed)

        experiment = self.experiment.judge(replies.experiment, read, moment, armed)
        found = SurfaceStanding(weights, experiment, arms)
        return self if _same(self, found) else found

    def _arms_in_force(self) -> tuple[str, ...]:
        applied = self.experiment.applied
        return tuple(arm for arm in applied.value.shares if arm in self.arms) if applied else ()

    def _armed(self) -> dict[str, Weights]:
        return {arm: standing.applied.value for arm, standing in self.arms.items() if standing.applied}


EXPERIMENT = "experiment"
"""The experiment's name in the history."""


def document_of(arm: str | None = None) -> str:
    """The name in the history of a surface's weights, or of an arm's."""
    return "weights" if arm is None else f"weights:{arm}"


def default_standing(rules: WeightRules, now: int) -> SurfaceStanding:
    """What a surface stands on when nothing else is known; `now` in milliseconds since the epoch."""
    return SurfaceStanding(Standing(Applied(rules.default(), Source.DEFAULT, now)))


def _all_armed(experiment: Experiment, armed: frozenset[str]) -> Experiment:
    for arm in experiment.running:
        if arm not in armed:
            raise ExperimentRefused(f"{arm}: has no weights that were ever valid, expected a set before its users")
    return experiment


def _named_arms(reply: object) -> list[str]:
    """The arms that the content of an experiment names, sound or not; none of too many, which are refused unread."""
    try:
        named = [arm for arm in texts_of(reply) if arm not in (SALT, CONTROL)]
    except NoContent:
        return []
    return [name for name in named if is_arm(name)] if len(named) <= MOST_ARMS else []


def _same(one: SurfaceStanding, other: SurfaceStanding) -> bool:
    """Whether each document stands as it stood: the same objects."""
    before, after = one.documents, other.documents
    return before.keys() == after.keys() and all(before[name] is after[name] for name in before)
