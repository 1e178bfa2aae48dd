"""What one surface stands on: its weights and models, its experiment, and both for each arm of
that. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from workers.ranking.experiment import (
    CONTROL,
    MAX_ARMS,
    SALT,
    Experiment,
    ExperimentRefused,
    is_arm_name,
)
from workers.ranking.mix import Mix
from workers.ranking.pins import AvailableModels, Pins
from workers.ranking.surface import Surface
from workers.ranking.weights import Weights
from workers.steering.content import NoContent, texts_of
from workers.steering.document_state import Applied, DocumentState, Moment, Source

AnyStanding = DocumentState[Weights] | DocumentState[Experiment] | DocumentState[Pins]

EXPERIMENT: Final = "experiment"
"""The experiment's name in the history."""


class ArmReplies(NamedTuple):
    """Redis's replies to HGETALL for the two documents of an arm, or of the surface itself."""

    weights: object
    models: object


class Replies(NamedTuple):
    """Redis's replies to HGETALL for the documents of a surface, all of one instant."""

    own: ArmReplies
    experiment: object
    arms: Mapping[str, ArmReplies]


@dataclass(frozen=True)
class ArmStanding:
    """The weights and the models of an arm, or of the surface itself."""

    weights: DocumentState[Weights] = field(default_factory=DocumentState)
    models: DocumentState[Pins] = field(default_factory=DocumentState)

    def judge(
        self, replies: ArmReplies, surface: Surface, available: AvailableModels, moment: Moment
    ) -> "ArmStanding":
        """Weigh the replies; each anew, too, where other models are available."""

        def weights(fields: Mapping[str, str]) -> Weights:
            return surface.weight_rules.with_added(available.added(surface)).validate(fields)

        def pins(fields: Mapping[str, str]) -> Pins:
            return Pins.read(fields, surface, available)

        return ArmStanding(
            self.weights.judge(replies.weights, weights, moment, available),
            self.models.judge(replies.models, pins, moment, available),
        )


@dataclass(frozen=True)
class SurfaceState:
    """`mix` is what feeds are ranked under. The surface's own weights always stand on something:
    first the default.
    """

    own: ArmStanding
    experiment: DocumentState[Experiment] = field(default_factory=DocumentState)
    arms: Mapping[str, ArmStanding] = field(default_factory=dict)

    @property
    def applied(self) -> Applied[Weights]:
        """The surface's own weights."""
        assert self.own.weights.applied is not None
        return self.own.weights.applied

    @property
    def mix(self) -> Mix:
        """The whole of what is in force."""
        experiment, own = self.experiment.applied, self.own.models.applied
        armed = {
            arm: one.weights.applied.value for arm, one in self.arms.items() if one.weights.applied
        }
        pinned = {
            arm: one.models.applied.value.pinned
            for arm, one in self.arms.items()
            if one.models.applied
        }
        pins = {} if own is None else own.value.pinned
        return Mix(
            self.applied.value,
            None if experiment is None else experiment.value,
            armed,
            pins,
            pinned,
        )

    @property
    def documents(self) -> dict[str, AnyStanding]:
        """All standings, by the documents' names in the history."""
        of_arms = [(None, self.own), *self.arms.items()]
        weights = {document_of(arm): one.weights for arm, one in of_arms}
        models = {models_of(arm): one.models for arm, one in of_arms}
        return {**weights, EXPERIMENT: self.experiment, **models}

    def arms_to_read(self, experiment: object) -> tuple[str, ...]:
        """The arms whose documents matter: those in force, and those that Redis's reply for the
        experiment names.
        """
        return tuple(sorted({*self._arms_in_force(), *_named_arms(experiment)}))

    def is_news(self, before: "SurfaceState") -> bool:
        """Whether a document is applied or refused that was not before, or is not there any more."""
        was, now = before.documents, self.documents
        return was.keys() != now.keys() or any(_differs(was[name], now[name]) for name in now)

    def judge(
        self, replies: Replies, surface: Surface, available: AvailableModels, moment: Moment
    ) -> "SurfaceState":
        """Weigh the replies; returns itself where they were weighed already."""
        own = self.own.judge(replies.own, surface, available, moment)
        arms = {arm: self.arms[arm] for arm in self._arms_in_force()} | {
            arm: self.arms.get(arm, ArmStanding()).judge(reply, surface, available, moment)
            for arm, reply in replies.arms.items()
        }
        armed = frozenset(arm for arm, standing in arms.items() if standing.weights.applied)

        def read(fields: Mapping[str, str]) -> Experiment:
            return _all_armed(Experiment.read(fields), armed)

        experiment = self.experiment.judge(replies.experiment, read, moment, armed)
        found = SurfaceState(own, experiment, arms)
        return self if _same(self, found) else found

    def _arms_in_force(self) -> tuple[str, ...]:
        applied = self.experiment.applied
        return tuple(arm for arm in applied.value.shares if arm in self.arms) if applied else ()


def document_of(arm: str | None = None) -> str:
    """The name in the history of a surface's weights, or of an arm's."""
    return "weights" if arm is None else f"weights:{arm}"


def models_of(arm: str | None = None) -> str:
    """The name in the history of a surface's models, or of an arm's."""
    return "models" if arm is None else f"models:{arm}"


def default_standing(surface: Surface, now: int) -> SurfaceState:
    """What a surface stands on when nothing else is known; `now` in milliseconds since the epoch."""
    return SurfaceState(
        ArmStanding(DocumentState(Applied(surface.weight_rules.default(), Source.DEFAULT, now)))
    )


def _all_armed(experiment: Experiment, armed: frozenset[str]) -> Experiment:
    for arm in experiment.running:
        if arm not in armed:
            raise ExperimentRefused(
                f"{arm}: has no weights that were ever valid, expected a set before its users"
            )
    return experiment


def _named_arms(reply: object) -> list[str]:
    """The arms that the content of an experiment names, sound or not; none of too many, which are
    refused unread.
    """
    try:
        named = [arm for arm in texts_of(reply) if arm not in (SALT, CONTROL)]
    except NoContent:
        return []
    return [name for name in named if is_arm_name(name)] if len(named) <= MAX_ARMS else []


def _differs(one: AnyStanding, other: AnyStanding) -> bool:
    return one.applied is not other.applied or one.refused is not other.refused


def _same(one: SurfaceState, other: SurfaceState) -> bool:
    """Whether each document stands as it stood: the same objects."""
    before, after = one.documents, other.documents
    return before.keys() == after.keys() and all(before[name] is after[name] for name in before)
