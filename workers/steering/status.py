"""What a worker says of itself under `workers:status:{worker}`: schemas/worker-status.schema.json."""

from collections.abc import Mapping

import msgspec

from workers.ranking.experiment import Experiment
from workers.ranking.weights import Weights
from workers.steering.standing import Refused, Source, Standing
from workers.steering.surface_standing import SurfaceStanding


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


class SurfaceStatus(WeightsStatus, frozen=True):
    """A surface: its own weights beside its experiment and the arms' weights."""

    experiment: ExperimentStatus
    arms: Mapping[str, WeightsStatus]


def encode(
    worker: str, at: int, pushes: bool, standings: Mapping[str, SurfaceStanding], report: Mapping[str, object]
) -> bytes:
    """The status as JSON; `at` in milliseconds since the epoch, `pushes` False where only the poll brings changes.

    The worker's own `report` (models, partitions, lag...) stands beside; it must be what JSON can carry.
    """
    surfaces = {name: _surface(standing) for name, standing in standings.items()}
    return msgspec.json.encode({**report, "worker": worker, "at": at, "pushes": pushes, "surfaces": surfaces})


def _surface(standing: SurfaceStanding) -> SurfaceStatus:
    arms = {arm: _weights(one) for arm, one in standing.arms.items()}
    own = msgspec.structs.asdict(_weights(standing.weights))
    return SurfaceStatus(**own, experiment=_experiment(standing.experiment), arms=arms)


def _weights(standing: Standing[Weights]) -> WeightsStatus:
    applied, refused = standing.applied, standing.refused
    if applied is None:
        return WeightsStatus(None, None, None, None, None, refused)
    weights = applied.value
    return WeightsStatus(weights.version, weights.values, applied.source, applied.at, applied.push_ms, refused)


def _experiment(standing: Standing[Experiment]) -> ExperimentStatus:
    applied, refused = standing.applied, standing.refused
    if applied is None:
        return ExperimentStatus(None, None, None, None, None, refused)
    experiment = applied.value
    arms = {arm: experiment.percent(arm) for arm in experiment.shares}
    return ExperimentStatus(experiment.salt, arms, applied.source, applied.at, applied.push_ms, refused)
