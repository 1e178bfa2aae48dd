"""How much traffic a verdict needs."""

import math

import numpy as np
import pytest

from workers.outcomes.planning import (
    TrafficPlan,
    design_effect,
    needed_error,
    plan_traffic,
)
from workers.outcomes.statistics import Effect, Ratio, always_valid_interval, always_valid_z


def plan(**changes: float) -> TrafficPlan:
    values = {
        "lift": 0.03,
        "rate": 0.05,
        "design_effect": 3.0,
        "seen_per_day": 1e6,
        "share": 0.5,
        "control_share": 0.5,
        "tuned_for": 0.10,
    }
    return plan_traffic(**(values | changes))


def test_three_percent_at_a_take_rate_of_five_need_a_million_items_seen() -> None:
    assert plan().seen_once == pytest.approx(1.02e6, rel=0.01)
    assert plan().days_once == pytest.approx(2.05, abs=0.01)


def test_the_number_for_one_look_is_that_of_the_textbook() -> None:
    """(z_0.975 + z_0.8)^2 * g * 2 (1 - r) / r / log(1.03)^2."""
    expected = (1.959964 + 0.841621) ** 2 * 3 * 2 * 0.95 / 0.05 / math.log(1.03) ** 2
    assert plan().seen_once == pytest.approx(expected, rel=1e-5)


def test_looking_all_the_time_costs_about_twice_as_much() -> None:
    assert plan(tuned_for=0.03).factor == pytest.approx(1.94, abs=0.01)
    assert plan().factor == pytest.approx(2.26, abs=0.01)
    assert plan(tuned_for=0.20).factor == pytest.approx(2.49, abs=0.01)


@pytest.mark.parametrize("tuned_for", [0.03, 0.10])
def test_of_simulated_experiments_four_fifths_are_decided_with_this_traffic(
    tuned_for: float,
) -> None:
    """The z of one experiment is a Brownian motion with drift. The last look alone has the planned
    power, the looks before it only add to that.
    """
    looks = 200
    streams = 5_000
    theta = math.log(1.03)
    information = needed_error(theta, tuned_for, 0.8) ** -2
    steps = np.random.default_rng(1).normal(
        theta * information / looks, math.sqrt(information / looks), size=(streams, looks)
    )
    so_far = information * np.arange(1, looks + 1) / looks
    z = steps.cumsum(axis=1) / np.sqrt(so_far)
    limits = np.array([always_valid_z(number**-0.5, tuned_for) for number in so_far])
    assert np.mean(z[:, -1] > limits[-1]) == pytest.approx(0.8, abs=0.02)
    assert 0.82 < np.mean((z > limits).any(axis=1)) < 0.92


def test_the_needed_error_is_where_the_interval_just_excludes_no_difference() -> None:
    error = needed_error(0.1, 0.05)
    assert always_valid_interval(Effect(0.1, error), 0.05).low == pytest.approx(0, abs=1e-9)


def test_a_small_arm_needs_fewer_items_of_its_own_and_more_days() -> None:
    small = plan(share=0.05, control_share=0.95)
    assert small.seen_always < plan().seen_always
    assert small.days_always is not None
    assert plan().days_always is not None
    assert small.days_always > 5 * (plan().days_always or 0)


def test_without_traffic_there_are_no_days() -> None:
    assert plan(seen_per_day=0).days_once is None
    assert plan(seen_per_day=0).days_always is None


def test_a_loss_can_be_planned_for_too() -> None:
    assert plan(lift=-0.03).seen_once == pytest.approx(plan(lift=1 / 0.97 - 1).seen_once)


@pytest.mark.parametrize(
    "changes",
    [
        {"lift": 0.0},
        {"lift": -1.0},
        {"rate": 0.0},
        {"rate": 1.0},
        {"share": 0.0},
        {"share": 1.0},
        {"control_share": 0.6},
        {"seen_per_day": -1.0},
        {"tuned_for": 0.0},
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_the_name_of_the_value(
    changes: dict[str, float],
) -> None:
    (name,) = changes
    with pytest.raises(ValueError, match=f"{name}: got"):
        plan(**changes)


def test_the_design_effect_is_one_if_every_item_is_by_itself() -> None:
    assert design_effect(Ratio(0.2, 0.2 * 0.8 / 1_000), 1_000) == pytest.approx(1)
