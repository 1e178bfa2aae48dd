"""The report of an experiment: numbers, checks and verdicts."""

from collections.abc import Mapping

import pytest

from tests.outcomes.building import HOUR, PHASE, arm_hour, sums, users
from workers.outcomes.records import HOUR_MS, ArmHour
from workers.outcomes.report import (
    ArmReport,
    Counted,
    Report,
    Steered,
    Verdict,
    make_report,
)
from workers.outcomes.sums import Sums
from workers.outcomes.user_sums import UserSums
from workers.ranking.experiment import Experiment

HALVES = Experiment("salt-1", {"canary": 5_000})
STEERED = Steered(
    is_read=True, current=HALVES, experiments={PHASE: HALVES}, since=HOUR * HOUR_MS, plan=None
)
EQUAL_USERS = {arm_hour("control"): users(1_000), arm_hour("canary"): users(1_000)}
CONTROL = sums(seen=1_000, take_rate=0.05, spread=0.2)


def report(
    canary: Sums,
    control: Sums = CONTROL,
    *,
    over_users: Mapping[ArmHour, UserSums] | None = EQUAL_USERS,
    steered: Steered = STEERED,
    tuned_for: float | None = None,
) -> Report:
    feeds = {arm_hour("control"): control, arm_hour("canary"): canary}
    return make_report(Counted(feeds, over_users), steered, tuned_for=tuned_for)


def arm(made: Report, name: str = "canary") -> ArmReport:
    (found,) = [arm for arm in made.arms if arm.counts.arm == name]
    return found


def verdict_on(canary: Sums, **changes: object) -> Verdict | None:
    return arm(report(canary, **changes)).verdict  # type: ignore[arg-type]


def rate(take_rate: float) -> Sums:
    return sums(seen=1_000, take_rate=take_rate, spread=0.2)


# Verdicts


@pytest.mark.parametrize(
    ("take_rate", "verdict"),
    [
        (0.060, Verdict.BETTER),
        (0.040, Verdict.WORSE),
        (0.050, Verdict.NO_DIFFERENCE),
    ],
)
def test_the_interval_decides(take_rate: float, verdict: Verdict) -> None:
    assert verdict_on(rate(take_rate)) is verdict


def test_the_sentence_is_the_one_that_a_manager_reads() -> None:
    sentence = arm(report(rate(0.06))).sentence
    assert sentence == "canary: +20.0 % (95 %: +13.5 to +26.8), better"
