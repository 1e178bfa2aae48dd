"""Verdicts and guard rails are honest while somebody looks all the time.

Readers are simulated (`readers.py`), with seeds. Each test also shows a method that would fail.
"""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from tests.outcomes.readers import ArmStream, Readers
from workers.outcomes.cluster_counts import ClusterCounts
from workers.outcomes.comparison import compare_by_hour
from workers.outcomes.plan import GuardRail, Plan
from workers.outcomes.rails import RailStanding, judge_rails
from workers.outcomes.statistics import (
    Effect,
    always_valid_interval,
    lift_effect,
    ratio,
)

LOOKS = 60
TAU = 0.1
LEAST_TAKES = 100
READERS = Readers(count=3_000, looks=LOOKS)


def effects(control: ArmStream, arm: ArmStream) -> list[Effect]:
    """The effect at each look from 100 takes on."""
    found = []
    takes = np.minimum(control.takes.sum(axis=1), arm.takes.sum(axis=1))
    for look in np.flatnonzero(takes >= LEAST_TAKES):
        own = ratio(arm.takes[look], arm.seen[look])
        other = ratio(control.takes[look], control.seen[look])
        assert own is not None
        assert other is not None
        effect = lift_effect(own, other)
        assert effect is not None
        found.append(effect)
    return found


def first_winner(looks: Sequence[Effect]) -> int:
    """1 if the arm is better at the first look that decides, -1 if it is worse, 0 if none does."""
    for effect in looks:
        interval = always_valid_interval(effect, TAU)
        if interval.low > 0:
            return 1
        if interval.high < 0:
            return -1
    return 0


def is_ever_significant(control: ArmStream, arm: ArmStream) -> bool:
    """Whether a z-test of two proportions, over items seen, has p < 0.05 at any look."""
    takes = np.stack([control.takes.sum(axis=1), arm.takes.sum(axis=1)])
    seen = np.stack([control.seen.sum(axis=1), arm.seen.sum(axis=1)])
    pooled = takes.sum(axis=0) / seen.sum(axis=0)
    error = np.sqrt(pooled * (1 - pooled) * (1 / seen).sum(axis=0))
    rates = takes / seen
    z = (rates[1] - rates[0]) / error
    return bool((np.abs(z)[takes.min(axis=0) >= LEAST_TAKES] > 1.96).any())


def test_of_a_thousand_experiments_without_a_difference_at_most_fifty_get_a_winner() -> None:
    generator = np.random.default_rng(20_261)
    winners = 0
    significant = 0
    for _ in range(1_000):
        control, arm = READERS.stream(generator)
        winners += first_winner(effects(control, arm)) != 0
        significant += is_ever_significant(control, arm)
    assert winners <= 50
    assert significant > 200


def test_a_lift_of_a_fifth_is_found_and_never_for_the_wrong_arm() -> None:
    generator = np.random.default_rng(20_262)
    found = []
    for _ in range(150):
        control, arm = READERS.stream(generator, lift=0.2)
        found.append(first_winner(effects(control, arm)))
    assert found.count(-1) == 0
    assert found.count(1) >= 0.2 * len(found)


def test_readers_who_come_back_in_ten_phases_make_no_winner() -> None:
    """They are the same witnesses in each phase. Variances that are added up phase by phase, as if
    each phase had readers of its own, would call a winner far too often.
    """
    phases = 10
    readers = Readers(count=2_000, looks=phases, seen_per_look=20.0)
    generator = np.random.default_rng(20_263)
    winners = 0
    winners_by_phase = 0
    for _ in range(200):
        control, arm = readers.stream(generator)
        hours = {}
        precision = 0.0
        weighted = 0.0
        for look in range(phases):
            counts = {"control": control.counts(look), "canary": arm.counts(look)}
            hours[look] = {f"phase-{look}": counts}

            own = ratio(counts["canary"].takes, counts["canary"].seen)
            other = ratio(counts["control"].takes, counts["control"].seen)
            assert own is not None
            assert other is not None
            effect = lift_effect(own, other)
            assert effect is not None
            precision += effect.error**-2
            weighted += effect.theta * effect.error**-2

        looks = compare_by_hour(hours, "canary", "control").values()
        winners += first_winner([look.effect for look in looks if look.effect is not None]) != 0
        added_up = Effect(weighted / precision, math.sqrt(1 / precision))
        winners_by_phase += first_winner([added_up]) != 0
    assert winners <= 10
    assert winners_by_phase > 20


# Guard rails, looked at all the time


def stopped(
    rail: str, readers: Readers, *, share: float, lift: float, streams: int, seed: int
) -> float:
    """The part of the streams in which the rail is ever broken."""
    plan = Plan("s", tuned_for=TAU, rails=(GuardRail.parse(rail),))
    generator = np.random.default_rng(seed)
    count = 0
    for _ in range(streams):
        control, arm = readers.stream(generator, share=share, lift=lift)
        totals = {"control": ClusterCounts(), "canary": ClusterCounts()}
        for look in range(readers.looks):
            totals["control"].add(control.counts(look))
            totals["canary"].add(arm.counts(look))
            (state,) = judge_rails(plan, {"phase": totals}, "canary")
            if state.standing is RailStanding.BROKEN:
                count += 1
                break
    return count / streams


FEW = Readers(count=3_000, looks=15, seen_per_look=8.0)
ALIKE = Readers(count=3_000, looks=15, seen_per_look=8.0, tail=0.3, tastes=100.0)


@pytest.mark.parametrize("readers", [FEW, ALIKE])
@pytest.mark.parametrize(
    ("rail", "lift"),
    [("take_rate >= -2%", -0.02), ("take_rate <= +10%", 0.1), ("take_rate >= 5%", 0.0)],
)
def test_an_arm_that_is_exactly_at_its_bound_is_hardly_ever_stopped(
    readers: Readers, rail: str, lift: float
) -> None:
    assert stopped(rail, readers, share=0.1, lift=lift, streams=60, seed=20_264) <= 0.05


def test_an_arm_with_few_events_that_does_no_harm_is_hardly_ever_stopped() -> None:
    """At the bound it would have 20 to 300 takes, so it is judged by the rule for few events."""
    readers = Readers(count=6_000, looks=15, seen_per_look=2.0, tail=0.3, tastes=100.0)
    part = stopped("take_rate >= -2%", readers, share=0.05, lift=-0.02, streams=100, seed=20_265)
    assert part <= 0.05


def test_an_arm_that_nobody_takes_anything_from_is_stopped() -> None:
    assert stopped("take_rate >= -2%", FEW, share=0.1, lift=-1.0, streams=30, seed=20_266) > 0.9
