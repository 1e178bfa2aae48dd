"""The state of every document, surface by surface: what is applied, and what is refused now.

Rules:
- A document whose fields are valid is applied. One that is missing, refused or unreadable changes
  nothing: what was applied before goes on.
- A state is immutable. A reply that was judged before gives the same object again, so whoever
  compares by identity sees what has changed.
- Feeds are ranked under the mix of a surface, which is made of all its applied documents. A
  surface's own weights are always applied: at first the default of surfaces.toml.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

from workers.ranking.experiment import CONTROL, MAX_ARMS, SALT, is_arm_name
from workers.ranking.mix import Mix
from workers.ranking.pins import AvailableModels
from workers.ranking.surface import Surface
from workers.ranking.weights import Weights
from workers.steering.connection import Events
from workers.steering.content import UnreadableContent, decode_fields, digest_of
from workers.steering.documents import (
    EXPERIMENT,
    MODELS,
    WEIGHTS,
    Applied,
    DocumentId,
    DocumentKind,
    ReadContext,
    Source,
    document_ids,
    log_fields,
)

T = TypeVar("T")

Replies = Mapping[DocumentId, object]
"""Redis's replies to HGETALL for the documents of one surface, all of one instant."""

_REASON_LENGTH = 300


@dataclass(frozen=True)
class Refused:
    """The content that Redis holds and that is not applied; `at` in milliseconds since the epoch.

    `content`: the first 12 hex digits of SHA-256 over the hash as a JSON object of strings (sorted
    keys, no spaces, ASCII, bytes outside UTF-8 as \\xNN); None if the key holds no hash.
    """

    reason: str
    at: int
    content: str | None


class Moment(NamedTuple):
    """When replies are judged: `now` in milliseconds since the epoch, `push_ms` milliseconds since
    the push that led to them.
    """

    now: int
    push_ms: float | None = None


@dataclass(frozen=True)
class DocumentState(Generic[T]):
    """One document: what is applied, if anything is, and what is refused now.

    `judged` is the reply that was judged last, with what it was judged by.
    """

    applied: Applied[T] | None = None
    refused: Refused | None = None
    judged: object = None

    @property
    def value(self) -> T | None:
        """What is applied."""
        return None if self.applied is None else self.applied.value

    def judge(
        self, kind: DocumentKind[T], reply: object, context: ReadContext, moment: Moment
    ) -> "DocumentState[T]":
        """The state after Redis's reply to HGETALL: a mapping of bytes, or an `ErrorReply`.

        | the reply                              | applied    | refused             |
        |----------------------------------------|------------|---------------------|
        | judged before, by the same             | as before  | as before           |
        | no field: the hash is missing          | as before  | nothing             |
        | no hash of texts, or refused by `read` | as before  | the reason          |
        | valid, equal to what came from Redis   | as before  | nothing             |
        | valid                                  | the value  | nothing             |
        """
        judged = (reply, kind.judged_by(context))
        if judged == self.judged:
            return self
        if reply == {}:
            return DocumentState(self.applied, None, judged)

        try:
            value = kind.read(decode_fields(reply), context)
        except (kind.refusal, UnreadableContent) as refusal:
            refused = Refused(str(refusal)[:_REASON_LENGTH], moment.now, digest_of(reply))
            # The same refusal keeps the time at which it began.
            if self.refused is not None and replace(refused, at=self.refused.at) == self.refused:
                refused = self.refused
            return DocumentState(self.applied, refused, judged)

        applied = self.applied
        if applied is None or applied.source is not Source.REDIS or applied.value != value:
            applied = Applied(value, Source.REDIS, moment.now, moment.push_ms)
        return DocumentState(applied, None, judged)


@dataclass(frozen=True)
class SurfaceState:
    """The documents of a surface: its own, and those of `arms`."""

    arms: tuple[str, ...]
    documents: Mapping[DocumentId, DocumentState[Any]]

    @classmethod
    def of(cls, applied: Mapping[DocumentId, Applied[Any]]) -> "SurfaceState":
        """The state in which these are applied and nothing is refused. Its arms are those that have
        weights.
        """
        arms = tuple(arm for kind, arm in applied if kind is WEIGHTS and arm is not None)
        documents = {
            document: DocumentState(applied.get(document)) for document in document_ids(arms)
        }
        return cls(arms, documents)

    def document(self, kind: DocumentKind[T], arm: str | None = None) -> DocumentState[T]:
        """The state of the surface's own document of this kind, or of an arm's."""
        return self.documents[DocumentId(kind, arm)]

    @property
    def weights(self) -> Applied[Weights]:
        """The surface's own weights."""
        applied = self.document(WEIGHTS).applied
        assert applied is not None
        return applied

    @property
    def values(self) -> dict[DocumentId, Any]:
        """The value of every document that is applied."""
        values: dict[DocumentId, Any] = {}
        for document, state in self.documents.items():
            if state.applied is not None:
                values[document] = state.applied.value
        return values

    @property
    def mix(self) -> Mix:
        """What feeds are ranked under."""
        weights: dict[str, Weights] = {}
        pins: dict[str, Mapping[str, int]] = {}
        for arm in self.arms:
            arm_weights = self.document(WEIGHTS, arm).value
            if arm_weights is not None:
                weights[arm] = arm_weights
            arm_pins = self.document(MODELS, arm).value
            if arm_pins is not None:
                pins[arm] = arm_pins.pinned

        own_pins = self.document(MODELS).value
        return Mix(
            weights=self.weights.value,
            experiment=self.document(EXPERIMENT).value,
            arms=weights,
            pins={} if own_pins is None else own_pins.pinned,
            arm_pins=pins,
        )

    def arms_to_read(self, experiment: object = None) -> tuple[str, ...]:
        """The arms whose documents matter: those in force, and those that Redis's reply for the
        experiment names.
        """
        return tuple(sorted({*self._arms_in_force(), *_arms_named(experiment)}))

    def judge(
        self, replies: Replies, surface: Surface, available: AvailableModels, moment: Moment
    ) -> "SurfaceState":
        """The state after these replies. Returns itself if every document is as it was.

        A document that was not read stays as it is, except of an arm that is not in force any more:
        that is dropped.
        """
        arms_read = [arm for _, arm in replies if arm is not None]
        arms = tuple(dict.fromkeys([*self._arms_in_force(), *arms_read]))

        context = ReadContext(surface, available)
        documents: dict[DocumentId, DocumentState[Any]] = {}
        for document in document_ids(arms):
            if not document.kind.has_arms and context.arms_with_weights is None:
                # All documents of the arms come before: the experiment is judged by their weights.
                armed = [arm for arm in arms if documents[DocumentId(WEIGHTS, arm)].applied]
                context = context._replace(arms_with_weights=frozenset(armed))

            state = self.documents.get(document, DocumentState())
            if document in replies:
                state = state.judge(document.kind, replies[document], context, moment)
            documents[document] = state

        is_same = documents.keys() == self.documents.keys() and all(
            state is self.documents[document] for document, state in documents.items()
        )
        return self if is_same else SurfaceState(arms, documents)

    def is_news(self, before: "SurfaceState") -> bool:
        """Whether a document is applied or refused that was not before, or is dropped."""
        if self.documents.keys() != before.documents.keys():
            return True

        for document, state in self.documents.items():
            earlier = before.documents[document]
            if state.applied is not earlier.applied or state.refused is not earlier.refused:
                return True
        return False

    def _arms_in_force(self) -> tuple[str, ...]:
        experiment = self.document(EXPERIMENT).value
        if experiment is None:
            return ()
        return tuple(arm for arm in experiment.shares if arm in self.arms)


def _arms_named(experiment: object) -> list[str]:
    """The arms that the content of an experiment names, whether it is valid or not. None if they
    are too many: those are refused without being read.
    """
    try:
        fields = decode_fields(experiment)
    except UnreadableContent:
        return []

    names = fields.keys() - {SALT, CONTROL}
    if len(names) > MAX_ARMS:
        return []
    return [name for name in names if is_arm_name(name)]


class SurfaceStates:
    """The state of every surface.

    The steering thread changes it. `current` and `mixes` are immutable mappings that are replaced
    as a whole, so any thread may read them.
    """

    def __init__(
        self,
        surfaces: Mapping[str, Surface],
        events: Events,
        now: Callable[[], int],
        available: Callable[[], AvailableModels],
    ) -> None:
        self._surfaces = surfaces
        self._events = events
        self._now = now
        self._available = available

        self.current: Mapping[str, SurfaceState] = {}
        self.mixes: Mapping[str, Mix] = {}
        states: dict[str, SurfaceState] = {}
        for name, surface in surfaces.items():
            weights = Applied(surface.weight_rules.default(), Source.DEFAULT, now())
            states[name] = SurfaceState.of({DocumentId(WEIGHTS): weights})
        self._replace(states)

    def restore(self, last_good: Mapping[str, Mapping[DocumentId, object]]) -> None:
        """Apply the values that were kept on disk, by surface."""
        restored: dict[str, SurfaceState] = {}
        for name, values in last_good.items():
            weights = self.current[name].weights
            applied: dict[DocumentId, Applied[Any]] = {DocumentId(WEIGHTS): weights}

            for document, value in values.items():
                if value != weights.value or document != DocumentId(WEIGHTS):
                    applied[document] = Applied(value, Source.LAST_GOOD, self._now())
            restored[name] = SurfaceState.of(applied)

        self._replace(restored)

    def judge(self, replies: Mapping[str, Replies], push_ms: float | None) -> list[str]:
        """Judge Redis's replies, by surface. Returns the surfaces that have news: a document is
        applied or refused that was not before, or is dropped.
        """
        before = self.current
        moment = Moment(self._now(), push_ms)
        available = self._available()

        changed: dict[str, SurfaceState] = {}
        for name, surface_replies in replies.items():
            state = before[name].judge(surface_replies, self._surfaces[name], available, moment)
            if state is not before[name]:
                changed[name] = state
        if changed:
            self._replace(changed)

        with_news = [name for name, state in changed.items() if state.is_news(before[name])]
        for name in with_news:
            self._log_changes(name, before[name], changed[name])
        return with_news

    def log_fallbacks(self) -> None:
        """Log which surfaces have weights that are not from Redis, and which."""
        for name, state in self.current.items():
            if state.weights.source is not Source.REDIS:
                self._events.emit("weights_fallback", surface=name, **log_fields(state.weights))

    def _replace(self, states: Mapping[str, SurfaceState]) -> None:
        """Put these in the place of the present ones. Only their mixes are built again."""
        mixes = {name: state.mix for name, state in states.items()}
        self.current = MappingProxyType({**self.current, **states})
        self.mixes = MappingProxyType({**self.mixes, **mixes})

    def _log_changes(self, name: str, before: SurfaceState, after: SurfaceState) -> None:
        for document, state in after.documents.items():
            row = document.kind.followed
            arm = document.arm
            was = before.documents.get(document, DocumentState())
            labels = {"surface": name} if arm is None else {"surface": name, "arm": arm}

            if state.applied is not None and state.applied is not was.applied:
                fields = row.log_applied(state.applied, was.value)
                self._events.emit(row.applied_event, **labels, **fields)
            elif state.refused is not None and state.refused is not was.refused:
                fields = row.log_refused(was.value)
                reason = state.refused.reason
                self._events.emit(row.refused_event, **labels, **fields, reason=reason)
