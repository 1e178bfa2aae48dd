"""A worker's status, as it writes it under `workers:status:{worker}` and as tools read it.

schemas/worker-status.schema.json describes it. The structs are what tools read, and the order of
their fields is the order in the JSON text. Which document stands in which field is in documents.py.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from workers.steering.documents import FOLLOWED_KINDS, DocumentKind, Source
from workers.steering.surface_state import DocumentState, Refused, SurfaceState


class WeightsStatus(msgspec.Struct, frozen=True):
    """The weights of a surface or an arm: null for an arm that has never had valid ones."""

    version: str | None
    values: Mapping[str, float] | None
    source: Source | None
    applied_at: int | None
    push_ms: float | None
    refused: Refused | None


class ExperimentStatus(msgspec.Struct, frozen=True):
    """The experiment of a surface, with a percentage for each arm: null if none was ever valid."""

    salt: str | None
    arms: Mapping[str, float] | None
    source: Source | None
    applied_at: int | None
    push_ms: float | None
    refused: Refused | None


class PinsStatus(msgspec.Struct, frozen=True):
    """The pinned models of a surface or an arm: null if none were ever valid. The version of an
    objective is null for `latest`.
    """

    versions: Mapping[str, int | None] | None
    source: Source | None
    applied_at: int | None
    push_ms: float | None
    refused: Refused | None


class SurfaceStatus(WeightsStatus, frozen=True):
    """A surface: its own weights, experiment and pins, and the weights and pins of each arm."""

    experiment: ExperimentStatus
    arms: Mapping[str, WeightsStatus]
    pins: PinsStatus = PinsStatus(None, None, None, None, None)
    arm_pins: Mapping[str, PinsStatus] = {}


DocumentStatus = WeightsStatus | ExperimentStatus | PinsStatus


class DocumentField(NamedTuple):
    """A field of SurfaceStatus with the status of a document, or of one document an arm.

    `field` None: the status of the document is the SurfaceStatus itself.
    """

    kind: DocumentKind[Any]
    field: str | None
    of_arms: bool

    def documents_in(self, surface: SurfaceStatus) -> Mapping[str | None, DocumentStatus]:
        """The documents in this field, by their arms; None for the surface's own."""
        if self.field is None:
            return {None: surface}
        status: Any = getattr(surface, self.field)
        return status if self.of_arms else {None: status}


def _document_fields() -> tuple[DocumentField, ...]:
    fields = list[DocumentField]()
    for kind in FOLLOWED_KINDS:
        row = kind.followed.status
        fields.append(DocumentField(kind, row.own, of_arms=False))
        if row.arms is not None:
            fields.append(DocumentField(kind, row.arms, of_arms=True))

    order = (None, *SurfaceStatus.__struct_fields__)
    return tuple(sorted(fields, key=lambda one: order.index(one.field)))


DOCUMENT_FIELDS = _document_fields()
"""The fields that hold documents, in their order in the JSON text."""


class VersionStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of an objective's model, as a worker has it. `reason` and `message` say why it
    was refused.
    """

    state: str
    reason: str | None = None
    message: str | None = None

    @property
    def may_be_pinned(self) -> bool:
        """Whether it is verified, or not looked at yet: then a pin lets the worker verify it."""
        return self.state in ("available", "loaded", "listed")


class PartitionStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker does with a partition, for how long, and why. `state` is `reading`,
    `restoring`, `standing` (it is not read until somebody acts) or `failing`.
    """

    state: str
    for_ms: int | None = None
    why: str | None = None

    @property
    def needs_help(self) -> bool:
        """Whether the partition is not read until somebody acts, or until a fault is over."""
        return self.state in ("standing", "failing")


class WorkerStatus(msgspec.Struct, frozen=True):
    """The whole status. Fields with a default are the worker's own report, which comes once it
    works.

    - `at`: milliseconds since the epoch, by the worker's clock.
    - `expiry_ms`: after this time Redis drops the status.
    - `pushes`: whether Redis announces changes; if not, the worker sees them at its next poll.
    - `objectives`: by feature set, those that may be weighted beside the declared ones.
    - `lag`: records still to be read, by partition; without those whose end is not known yet.
    - `models`: by surface, the version in force of each objective.
    - `library`: by objective, the versions in the models folder.
    - `tally`: what was counted of models.
    - `partition_states`: every partition that is assigned to the worker.
    - `turned_ms`: for how many milliseconds the ranking loop has been `doing` the same thing.
    """

    worker: str
    at: int
    expiry_ms: int
    pushes: bool
    surfaces: Mapping[str, SurfaceStatus]
    objectives: Mapping[str, tuple[str, ...]] = {}
    group: str | None = None
    partitions: tuple[int, ...] = ()
    lag: Mapping[int, int] = {}
    open_requests: int = 0
    models: Mapping[str, Mapping[str, int]] = {}
    counts: Mapping[str, int] = {}
    library: Mapping[str, Mapping[int, VersionStatus]] = {}
    tally: Mapping[str, int] = {}
    partition_states: Mapping[int, PartitionStatus] = {}
    turned_ms: int | None = None
    doing: str | None = None


class StatusUnreadable(ValueError):
    """Not the status of a worker of this version. The message says what was expected."""


def decode(raw: bytes) -> WorkerStatus:
    """Read a status. Unknown keys are ignored. Raises StatusUnreadable."""
    try:
        return msgspec.json.decode(raw, type=WorkerStatus)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise StatusUnreadable(str(error)) from None


def encode(
    *,
    worker: str,
    at: int,
    expiry_ms: int,
    pushes: bool,
    states: Mapping[str, SurfaceState],
    objectives: Mapping[str, tuple[str, ...]],
    report: Mapping[str, object],
) -> bytes:
    """The status as JSON. WorkerStatus describes the fields.

    `report` is what the worker adds of its own: models, partitions, lag. JSON must be able to carry
    it.
    """
    surfaces = {name: _surface(state) for name, state in states.items()}

    own = {
        "worker": worker,
        "at": at,
        "expiry_ms": expiry_ms,
        "pushes": pushes,
        "surfaces": surfaces,
        "objectives": objectives,
    }
    return msgspec.json.encode({**report, **own})


def _surface(state: SurfaceState) -> dict[str, object]:
    fields: dict[str, object] = {}
    for kind, field, of_arms in DOCUMENT_FIELDS:
        if field is None:
            fields |= _document(kind, state.document(kind))
        elif of_arms:
            fields[field] = {arm: _document(kind, state.document(kind, arm)) for arm in state.arms}
        else:
            fields[field] = _document(kind, state.document(kind))
    return fields


def _document(kind: DocumentKind[Any], state: DocumentState[Any]) -> dict[str, object]:
    applied = state.applied
    return {
        **kind.followed.status.describe(state.value),
        "source": applied and applied.source,
        "applied_at": applied and applied.at,
        "push_ms": applied and applied.push_ms,
        "refused": state.refused,
    }
