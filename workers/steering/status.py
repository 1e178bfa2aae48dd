"""What a worker says of itself under `workers:status:{worker}`: schemas/worker-status.schema.json."""

from collections.abc import Mapping

import msgspec

from workers.ranking.experiment import Experiment
from workers.ranking.pins import Pins
from workers.ranking.weights import Weights
from workers.steering.document_state import DocumentState, Refused, Source
from workers.steering.surface_state import SurfaceState


class WeightsStatus(msgspec.Struct, frozen=True):
    """The weights of a surface or an arm; null where an arm has never had a valid set."""

    version: str | None
    values: Mapping[str, float] | None
    source: Source | None
    applied_at: int | None
    push_ms: float | None
    refused: Refused | None


class ExperimentStatus(msgspec.Struct, frozen=True):
    """The experiment of a surface: null where none was ever valid; a percentage for each arm."""

    salt: str | None
    arms: Mapping[str, float] | None
    source: Source | None
    applied_at: int | None
    push_ms: float | None
    refused: Refused | None


class PinsStatus(msgspec.Struct, frozen=True):
    """The pinned models of a surface or an arm: null where none were ever valid; null, too, for
    `latest`.
    """

    versions: Mapping[str, int | None] | None
    source: Source | None
    applied_at: int | None
    push_ms: float | None
    refused: Refused | None


class SurfaceStatus(WeightsStatus, frozen=True):
    """A surface: its own weights and pins beside its experiment and both of each arm."""

    experiment: ExperimentStatus
    arms: Mapping[str, WeightsStatus]
    pins: PinsStatus = PinsStatus(None, None, None, None, None)
    arm_pins: Mapping[str, PinsStatus] = {}


class VersionStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of an objective's model, as a worker has it. `reason` and `message` say why it is
    refused.
    """

    state: str
    reason: str | None = None
    message: str | None = None

    @property
    def may_be_pinned(self) -> bool:
        """Whether it is verified, or not looked at yet: a pin has it verified."""
        return self.state in ("available", "loaded", "listed")


class PartitionStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker does with a partition: `reading`, `restoring`, `standing` or `failing`; for how
    long, and why.
    """

    state: str
    for_ms: int | None = None
    why: str | None = None

    @property
    def needs_help(self) -> bool:
        """Whether the partition is not read until somebody acts, or until a fault is over."""
        return self.state in ("standing", "failing")


class WorkerStatus(msgspec.Struct, frozen=True):
    """The whole of it. What has a default here is the worker's own report, which comes once it has
    begun to work.

    `at` in milliseconds since the epoch, by the worker's clock; `expiry_ms`: the time for which
    Redis was to keep the status. `lag`: records to be read, by partition; one whose end is not
    known yet is not in it. `models`: objective to version, by surface. `library`: what lies in the
    folder of models. `objectives`: by feature set, those that may be weighted beside the ones that
    a surface declares. `tally`: what was counted of models. `partition_states`: every partition
    that is assigned to the worker. `turned_ms`: for how many milliseconds the ranking loop has been
    `doing` the same thing.
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
    """Not the status of a worker of this version; the message says what was expected where."""


def decode(raw: bytes) -> WorkerStatus:
    """Read a status; keys that are not known are passed over. Raises StatusUnreadable."""
    try:
        return msgspec.json.decode(raw, type=WorkerStatus)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise StatusUnreadable(str(error)) from None


def encode(
    worker: str,
    at: int,
    expiry_ms: int,
    pushes: bool,
    standings: Mapping[str, SurfaceState],
    objectives: Mapping[str, tuple[str, ...]],
    report: Mapping[str, object],
) -> bytes:
    """The status as JSON; `at` in milliseconds since the epoch, `pushes` False where only the poll
    brings changes.

    `expiry_ms`: for how long it stands in Redis. `objectives`: by feature set, what its surfaces
    may weight. The worker's own `report` (models, partitions, lag...) stands beside; it must be
    what JSON can carry.
    """
    own = {
        "worker": worker,
        "at": at,
        "expiry_ms": expiry_ms,
        "pushes": pushes,
        "surfaces": {name: _surface(standing) for name, standing in standings.items()},
        "objectives": objectives,
    }
    return msgspec.json.encode({**report, **own})


def _surface(standing: SurfaceState) -> SurfaceStatus:
    return SurfaceStatus(
        **msgspec.structs.asdict(_weights(standing.own.weights)),
        experiment=_experiment(standing.experiment),
        arms={arm: _weights(one.weights) for arm, one in standing.arms.items()},
        pins=_pins(standing.own.models),
        arm_pins={arm: _pins(one.models) for arm, one in standing.arms.items()},
    )


def _pins(standing: DocumentState[Pins]) -> PinsStatus:
    applied, refused = standing.applied, standing.refused
    if applied is None:
        return PinsStatus(None, None, None, None, refused)
    return PinsStatus(applied.value.versions, applied.source, applied.at, applied.push_ms, refused)


def _weights(standing: DocumentState[Weights]) -> WeightsStatus:
    applied, refused = standing.applied, standing.refused
    if applied is None:
        return WeightsStatus(None, None, None, None, None, refused)
    weights = applied.value
    return WeightsStatus(
        weights.version, weights.values, applied.source, applied.at, applied.push_ms, refused
    )


def _experiment(standing: DocumentState[Experiment]) -> ExperimentStatus:
    applied, refused = standing.applied, standing.refused
    if applied is None:
        return ExperimentStatus(None, None, None, None, None, refused)
    experiment = applied.value
    return ExperimentStatus(
        experiment.salt, experiment.percents(), applied.source, applied.at, applied.push_ms, refused
    )
