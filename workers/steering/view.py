"""A surface's steering documents as Redis holds them, with their history: what tools look at. Pure."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from workers.ranking.experiment import CONTROL, Experiment, is_arm_name
from workers.ranking.pins import AvailableModels, Pins
from workers.ranking.surface import Surface
from workers.ranking.weights import WeightRules, Weights, WeightsRefused
from workers.steering.content import NoContent, shown, texts_of
from workers.steering.document_state import REFUSALS, Source
from workers.steering.history import HistoryEntry, ReadContent
from workers.steering.keys import Keys
from workers.steering.surface_state import EXPERIMENT, document_of, models_of

T = TypeVar("T", Weights, Experiment, Pins)


class NoSuchSet(ValueError):
    """A revision or version that the history does not have, or whose set is not valid; the message
    says which.
    """


@dataclass(frozen=True)
class DocumentView(Generic[T]):
    """One document: what Redis holds (`value` is None where that is nothing or refused) and its
    entries, oldest first.

    `in_force` is what workers stand on by it: the value, else the newest valid one of the history,
    else the default; None for an experiment or an arm that was never valid.
    """

    content: ReadContent
    value: T | None
    entries: tuple[HistoryEntry, ...]
    in_force: T | None
    source: Source | None

    @property
    def texts(self) -> dict[str, str]:
        """The fields as text."""
        return shown(self.content.fields or {})

    @property
    def last(self) -> HistoryEntry | None:
        """The last recorded change."""
        return self.entries[-1] if self.entries else None

    @property
    def revision(self) -> int:
        """The revision of the last recorded change; 0 where there is none."""
        return self.last.revision if self.last else 0

    @property
    def is_recorded(self) -> bool:
        """Whether the history knows of what Redis holds; the next worker that looks records it
        otherwise.
        """
        return self.texts == (dict(self.last.after) if self.last else {})


AnyDocument = DocumentView[Weights] | DocumentView[Experiment] | DocumentView[Pins]


@dataclass(frozen=True)
class SurfaceView:
    """One surface at one instant. `now` is Redis's clock, in milliseconds since the epoch.

    `rules` judge weights, `available` models; `arms` and `arm_models` have the same arms.
    """

    surface: Surface
    rules: WeightRules
    available: AvailableModels
    weights: DocumentView[Weights]
    models: DocumentView[Pins]
    experiment: DocumentView[Experiment]
    arms: Mapping[str, DocumentView[Weights]]
    arm_models: Mapping[str, DocumentView[Pins]]
    entries: tuple[HistoryEntry, ...]
    now: int

    @property
    def revision(self) -> int:
        """The surface's revision: that of the last change to any of its documents."""
        return self.entries[-1].revision if self.entries else 0

    @property
    def running(self) -> Experiment | None:
        """The experiment that has users."""
        experiment = self.experiment.in_force
        return experiment if experiment and experiment.running else None

    def weights_of(self, arm: str | None) -> DocumentView[Weights]:
        """The weights of the surface (None) or of an arm. Raises KeyError for an arm that was never
        heard of.
        """
        return self.weights if arm in (None, CONTROL) else self.arms[str(arm)]

    def models_of(self, arm: str | None) -> DocumentView[Pins]:
        """The models of the surface (None) or of an arm. Raises KeyError for an arm that was never
        heard of.
        """
        return self.models if arm in (None, CONTROL) else self.arm_models[str(arm)]

    def document(self, name: str) -> "AnyDocument":
        """The document of that name in the history. Raises KeyError."""
        kind, _, arm = name.partition(":")
        if kind == EXPERIMENT:
            return self.experiment
        return (
            self.weights_of(arm or None) if kind == document_of() else self.models_of(arm or None)
        )

    def base_of(self, arm: str | None) -> Weights:
        """The set that a change starts from: what is in force, for an arm that has none the
        surface's own.
        """
        base = self.weights_of(arm).in_force or self.weights.in_force
        assert base is not None  # a surface's weights fall back on the default
        return base


@dataclass(frozen=True)
class Found:
    """Redis's replies for one surface: documents by name as HGETALL gives them, entries oldest
    first.
    """

    documents: Mapping[str, object]
    entries: Sequence[HistoryEntry]
    now: int


def view_of(surface: Surface, keys: Keys, found: Found, available: AvailableModels) -> SurfaceView:
    """Put together what was found."""
    name, rules = surface.name, surface.weight_rules.with_added(available.added(surface))
    arms = sorted(
        document.partition(":")[2]
        for document in found.documents
        if document.startswith("weights:")
    )

    def weights(arm: str | None) -> DocumentView[Weights]:
        return _document(keys.weights(name, arm), document_of(arm), found, rules.validate)

    def models(arm: str | None) -> DocumentView[Pins]:
        read = partial(Pins.read, surface=surface, available=available)
        return _document(keys.models(name, arm), models_of(arm), found, read)

    return SurfaceView(
        surface=surface,
        rules=rules,
        available=available,
        weights=_or_default(weights(None), rules),
        models=models(None),
        experiment=_document(keys.experiment(name), EXPERIMENT, found, Experiment.read),
        arms={arm: weights(arm) for arm in arms},
        arm_models={arm: models(arm) for arm in arms},
        entries=tuple(found.entries),
        now=found.now,
    )


def arms_in(found: Found) -> list[str]:
    """Every arm that the experiment or the history names."""
    named = {
        entry.document.partition(":")[2] for entry in found.entries
    }  # of weights and of models
    with suppress(NoContent):  # what cannot be read names no arm
        named.update(texts_of(found.documents[EXPERIMENT]))
    return sorted(name for name in named if is_arm_name(name))


def weights_at(document: DocumentView[Weights], rules: WeightRules, place: str) -> Weights:
    """The set of a revision or a version; `now` is what is in force, `default` the surface's own.
    Raises NoSuchSet.
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
        f"{document.content.name}: got {place!r}, expected a version, a revision (kept are {kept}), 'now' or 'default'"
    )


def valid_weights(entry: HistoryEntry, rules: WeightRules) -> Weights:
    """The set that an entry wrote. Raises NoSuchSet where it was none, or is none by the rules of
    today.
    """
    try:
        if entry.after:
            return rules.validate(entry.after)
    except WeightsRefused as refused:
        raise NoSuchSet(f"revision {entry.revision}: {refused}") from None
    raise NoSuchSet(f"revision {entry.revision}: the hash was deleted, expected a set")


def weights_before(document: DocumentView[Weights], rules: WeightRules) -> Weights:
    """Where a rollback goes: the last set in force before another one was, or before what is
    refused now.
    """
    current = document.value
    for entry in reversed(document.entries):
        try:
            found = valid_weights(entry, rules)
        except NoSuchSet:
            continue
        if found != current:
            return found
    first = document.entries[0] if document.entries else None
    try:
        found = rules.validate(first.before) if first and first.before else rules.default()
    except WeightsRefused:
        found = rules.default()
    if found != current:
        return found
    raise NoSuchSet(f"{document.content.name}: its history holds no other set to go back to")


def _document(
    key: str, name: str, found: Found, read: Callable[[Mapping[str, str]], T]
) -> DocumentView[T]:
    reply, refused, value = found.documents[name], None, None
    try:
        texts = texts_of(reply)
        value = read(texts) if texts else None
    except REFUSALS as refusal:
        refused = str(refusal)
    version = value.version if isinstance(value, Weights) else None
    fields = reply if isinstance(reply, dict) else None
    entries = tuple(entry for entry in found.entries if entry.document == name)
    in_force = value if value is not None else _newest_valid(entries, read)
    source = None if in_force is None else Source.REDIS if in_force is value else Source.LAST_GOOD
    return DocumentView(
        ReadContent(key, name, fields, version, refused), value, entries, in_force, source
    )


def _newest_valid(
    entries: Sequence[HistoryEntry], read: Callable[[Mapping[str, str]], T]
) -> T | None:
    for entry in reversed(entries):
        if entry.after and entry.refused is None:
            try:
                return read(entry.after)
            except REFUSALS:
                continue  # valid when it was written, not by the rules of today
    return None


def _or_default(document: DocumentView[Weights], rules: WeightRules) -> DocumentView[Weights]:
    if document.in_force is not None:
        return document
    return DocumentView(document.content, None, document.entries, rules.default(), Source.DEFAULT)
