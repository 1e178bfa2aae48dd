"""The owner of the models: swaps them by copies of folders, by commands, and by one weight."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.bench.rig import OBJECTIVES
from tests.bench.runner import WORKER, Place
from tests.trial.judge import MS
from tests.trial.models.plan import ADDED, REASONS, Kind, Swap
from tests.trial.models.versions import build_version
from tests.trial.operators import SURFACE, pause
from tests.trial.statuses import Statuses
from workers.steering import documents
from workers.steering.keys import Keys

WEIGHTS = {"quality": 0.4, "engagement": 0.4, ADDED: 0.2}
_WAIT_SECONDS = 30
_COMMANDS = {Kind.ACTIVATED: "activate", Kind.ROLLED_BACK: "rollback", Kind.LATEST: "activate"}


class Made(NamedTuple):
    """A swap that was made; moments in ns since the epoch.

    `began`: before that, no worker can have heard of it. `complete`: the manifest was copied, or
    the pin or the weight was in Redis. `known`: all workers had said that they score so, or refuse.
    `told`: the version that a command named.
    """

    swap: Swap
    began: int
    complete: int
    known: int
    told: int


@dataclass(frozen=True)
class Owner:
    """One who makes one swap after the other, each known to all workers before the next."""

    place: Place
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
        """Make a swap; returns once all workers say what has come of it."""
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
        """By objective and version, why each worker refuses it, as `trimtab models status` tells."""
        (document,) = self._trimtab("models", "status")
        return {
            (found["objective"], found["version"]): [
                one["reason"] for one in found["workers"].values()
            ]
            for found in document["versions"]
        }

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
        source = build_version(self.place.folder / "staged", swap)
        target = self.place.models / swap.objective / str(swap.version)
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
        (said,) = self._trimtab(*words)
        known, pinned = time.time_ns(), self._pinned_at(said["revision"])
        told = swap.version if said["version"] == "latest" else int(said["version"])
        return Made(swap, pinned, pinned, known, told)

    def _pinned_at(self, revision: int) -> int:
        """When a change was written, by the history in Redis, which counts whole milliseconds."""
        entries = self.client.xrevrange(self.keys.history(SURFACE))
        (at,) = (at for at, fields in entries if int(fields["revision"]) == revision)
        return int(at.partition("-")[0]) * MS

    def _wait_until_scored(self, swap: Swap) -> None:
        self.statuses.wait_until(
            lambda: (
                [one.get(swap.objective, 0) for one in self.statuses.models()]
                == [swap.version] * self.workers
            )
        )

    def _trimtab(self, *words: str) -> list[dict[str, Any]]:
        ended = subprocess.run(
            [sys.executable, "-m", "workers.cli", *words, "--json"],
            env=os.environ | WORKER.settings(self.place),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, (words, ended.stderr)
        return [json.loads(line) for line in ended.stdout.splitlines()]
