"""What a worker says of itself under `workers:status:{worker}`: schemas/worker-status.schema.json."""

from collections.abc import Mapping

import msgspec

from workers.steering.standing import Refused, Source, Standing


class _SurfaceStatus(msgspec.Struct, frozen=True):
    version: str
    values: Mapping[str, float]
    source: Source
    applied_at: int
    refused: Refused | None


def encode(
    worker: str, at: int, pushes: bool, standings: Mapping[str, Standing], report: Mapping[str, object]
) -> bytes:
    """The status as JSON; `at` in milliseconds since the epoch, `pushes` False where only the poll brings changes.

    The worker's own `report` (models, partitions, lag...) stands beside; it must be what JSON can carry.
    """
    surfaces = {name: _surface(standing) for name, standing in standings.items()}
    return msgspec.json.encode({**report, "worker": worker, "at": at, "pushes": pushes, "surfaces": surfaces})


def _surface(standing: Standing) -> _SurfaceStatus:
    applied, weights = standing.applied, standing.applied.weights
    return _SurfaceStatus(weights.version, weights.values, applied.source, applied.at, standing.refused)
