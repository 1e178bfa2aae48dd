"""The owner of the models: swaps them by copies of folders, by commands, and by one weight."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.rig.environment import OBJECTIVES, Environment
from tests.rig.process import pause
from tests.rig.statuses import Statuses
from tests.rig.times import MS
from tests.trial.models.plan import ADDED, REASONS, Kind, Swap
from tests.trial.models.versions import build_version
from tests.trial.workload import SURFACE
from workers.steering import documents
from workers.steering.keys import Keys

WEIGHTS = {"quality": 0.4, "engagement": 0.4, ADDED: 0.2}
_WAIT_SECONDS = 30
_COMMANDS = {Kind.ACTIVATED: "activate", Kind.ROLLED_BACK: "rollback", Kind.LATEST: "activate"}


class Made(NamedTuple):
    """A swap that was made; moments in ns since the epoch.

    `began`: no worker can have known of it before. `complete`: the manifest was copied, or the pin or
    the weight was in Redis. `known`: all workers had reported that they score so, or refuse it.
    `named`: the version that a command named.
    """

    swap: Swap
    began: int
    complete: int
    known: int
    named: int


@dataclass(frozen=True)
class Owner:
    """Makes one swap after the other, each known to all workers before the next."""

    env: Environment
    client: Any
    keys: Keys
    statuses: Statuses
    workers: int

    def weigh(self) -> None:
        """Weights for the objectives that are there from the start."""
        self.client.hset(
            self._weights, mapping={objective: WEIGHTS[objective] for objective in OBJECTIVES}
        )

    def make(self, swap: Swap) -> Made:
        """Make a swap. Returns once all workers report what came of it."""
        pause(swap.pause)
        match swap.kind:
            case Kind.ADDED:
                return self._add(swap)
            case Kind.REMOVED:
                return self._weight(swap, lambda: self.client.hdel(self._weights, swap.objective))
            case Kind.ACTIVATED | Kind.ROLLED_BACK | Kind.LATEST:
                return self._command(swap)
            case _:
                return self._copied(swap)

    def refusals(self) -> dict[tuple[str, int], list[str | None]]:
        """By objective and version, why each worker refuses it, as `trimtab models status` says."""
        (document,) = self._trimtab("models", "status")
        refusals = {}
        for version in document["versions"]:
            reasons = [worker["reason"] for worker in version["workers"].values()]
            refusals[version["objective"], version["version"]] = reasons
        return refusals

    @property
    def _weights(self) -> str:
        return self.keys.document(SURFACE, documents.WEIGHTS)

    def _copied(self, swap: Swap) -> Made:
        began, complete = self._copy(swap)
        if swap.kind in REASONS:
            self.statuses.wait_until(
                lambda: (
                    self.statuses.states(swap.objective, swap.version) == ["refused"] * self.workers
                )
            )
        else:
            self._wait_until_scored(swap)
        return Made(swap, began, complete, time.time_ns(), swap.version)

    def _copy(self, swap: Swap) -> tuple[int, int]:
        """Copy a folder whose manifest comes last; the moments before and after the copy of the
        manifest (ns).
        """
        source = build_version(self.env.folder / "staged", swap)
        target = self.env.folder / "models" / swap.objective / str(swap.version)
        target.mkdir(parents=True)
        shutil.copyfile(source / "model.onnx", target / "model.onnx")
        pause(swap.gap)
        began = time.time_ns()
        shutil.copyfile(source / "manifest.json", target / "manifest.json")
        return began, time.time_ns()

    def _add(self, swap: Swap) -> Made:
        """A model first; and once all workers have it, a weight."""
        self._copy(swap)
        self.statuses.wait_until(lambda: self._have(swap))
        return self._weight(
            swap, lambda: self.client.hset(self._weights, swap.objective, WEIGHTS[swap.objective])
        )

    def _have(self, swap: Swap) -> bool:
        states = self.statuses.states(swap.objective, swap.version)
        return len(states) == self.workers and {*states} <= {"available", "loaded"}

    def _weight(self, swap: Swap, turn: Callable[[], object]) -> Made:
        began = time.time_ns()
        turn()
        complete = time.time_ns()
        self._wait_until_scored(swap)
        return Made(swap, began, complete, time.time_ns(), swap.version)

    def _command(self, swap: Swap) -> Made:
        versions = {
            Kind.ACTIVATED: [str(swap.version)],
            Kind.ROLLED_BACK: [],
            Kind.LATEST: ["latest"],
        }
        words = [
            "models",
            _COMMANDS[swap.kind],
            swap.objective,
            *versions[swap.kind],
            "--wait",
            str(_WAIT_SECONDS),
        ]
        (result,) = self._trimtab(*words)
        known = time.time_ns()
        pinned = self._pinned_at(result["revision"])
        version = result["version"]
        named = swap.version if version == "latest" else int(version)
        return Made(swap, pinned, pinned, known, named)

    def _pinned_at(self, revision: int) -> int:
        """When a change was written, by the history in Redis, which counts whole milliseconds."""
        entries = self.client.xrevrange(self.keys.history(SURFACE))
        (at,) = (at for at, fields in entries if int(fields["revision"]) == revision)
        return int(at.partition("-")[0]) * MS

    def _wait_until_scored(self, swap: Swap) -> None:
        self.statuses.wait_until(
            lambda: (
                [one.get(swap.objective, 0) for one in self.statuses.models(SURFACE)]
                == [swap.version] * self.workers
            )
        )

    def _trimtab(self, *words: str) -> list[dict[str, Any]]:
        ended = self.env.trimtab(*words, "--json")
        assert ended.returncode == 0, (words, ended.stderr)
        return [json.loads(line) for line in ended.stdout.splitlines()]
