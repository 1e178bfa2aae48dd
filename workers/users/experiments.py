"""Which experiment a phase was under, asked of Redis when the stage meets a phase that it does not
know.

| the phase                          | what happens                                              |
|------------------------------------|-----------------------------------------------------------|
| is known                           | answered from memory                                      |
| is not in the history              | None; asked again after 1 s, 2 s, 4 s, ... up to 60 s     |
| is unknown, Redis does not answer  | the stage waits and asks again each second                |
| there is no Redis                  | None, always                                              |

The phases of a surface are asked for once a second at most.

It waits for Redis, because a feed that is counted unchecked takes the verdict from its experiment
for good, while one that waits in the log only comes later.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from workers.log import log
from workers.ranking.experiment import Experiment

ReadExperiments = Callable[[str], Mapping[str, Experiment]]
"""Reads the phases of a surface and their experiments from Redis. It blocks, and raises
HistoryUnavailable if Redis does not answer.
"""

_SECONDS_BETWEEN = 1.0
_MOST_SECONDS = 60.0


class _Miss(NamedTuple):
    """A phase that was not found. It is asked for again after `seconds`, at `ask_at`."""

    seconds: float
    ask_at: float


class HistoryUnavailable(Exception):
    """Redis did not answer. The message says why."""


class Experiments:
    """The experiments of phases. `waits_for` says what it waits for, None if it does not wait."""

    def __init__(self, read: ReadExperiments | None) -> None:
        self._read = read
        self._known: dict[tuple[str, str], Experiment] = {}
        self._asked_at: dict[str, float] = {}
        self._misses: dict[tuple[str, str], _Miss] = {}
        self.waits_for: str | None = None

    async def find(self, surface: str, phase: str) -> Experiment | None:
        """The experiment of a phase, None if its document is not found."""
        known = self._known.get((surface, phase))
        if known is not None or self._read is None:
            return known

        now = time.monotonic()
        asked_at = self._asked_at.get(surface)
        if asked_at is not None and now - asked_at < _SECONDS_BETWEEN:
            return None

        miss = self._misses.get((surface, phase))
        if miss is not None and now < miss.ask_at:
            return None

        await self._ask(surface, phase, self._read)
        found = self._known.get((surface, phase))

        if found is None:
            seconds = _SECONDS_BETWEEN if miss is None else min(_MOST_SECONDS, 2 * miss.seconds)
            self._misses[surface, phase] = _Miss(seconds, time.monotonic() + seconds)

        if found is None and miss is None:
            log.warning(
                "phase_unknown",
                surface=surface,
                phase=phase,
                hint="its document is not in the history: its feeds are counted, not checked",
            )
        return found

    async def _ask(self, surface: str, phase: str, read: ReadExperiments) -> None:
        """Read the phases of a surface, as soon as Redis answers."""
        while True:
            try:
                experiments = await asyncio.to_thread(read, surface)
            except HistoryUnavailable as error:
                if self.waits_for is None:
                    log.warning(
                        "redis_unavailable", doing=f"reading phase {phase!r}", error=str(error)
                    )
                self.waits_for = f"Redis, for the document of phase {phase!r} of {surface!r}"
                await asyncio.sleep(_SECONDS_BETWEEN)
                continue
            break

        if self.waits_for is not None:
            log.info("redis_answers_again", doing=f"reading phase {phase!r}")
            self.waits_for = None
        self._asked_at[surface] = time.monotonic()
        for found, experiment in experiments.items():
            self._known[surface, found] = experiment
