"""Redis goes away in mid-stream, in three ways, and comes back."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.trial.operators import Operators, pause
from tests.trial.own_redis import OwnRedis
from tests.trial.plan import Texts
from tests.trial.statuses import Statuses

_MS = 1_000_000


@dataclass(frozen=True)
class Outage:
    """What happened; `version` was in force before. Moments in ns since the epoch.

    Redis is `gone` and `back`; a new set is written at `written` (empty until then, where it
    started again) and all workers stand on it at `applied`. `heard`: all have a status again; None
    where the set was written at once.
    """

    name: str
    version: str
    gone: int
    back: int
    written: int
    applied: int
    heard_ms: float | None = None

    @property
    def applied_ms(self) -> float:
        """From Redis's return, or from when the set was written where that is later, to all workers
        standing on it.
        """
        return (self.applied - max(self.back, self.written)) / _MS


@dataclass(frozen=True)
class Outages:
    """How an outage is made: it lasts `seconds`, and an empty Redis is left empty for as long.

    Up to a second more is drawn for each: workers try again twice a second, and are not to be met
    in step with that.
    """

    redis: OwnRedis
    operators: Operators
    statuses: Statuses
    workers: int
    seconds: float
    now: Callable[[], int]
    draw: random.Random

    def killed(self, texts: Texts) -> Outage:
        """SIGKILL, started again, and left empty."""
        return self._outage("killed, left empty", texts, self._kill, self._start, self._hear)

    def frozen(self, texts: Texts) -> Outage:
        """SIGSTOP, SIGCONT."""
        return self._outage("frozen", texts, self.redis.freeze, self.redis.thaw, lambda _: None)

    def replaced(self, texts: Texts) -> Outage:
        """SIGKILL, started again, and another set written at once."""
        return self._outage("killed, set at once", texts, self._kill, self._start, lambda _: None)

    def _outage(
        self,
        name: str,
        texts: Texts,
        go: Callable[[], None],
        come: Callable[[], int],
        linger: Callable[[int], float | None],
    ) -> Outage:
        version = self.operators.ledger.in_force
        self.statuses.wait_for(version, self.workers)
        gone = self.now()
        go()
        pause(self.seconds + self.draw.random())
        back = come()
        heard = linger(back)
        written = self.operators.hset(texts)
        there = self.statuses.wait_for(self.operators.ledger.in_force, self.workers)
        applied = max(one.applied_at + 1 for one in there.values()) * _MS
        return Outage(name, version, gone, back, written, applied, heard)

    def _kill(self) -> None:
        self.redis.kill()
        self.operators.lost()

    def _start(self) -> int:
        return self.redis.start()

    def _hear(self, back: int) -> float:
        self.statuses.wait_for(self.operators.ledger.in_force, self.workers)
        heard = (self.now() - back) / _MS
        pause(self.seconds)
        return heard
