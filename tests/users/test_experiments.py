"""When Redis is asked which experiment a phase was under."""

import asyncio
from collections.abc import Mapping

import pytest

from tests.users.test_counting import EXPERIMENTS
from workers.ranking.experiment import Experiment
from workers.users import experiments as module
from workers.users.experiments import Experiments


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_a_phase_that_is_not_found_is_asked_for_ever_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    asked_at: list[float] = []

    def read(_surface: str) -> Mapping[str, Experiment]:
        asked_at.append(clock.now - 100.0)
        return {}

    async def run() -> None:
        experiments = Experiments(read)
        for _ in range(160):
            assert await experiments.find("home", "00000000000a") is None
            clock.now += 0.5

    asyncio.run(run())
    assert asked_at == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0]


def test_a_phase_that_is_found_is_never_asked_for_again() -> None:
    calls: list[str] = []

    def read(surface: str) -> Mapping[str, Experiment]:
        calls.append(surface)
        return EXPERIMENTS

    async def run() -> None:
        experiments = Experiments(read)
        for phase, experiment in EXPERIMENTS.items():
            assert await experiments.find("home", phase) == experiment

    asyncio.run(run())
    assert calls == ["home"]


def test_without_redis_no_phase_is_known() -> None:
    assert asyncio.run(Experiments(None).find("home", "00000000000a")) is None
