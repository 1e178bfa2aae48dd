"""The steering documents of a surface as Redis holds them, with their history. For tools. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Generic, Self, TypeVar

from workers.outcomes.plan import Plan
from workers.ranking.experiment import CONTROL, Experiment, is_arm_name
from workers.ranking.pins import AvailableModels, Pins
from workers.ranking.surface import Surface
from workers.ranking.weights import WeightRules, Weights, WeightsRefused
from workers.steering.content import UnreadableContent, decode_fields, printable
from workers.steering.documents import (
    EXPERIMENT,
    MODELS,
    PLAN,
    WEIGHTS,
    DocumentId,
    DocumentKind,
    ReadContext,
    Source,
)
from workers.steering.history import HistoryEntry, ReadContent
from workers.steering.keys import Keys
from workers.steering.phases import Phases, phases_of
from workers.steering.surface_state import Replies

T = TypeVar("T")


class NoSuchSet(ValueError):
    """The history has no such revision or version, or its weights are not valid. The message says
    which.
    """


@dataclass(frozen=True)
class DocumentView(Generic[T]):
    """One document: what Redis holds, and its entries in the history, oldest first.

    `value` is what Redis holds; None if that is missing or refused. `in_force` is what workers
    apply by it: the value, else the newest valid one of the history, else the default. None for a
    document that was never valid and has no default.
    """

    id: DocumentId
    content: ReadContent
    value: T | None
    entries: tuple[HistoryEntry, ...]
    in_force: T | None
    source: Source | None

    @property
    def kind(self) -> DocumentKind[T]:
        """The document's row in the table of kinds."""
        return self.id.kind

    @property
    def texts(self) -> dict[str, str]:
        """The fields as text."""
        return printable(self.content.fields or {})

    @property
    def last(self) -> HistoryEntry | None:
        """The last recorded change."""
        return self.entries[-1] if self.entries else None

    @property
    def revision(self) -> int:
        """The revision of the last recorded change; 0 if there is none."""
        return self.last.revision if self.last else 0

    @property
    def is_recorded(self) -> bool:
        """Whether the history has what Redis holds. If not, the next worker that reads it records
        it.
        """
        return self.texts == (dict(self.last.after) if self.last else {})


@dataclass(frozen=True)
class PlannedExperiment:
    """The experiment in force, and its plan.

    `plan`: None if there is none, if it is refused, or if it belongs to another experiment.
    `refused` says why what Redis holds as the plan is refused.
    """

    experiment: Experiment | None
    plan: Plan | None
    refused: str | None

    @classmethod
    def of(cls, experiment: DocumentView[Experiment], plan: DocumentView[Plan]) -> Self:
        """What these documents say together."""
        in_force = experiment.in_force
        applies = plan.value is not None and in_force and plan.value.salt == in_force.salt
        return cls(in_force, plan.value if applies else None, plan.content.refused)


@dataclass(frozen=True)
class SurfaceView:
    """One surface at one instant. `now` is Redis's clock, in milliseconds since the epoch.

    `rules` judge weights, `available` judges pins. `entries` are the whole history, oldest first.
    """

    surface: Surface
    rules: WeightRules
    available: AvailableModels
    documents: Mapping[DocumentId, DocumentView[Any]]
    entries: tuple[HistoryEntry, ...]
    now: int

    def document(self, kind: DocumentKind[T], arm: str | None = None) -> DocumentView[T]:
        """The surface's own document of this kind, which is that of `control` too, or an arm's.
        Raises KeyError for an arm that neither experiment nor history names.
        """
        return self.documents[DocumentId(kind, None if arm == CONTROL else arm)]

    @property
    def weights(self) -> DocumentView[Weights]:
        """The surface's own weights."""
        return self.document(WEIGHTS)

    @property
    def experiment(self) -> DocumentView[Experiment]:
        """The experiment."""
        return self.document(EXPERIMENT)

    @property
    def plan(self) -> DocumentView[Plan]:
        """The plan, whatever experiment it belongs to."""
        return self.document(PLAN)

    @property
    def plan_that_applies(self) -> Plan | None:
        """What Redis holds as the plan of the experiment that runs, or that ran last. None if there
        is none, if it is refused, or if it belongs to another experiment.
        """
        return PlannedExperiment.of(self.experiment, self.plan).plan

    @property
    def arms(self) -> dict[str, DocumentView[Weights]]:
        """The weights of each arm."""
        arms: dict[str, DocumentView[Weights]] = {}
        for (kind, arm), document in self.documents.items():
            if kind is WEIGHTS and arm is not None:
                arms[arm] = document
        return arms

    def weights_of(self, arm: str | None) -> DocumentView[Weights]:
        """The weights of the surface (None) or of an arm. Raises KeyError for an unknown arm."""
        return self.document(WEIGHTS, arm)

    def models_of(self, arm: str | None) -> DocumentView[Pins]:
        """The pins of the surface (None) or of an arm. Raises KeyError for an unknown arm."""
        return self.document(MODELS, arm)

    @property
    def revision(self) -> int:
        """The surface's revision: that of the last change to any of its documents."""
        return self.entries[-1].revision if self.entries else 0

    @property
    def running(self) -> Experiment | None:
        """The experiment, if any of its arms has users."""
        experiment = self.experiment.in_force
        return experiment if experiment and experiment.running else None

    @property
    def phases(self) -> Phases:
        """The phases of the surface's experiments."""
        contents = {name: document.content.fields for name, document in self.documents.items()}
        return phases_of(self.surface, self.entries, contents)

    def base_of(self, arm: str | None) -> Weights:
        """The weights that a change starts from: those in force, or the surface's own for an arm
        that has none.
        """
        base = self.weights_of(arm).in_force or self.weights.in_force
        assert base is not None  # a surface's own weights have a default
        return base


def surface_view(
    surface: Surface,
    keys: Keys,
    *,
    replies: Replies,
    entries: Sequence[HistoryEntry],
    now: int,
    available: AvailableModels,
) -> SurfaceView:
    """The view from Redis's replies to HGETALL and the entries of the history, oldest first."""
    context = ReadContext(surface, available)
    documents: dict[DocumentId, DocumentView[Any]] = {}
    for document, reply in replies.items():
        kind, arm = document
        key = keys.document(surface.name, kind, arm)
        documents[document] = document_view(document, key, reply, entries, context)

    rules = context.weight_rules
    weights = documents[DocumentId(WEIGHTS)]
    if weights.in_force is None:
        weights = replace(weights, in_force=rules.default(), source=Source.DEFAULT)
        documents[DocumentId(WEIGHTS)] = weights

    return SurfaceView(
        surface=surface,
        rules=rules,
        available=available,
        documents=documents,
        entries=tuple(entries),
        now=now,
    )


def arms_named(experiment: object, entries: Iterable[HistoryEntry]) -> list[str]:
    """Every arm that Redis's reply for the experiment or the history names."""
    names = {entry.document.partition(":")[2] for entry in entries}
    with suppress(UnreadableContent):  # it names no arm
        names.update(decode_fields(experiment))
    return sorted(name for name in names if is_arm_name(name))


def document_view(
    document: DocumentId,
    key: str,
    reply: object,
    entries: Sequence[HistoryEntry],
    context: ReadContext,
) -> DocumentView[Any]:
    """One document from Redis's reply to HGETALL and the entries of the history."""
    kind = document.kind
    value = None
    refused = None
    try:
        fields = decode_fields(reply)
        value = kind.read(fields, context) if fields else None
    except (kind.refusal, UnreadableContent) as refusal:
        refused = str(refusal)

    content = ReadContent(
        key=key,
        name=document.name,
        fields=reply if isinstance(reply, dict) else None,
        version=None if value is None else kind.version_of(value),
        refused=refused,
    )
    own_entries = tuple(entry for entry in entries if entry.document == document.name)
    if value is not None:
        return DocumentView(document, content, value, own_entries, value, Source.REDIS)
    in_force = _newest_valid(kind, own_entries, context)
    source = None if in_force is None else Source.LAST_GOOD
    return DocumentView(document, content, None, own_entries, in_force, source)


def _newest_valid(
    kind: DocumentKind[T], entries: Sequence[HistoryEntry], context: ReadContext
) -> T | None:
    for entry in reversed(entries):
        if entry.after and entry.refused is None:
            try:
                return kind.read(entry.after, context)
            except kind.refusal:
                continue  # valid when it was written, but not by the rules of today
    return None


def weights_at(document: DocumentView[Weights], rules: WeightRules, place: str) -> Weights:
    """The weights of a revision or a version. `now` are those in force, `default` the surface's
    own. Raises NoSuchSet.
    """
    if place == "now" and document.in_force is not None:
        return document.in_force
    if place == "default":
        return rules.default()
    for entry in reversed(document.entries):
        if place in (str(entry.revision), entry.version):
            return valid_weights(entry, rules)

    kept = f"{document.entries[0].revision} to {document.revision}" if document.entries else "none"
    raise NoSuchSet(
        f"{document.content.name}: got {place!r}, "
        f"expected a version, a revision (kept are {kept}), 'now' or 'default'"
    )


def weights_before(document: DocumentView[Weights], rules: WeightRules) -> Weights:
    """What a rollback goes back to: the last weights that differ from those in Redis, also if what
    Redis holds is refused. Raises NoSuchSet.
    """
    current = document.value
    for entry in reversed(document.entries):
        try:
            weights = valid_weights(entry, rules)
        except NoSuchSet:
            continue
        if weights != current:
            return weights

    weights = _weights_before_history(document, rules)
    if weights != current:
        return weights
    raise NoSuchSet(f"{document.content.name}: its history holds no other set to go back to")


def valid_weights(entry: HistoryEntry, rules: WeightRules) -> Weights:
    """The weights that an entry wrote. Raises NoSuchSet if there were none, or if the rules of
    today refuse them.
    """
    if not entry.after:
        raise NoSuchSet(f"revision {entry.revision}: the hash was deleted, expected a set")
    try:
        return rules.validate(entry.after)
    except WeightsRefused as refused:
        raise NoSuchSet(f"revision {entry.revision}: {refused}") from None


def _weights_before_history(document: DocumentView[Weights], rules: WeightRules) -> Weights:
    """The weights before the oldest entry, else the default."""
    before = document.entries[0].before if document.entries else {}
    try:
        return rules.validate(before) if before else rules.default()
    except WeightsRefused:
        return rules.default()
