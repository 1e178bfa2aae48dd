"""The kinds of steering documents: one table, a row each.

A steering document is a hash in Redis that says one thing about a surface. Some kinds exist once
for a surface, others also once for each arm of its experiment:

| kind       | Redis key                         | each arm too | value      |
|------------|-----------------------------------|--------------|------------|
| WEIGHTS    | weights:{surface}[:{arm}]         | yes          | Weights    |
| MODELS     | models:{surface}[:{arm}]          | yes          | Pins       |
| EXPERIMENT | experiment:{surface}              | no           | Experiment |
| PLAN       | plan:{surface}                    | no           | Plan       |

Rules:
- The first part of the key is also the document's name in the history: `weights:canary` are the
  weights of the arm `canary`.
- A document is applied as a whole or refused as a whole. `read` decides which.
- A kind may be judged by what is in force of the kinds before it in KINDS, never by later ones.
- A plan has the salt of its experiment. It does not apply to another one, and workers do not read
  it.
- Editor, view and history loop over KINDS. What workers do (read from Redis, log, report in the
  status, keep on disk) loops over FOLLOWED_KINDS, those with a WorkerRow.

To add a kind, write its row here. If workers follow it, add a field to SurfaceStatus (status.py)
and LastGoodFile (last_good.py): those are read back by their types.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

from workers.outcomes.plan import Plan, PlanRefused
from workers.ranking.experiment import Experiment, ExperimentRefused
from workers.ranking.pins import AvailableModels, Pins, PinsRefused
from workers.ranking.surface import Surface
from workers.ranking.weights import WeightRules, Weights, WeightsRefused

T = TypeVar("T")


class Source(StrEnum):
    """Where the applied document came from."""

    REDIS = "redis"
    LAST_GOOD = "last-good"
    DEFAULT = "default"


@dataclass(frozen=True)
class Applied(Generic[T]):
    """What is in force, where it came from and since when (milliseconds since the epoch).

    `push_ms`: milliseconds from Redis's push until it was applied. None if no push announced it.
    """

    value: T
    source: Source
    at: int
    push_ms: float | None = None


class ReadContext(NamedTuple):
    """What a document is judged by, beside its own fields.

    `arms_with_weights`: the arms that have had valid weights. None if nobody knows: then no
    experiment is refused for lack of them.
    """

    surface: Surface
    available: AvailableModels
    arms_with_weights: frozenset[str] | None = None

    @property
    def weight_rules(self) -> WeightRules:
        """The surface's rules, with the objectives that may be weighted beside its own."""
        return self.surface.weight_rules.with_added(self.available.added_objectives(self.surface))


@dataclass(frozen=True)
class StatusFields(Generic[T]):
    """How a document is rendered in a worker's status.

    `own` and `arms` are fields of the surface's status. `own` None: they are fields of the
    surface's status itself. `describe` gives the fields of a value, all of them null for None.
    """

    own: str | None
    arms: str | None
    describe: Callable[[T | None], dict[str, object]]


@dataclass(frozen=True)
class LastGoodFields(Generic[T]):
    """How a document is kept on disk.

    `own` and `arms` are fields of the file. `encode` gives what JSON can carry, and `decode` reads
    it back: None if there is nothing in it, ValueError if it is not valid any more. A document that
    is not valid makes the whole file useless, unless `may_be_left_out`.
    """

    own: str
    arms: str | None
    encode: Callable[[T], object]
    decode: Callable[[Any, ReadContext], T | None]
    may_be_left_out: bool = False


@dataclass(frozen=True)
class WorkerRow(Generic[T]):
    """What workers do with a kind of document that they follow.

    `log_applied` gives the fields of the log event from what is applied now and the value before.
    `log_refused` gives those beside the reason, from the value that stays in force.
    """

    applied_event: str
    refused_event: str
    log_applied: Callable[[Applied[T], T | None], dict[str, object]]
    log_refused: Callable[[T | None], dict[str, object]]
    status: StatusFields[T]
    last_good: LastGoodFields[T]


@dataclass(frozen=True, eq=False)
class DocumentKind(Generic[T]):
    """One row of the table.

    `read` makes the value of the hash's fields, or raises `refusal` with the reason. What it uses
    of the context is `judged_by`: while that and the fields stay the same, a document is not judged
    again. `fields_of` is the inverse of `read`. `version_of`: the version that the history records,
    None for kinds without versions. `worker` None: only tools read it.
    """

    name: str
    has_arms: bool
    refusal: type[ValueError]
    read: Callable[[Mapping[str, str], ReadContext], T]
    judged_by: Callable[[ReadContext], object]
    fields_of: Callable[[T], dict[str, str]]
    version_of: Callable[[T], str | None]
    worker: WorkerRow[T] | None

    @property
    def followed(self) -> WorkerRow[T]:
        """What workers do with it, for the kinds among FOLLOWED_KINDS."""
        assert self.worker is not None
        return self.worker


class DocumentId(NamedTuple):
    """One document of a surface. `arm` None: the surface's own."""

    kind: DocumentKind[Any]
    arm: str | None = None

    @property
    def name(self) -> str:
        """The document's name in the history."""
        return self.kind.name if self.arm is None else f"{self.kind.name}:{self.arm}"


# Weights


def _weights_fields(weights: Weights) -> dict[str, str]:
    """Numbers in the shortest form that reads back as the same float64."""
    return {objective: repr(weight) for objective, weight in weights.values.items()}


def log_fields(applied: Applied[Weights]) -> dict[str, object]:
    """Weights as log events show them."""
    return {
        "version": applied.value.version,
        "values": dict(applied.value.values),
        "source": str(applied.source),
    }


def _decode_weights(kept: Any, context: ReadContext) -> Weights | None:
    """None: the surface's default was in force."""
    if kept is None:
        return None

    version = kept["version"]
    if Weights.of(kept["values"]).version != version:
        raise ValueError(f"version: got {version!r}, which is not that of the values")
    return context.weight_rules.validate(kept["values"])


WEIGHTS = DocumentKind[Weights](
    name="weights",
    has_arms=True,
    refusal=WeightsRefused,
    read=lambda fields, context: context.weight_rules.validate(fields),
    judged_by=lambda context: context.available,
    fields_of=_weights_fields,
    version_of=lambda weights: weights.version,
    worker=WorkerRow(
        applied_event="weights_applied",
        refused_event="weights_refused",
        log_applied=lambda applied, before: {
            "previous": before and before.version,
            **log_fields(applied),
        },
        log_refused=lambda in_force: {"version": in_force and in_force.version},
        status=StatusFields(
            own=None,
            arms="arms",
            describe=lambda weights: {
                "version": weights and weights.version,
                "values": weights and weights.values,
            },
        ),
        last_good=LastGoodFields(
            own="weights",
            arms="arms",
            encode=lambda weights: {"version": weights.version, "values": dict(weights.values)},
            decode=_decode_weights,
        ),
    ),
)


# Pinned models


def _decode_pins(kept: Any, context: ReadContext) -> Pins | None:
    if not kept:
        return None
    fields = {objective: str(version) for objective, version in kept.items()}
    return Pins.read(fields, context.surface, context.available)


MODELS = DocumentKind[Pins](
    name="models",
    has_arms=True,
    refusal=PinsRefused,
    read=lambda fields, context: Pins.read(fields, context.surface, context.available),
    judged_by=lambda context: context.available,
    fields_of=Pins.fields,
    version_of=lambda pins: None,
    worker=WorkerRow(
        applied_event="models_applied",
        refused_event="models_refused",
        log_applied=lambda applied, before: {"pins": applied.value.fields()},
        log_refused=lambda in_force: {},
        status=StatusFields(
            own="pins",
            arms="arm_pins",
            describe=lambda pins: {"versions": pins and pins.versions},
        ),
        last_good=LastGoodFields(
            own="models",
            arms="arm_models",
            encode=lambda pins: dict(pins.pinned),
            decode=_decode_pins,
            # A pinned version may have gone since. Weights and experiment are good without it.
            may_be_left_out=True,
        ),
    ),
)


# The experiment


def _read_experiment(fields: Mapping[str, str], context: ReadContext) -> Experiment:
    experiment = Experiment.read(fields)
    if context.arms_with_weights is not None:
        for arm in experiment.running:
            if arm not in context.arms_with_weights:
                raise ExperimentRefused(
                    f"{arm}: has no weights that were ever valid, expected a set before its users"
                )
    return experiment


EXPERIMENT = DocumentKind[Experiment](
    name="experiment",
    has_arms=False,
    refusal=ExperimentRefused,
    read=_read_experiment,
    judged_by=lambda context: context.arms_with_weights,
    fields_of=Experiment.fields,
    version_of=lambda experiment: None,
    worker=WorkerRow(
        applied_event="experiment_applied",
        refused_event="experiment_refused",
        # The arms have a field of their own: their names are free, and may be `event`.
        log_applied=lambda applied, before: {
            "salt": applied.value.salt,
            "arms": applied.value.percents(),
        },
        log_refused=lambda in_force: {},
        status=StatusFields(
            own="experiment",
            arms=None,
            describe=lambda experiment: {
                "salt": experiment and experiment.salt,
                "arms": experiment and experiment.percents(),
            },
        ),
        last_good=LastGoodFields(
            own="experiment",
            arms=None,
            encode=Experiment.fields,
            decode=lambda kept, context: None if kept is None else _read_experiment(kept, context),
        ),
    ),
)


# The plan of the experiment


def check_plan(plan: Plan, context: ReadContext) -> None:
    """Raise PlanRefused if a guard rail is about something that the surface does not count."""
    surface = context.surface
    if surface.outcomes is not None:
        objectives = context.available.objectives(surface)
        plan.check_metrics(objectives, surface.outcomes.others)
    elif plan.rails:
        raise PlanRefused(
            f"guard: got {plan.rails[0].text!r}, expected no guard rail, because the surface"
            f" {surface.name!r} counts no outcomes ([surfaces.{surface.name}.outcomes])"
        )


def _read_plan(fields: Mapping[str, str], context: ReadContext) -> Plan:
    """Without any known model, nobody knows which objectives the surface has beside its own."""
    plan = Plan.read(fields)
    if not context.available.any_version:
        check_plan(plan, context)
    return plan


PLAN = DocumentKind[Plan](
    name="plan",
    has_arms=False,
    refusal=PlanRefused,
    read=_read_plan,
    judged_by=lambda context: context.available,
    fields_of=Plan.fields,
    version_of=lambda plan: None,
    worker=None,
)


KINDS: tuple[DocumentKind[Any], ...] = (WEIGHTS, MODELS, EXPERIMENT, PLAN)
FOLLOWED_KINDS: tuple[DocumentKind[Any], ...] = tuple(kind for kind in KINDS if kind.worker)


@lru_cache(maxsize=1024)  # a poll asks for those of every surface, several times
def document_ids(
    arms: tuple[str, ...], kinds: tuple[DocumentKind[Any], ...] = FOLLOWED_KINDS
) -> tuple[DocumentId, ...]:
    """The documents of a surface with these arms, in the order in which they are judged: first the
    kinds that arms have too (the surface's own, then arm by arm), last the kinds that exist once.
    """
    ids = list[DocumentId]()
    for arm in (None, *arms):
        ids += [DocumentId(kind, arm) for kind in kinds if kind.has_arms]
    ids += [DocumentId(kind) for kind in kinds if not kind.has_arms]
    return tuple(ids)
