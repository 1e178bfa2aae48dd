"""What workers report of themselves: their statuses in Redis.

The fields that are read here are declared apart from the workers' own code. `StatusReader` checks
whole statuses against their schema.
"""

import json
from collections.abc import Callable
from typing import Any

import msgspec
from jsonschema import Draft202012Validator
from redis import Redis
from redis.exceptions import RedisError

from tests.docs.documents import ROOT
from tests.rig.environment import Environment
from tests.rig.process import Process, until

_SCHEMA = json.loads((ROOT / "schemas" / "worker-status.schema.json").read_text())
_PATIENCE_S = 30.0
_LOADING_PATIENCE_S = 300.0


class SurfaceStatus(msgspec.Struct):
    """The weights of a surface: their version, since when (ms), and the ms that a push took."""

    version: str
    applied_at: int
    push_ms: float | None


class VersionStatus(msgspec.Struct):
    """What a worker makes of one version of a model."""

    state: str


class WorkerStatus(msgspec.Struct):
    """The part of a status that is read here; `library` is what lies in the folder of models."""

    worker: str
    at: int
    surfaces: dict[str, SurfaceStatus]
    partitions: list[int] = []
    models: dict[str, dict[str, int]] = {}
    library: dict[str, dict[int, VersionStatus]] = {}
    counts: dict[str, int] = {}
    tally: dict[str, int] = {}

    def loaded(self) -> set[str]:
        """The objectives of which a model is loaded."""
        return {
            objective
            for objective, versions in self.library.items()
            if any(version.state == "loaded" for version in versions.values())
        }


decode_status = msgspec.json.Decoder(WorkerStatus).decode


class Statuses:
    """The statuses of all workers of an environment."""

    def __init__(self, client: Redis, prefix: str) -> None:
        self._client: Any = client
        self._prefix = prefix

    def all(self) -> list[WorkerStatus]:
        """The status of each worker that has one, in the order in which they came last."""
        workers: list[str] = self._client.zrange(f"{self._prefix}workers:live", 0, -1)
        if not workers:
            return []
        keys = [f"{self._prefix}workers:status:{worker}" for worker in workers]
        return [decode_status(text) for text in self._client.mget(keys) if text is not None]

    def owners(self) -> list[tuple[int, str]]:
        """Each partition with the worker that owns it, in order; twice if two say so."""
        return sorted(
            (partition, status.worker) for status in self.all() for partition in status.partitions
        )

    def weights_versions(self, surface: str) -> list[str]:
        """The version of the weights of a surface, for each worker."""
        return [status.surfaces[surface].version for status in self.all()]

    def models(self, surface: str) -> list[dict[str, int]]:
        """The version of each objective's model by which each worker scores a surface."""
        return [status.models.get(surface, {}) for status in self.all()]

    def states(self, objective: str, version: int) -> list[str | None]:
        """What each worker makes of a version of a model; None if it has not noticed it."""
        versions = [status.library.get(objective, {}).get(version) for status in self.all()]
        return [None if found is None else found.state for found in versions]

    def wait_until_applied(self, surface: str, version: str, workers: int) -> list[WorkerStatus]:
        """Wait until all `workers` workers rank a surface under a set of weights."""
        self.wait_until(lambda: self.weights_versions(surface) == [version] * workers)
        return self.all()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that the statuses say. Fails with them if it does not come."""
        until(condition, self.all, _PATIENCE_S)


def wait_for_status(
    env: Environment, process: Process, condition: Callable[[WorkerStatus], bool]
) -> WorkerStatus:
    """Wait until the status of the one worker is as it should be. It is written each second.

    A status of many surfaces is long: it is read only if it was written again.
    """
    live = f"{env.name}:workers:live"
    client: Any = env.redis_client()
    last: WorkerStatus | None = None
    seen: object = None

    def came() -> bool:
        nonlocal last, seen
        try:
            score = client.zrange(live, 0, -1, withscores=True)
            if score and score != seen:
                text = client.get(f"{env.name}:workers:status:{score[0][0]}")
                if text is not None:
                    last = decode_status(text)
                    seen = score
        except RedisError:  # what Redis does not answer is asked for again
            return False
        return last is not None and condition(last)

    process.wait_until(came, _LOADING_PATIENCE_S)
    assert last is not None
    return last


def is_available(env: Environment, objective: str, version: int) -> bool:
    """Whether all workers can score by a version of a model, as `trimtab models status` says. One
    that has not reported it yet cannot.
    """
    pattern = f"{env.name}:workers:status:*"
    live = len(list(env.redis_client().scan_iter(pattern)))
    (status,) = env.json_lines("models", "status")
    for entry in status["versions"]:
        if (entry["objective"], entry["version"]) == (objective, version):
            states = [worker["state"] for worker in entry["workers"].values()]
            return len(states) == live and set(states) <= {"available", "loaded"}
    return False


class StatusReader:
    """The status of the environment's one worker, as it is in Redis."""

    def __init__(self, env: Environment) -> None:
        self._redis = env.redis_client()
        self._pattern = f"{env.name}:workers:status:*"

    def now(self) -> dict[str, Any]:
        """The status, which must fit its schema; empty if there is none."""
        keys: Any = self._redis.keys(self._pattern)
        status: dict[str, Any] = json.loads(str(self._redis.get(keys[0]))) if keys else {}
        if status:
            Draft202012Validator(_SCHEMA).validate(status)
        return status

    def until(self, **fields: object) -> None:
        """Wait until the status has these fields."""
        until(lambda: fields.items() <= self.now().items(), self.now)
