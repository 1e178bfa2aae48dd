"""Redis goes away in mid-stream, in three ways, and comes back."""

import random
import time
from dataclasses import dataclass

from tests.rig.process import pause
from tests.rig.redis import RedisServer
from tests.rig.statuses import Statuses
from tests.rig.times import MS
from tests.trial.steering.operators import Operators
from tests.trial.steering.plan import Texts
from tests.trial.workload import SURFACE


@dataclass(frozen=True)
class Outage:
    """What happened. `version` was in force before. Moments in ns since the epoch.

    Redis is `gone`, then `back`. A new set is written at `written`; until then a Redis that was
    started again is empty. All workers are under the new set at `applied`. `reported_ms` after its
    return all workers have a status again; None if the set was written at once.
    """

    name: str
    version: str
    gone: int
    back: int
    written: int
    applied: int
    reported_ms: float | None = None

    @property
    def applied_ms(self) -> float:
        """How long it took all workers to be under the new set, from its writing."""
        return (self.applied - max(self.back, self.written)) / MS


@dataclass(frozen=True)
class Outages:
    """Makes outages. Each lasts `seconds`; an empty Redis is left empty for as long.

    Up to a second more is drawn for each. Workers try again twice a second, and must not be met in
    step with that.
    """

    redis: RedisServer
    operators: Operators
    statuses: Statuses
    workers: int
    seconds: float
    draw: random.Random

    def killed(self, texts: Texts) -> Outage:
        """SIGKILL, started again, and left empty."""
        version, gone = self._begin()
        self._kill()
        back = self._restart()

        self._wait_until_applied()
        reported_ms = (time.time_ns() - back) / MS
        pause(self.seconds)
        return self._end("killed, left empty", texts, version, gone, back, reported_ms)

    def frozen(self, texts: Texts) -> Outage:
        """SIGSTOP, SIGCONT."""
        version, gone = self._begin()
        self.redis.freeze()
        self._last()
        back = self.redis.thaw()
        return self._end("frozen", texts, version, gone, back)

    def replaced(self, texts: Texts) -> Outage:
        """SIGKILL, started again, and another set written at once."""
        version, gone = self._begin()
        self._kill()
        back = self._restart()
        return self._end("killed, set at once", texts, version, gone, back)

    def _begin(self) -> tuple[str, int]:
        """The version that all workers are under, and the moment from which Redis is gone."""
        self._wait_until_applied()
        return self.operators.history.version_in_force, time.time_ns()

    def _kill(self) -> None:
        self.redis.kill()
        self.operators.lost()

    def _restart(self) -> int:
        self._last()
        return self.redis.start()

    def _last(self) -> None:
        pause(self.seconds + self.draw.random())

    def _end(
        self,
        name: str,
        texts: Texts,
        version: str,
        gone: int,
        back: int,
        reported_ms: float | None = None,
    ) -> Outage:
        """Write a new set, and wait until all workers are under it."""
        written = self.operators.hset(texts)
        applied_at = self._wait_until_applied()
        applied = (applied_at + 1) * MS
        return Outage(name, version, gone, back, written, applied, reported_ms)

    def _wait_until_applied(self) -> int:
        """Wait until all workers are under the set in force. Returns since when (ms)."""
        version = self.operators.history.version_in_force
        statuses = self.statuses.wait_until_applied(SURFACE, version, self.workers)
        return max(status.surfaces[SURFACE].applied_at for status in statuses)
