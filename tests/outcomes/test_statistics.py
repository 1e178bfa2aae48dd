"""The formulas, held against published numbers and against sums that are written apart."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.outcomes.statistics import (
    ALPHA,
    Effect,
    Ratio,
    always_valid_interval,
    always_valid_p,
    always_valid_z,
    as_lift,
    lift_effect,
    log_e_value,
    phase_weights,
    ratio,
    stratified_ratio,
    wilson_interval,
)

NORMAL = NormalDist()


def clusters(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float64)


def certain(found: Ratio | None) -> Ratio:
    assert found is not None
    return found


def effect_of(treatment: Ratio | None, control: Ratio | None) -> Effect:
    found = lift_effect(certain(treatment), certain(control))
    assert found is not None
    return found


# One arm


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"), [(0, 25, 0.0, 0.1332), (1, 10, 0.0179, 0.4042)]
)
def test_the_wilson_interval_is_the_published_one(
    successes: int, trials: int, low: float, high: float
) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_a_rate_that_cannot_be_is_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, trials)


def test_the_variance_is_that_of_the_delta_method() -> None:
    takes = clusters(2, 1, 1, 4)
    seen = clusters(10, 10, 5, 15)
    # Residuals 0, -1, 0, 1: 4/3 * 2 / 40^2.
    assert ratio(takes, seen) == pytest.approx((0.2, 4 / 3 * 2 / 1600))


def test_an_empty_cluster_is_a_cluster_too() -> None:
    with_empty = certain(ratio(clusters(2, 1, 1, 4, 0), clusters(10, 10, 5, 15, 0)))
    without = certain(ratio(clusters(2, 1, 1, 4), clusters(10, 10, 5, 15)))
    assert with_empty.value == without.value
    assert with_empty.variance == pytest.approx(without.variance * (5 / 4) / (4 / 3))


def test_the_variance_is_the_jackknife_one_if_clusters_are_many() -> None:
    generator = np.random.default_rng(1)
    seen = generator.integers(50, 150, size=256).astype(float)
    takes = generator.binomial(seen.astype(int), generator.beta(2, 18, size=256)).astype(float)
    leave_one_out = (takes.sum() - takes) / (seen.sum() - seen)
    jackknife = 255 / 256 * np.sum((leave_one_out - leave_one_out.mean()) ** 2)
    assert certain(ratio(takes, seen)).variance == pytest.approx(jackknife, rel=0.02)


def test_without_a_denominator_there_is_no_ratio() -> None:
    assert ratio(clusters(0, 0), clusters(0, 0)) is None


def test_no_takes_at_all_are_a_ratio_of_zero_without_a_logarithm() -> None:
    none = certain(ratio(clusters(0, 0), clusters(5, 5)))
    assert none == (0.0, 0.0)
    assert lift_effect(none, Ratio(0.1, 0.001)) is None
    assert lift_effect(Ratio(0.1, 0.001), none) is None
    assert lift_effect(Ratio(-0.1, 0.001), Ratio(0.1, 0.001)) is None


# Phases


def test_a_single_phase_counts_the_same_with_any_weight() -> None:
    takes = clusters(1, 0, 2, 1)
    seen = clusters(10, 5, 20, 5)
    for weight in (0.001, 7.0):
        assert stratified_ratio(takes[None], seen[None], clusters(weight)) == pytest.approx(
            ratio(takes, seen)
        )


def test_phases_are_weighted_and_not_pooled() -> None:
    takes = np.array([[1.0, 1.0], [30.0, 30.0]])
    seen = np.array([[10.0, 10.0], [100.0, 100.0]])
    found = certain(stratified_ratio(takes, seen, clusters(1, 1)))
    assert found.value == pytest.approx((0.1 + 0.3) / 2)


def test_users_who_come_back_in_the_next_phase_are_no_new_witnesses() -> None:
    """The same clusters with the same deviations twice: the variance is that of once."""
    takes = clusters(2, 1, 1, 4)
    seen = clusters(10, 10, 5, 15)
    once = ratio(takes, seen)
    twice = stratified_ratio(np.stack([takes, takes]), np.stack([seen, seen]), clusters(1, 1))
    assert twice == pytest.approx(once)


def test_a_phase_in_which_one_arm_has_no_data_counts_for_nothing() -> None:
    assert phase_weights(clusters(10, 0, 30), clusters(10, 50, 10)) == pytest.approx([5, 0, 7.5])
    takes = np.array([[1.0, 2.0], [0.0, 0.0]])
    seen = np.array([[10.0, 20.0], [0.0, 0.0]])
    assert stratified_ratio(takes, seen, clusters(5, 0)) == pytest.approx(ratio(takes[0], seen[0]))
    assert stratified_ratio(takes, seen, clusters(0, 0)) is None


def test_the_mix_of_phases_does_not_make_an_effect() -> None:
    """The canary grows while all rates rise. Pooled it would be better by a quarter."""
    rates = clusters(0.05, 0.10)
    canary_seen = np.array([[500.0, 500.0], [5000.0, 5000.0]])
    control_seen = np.array([[9500.0, 9500.0], [5000.0, 5000.0]])
    weights = phase_weights(canary_seen.sum(axis=1), control_seen.sum(axis=1))
    canary = stratified_ratio(canary_seen * rates[:, None], canary_seen, weights)
    control = stratified_ratio(control_seen * rates[:, None], control_seen, weights)
    assert effect_of(canary, control).theta == pytest.approx(0)


# Two arms, whenever one looks


def test_the_interval_is_that_of_growthbook() -> None:
    interval = always_valid_interval(Effect(0.50386, 0.033860), tau=0.108433)
    assert interval == pytest.approx((0.40098, 0.60675), abs=1e-5)


def test_on_the_log_scale_the_data_of_growthbook_give_the_published_lift() -> None:
    def binomial(successes: int, trials: int) -> Ratio:
        rate = successes / trials
        return Ratio(rate, rate * (1 - rate) / trials)

    effect = effect_of(binomial(2422, 3461), binomial(1396, 3000))
    interval = always_valid_interval(effect, tau=0.108433)
    assert as_lift(effect.theta) == pytest.approx(0.504, abs=5e-4)
    assert as_lift(interval.low) == pytest.approx(0.403, abs=5e-4)
    assert as_lift(interval.high) == pytest.approx(0.612, abs=5e-4)


def test_four_clusters_by_hand() -> None:
    control = ratio(clusters(1, 0, 2, 1), clusters(10, 5, 20, 5))
    treatment = ratio(clusters(2, 1, 1, 4), clusters(10, 10, 5, 15))
    effect = effect_of(treatment, control)
    assert effect == pytest.approx((0.693147, 0.288675), abs=1e-6)

    interval = always_valid_interval(effect, tau=0.1)
    assert interval.high - effect.theta == pytest.approx(2.179030, abs=1e-6)
    assert effect.theta - interval.low == pytest.approx(2.179030, abs=1e-6)
    assert always_valid_p(effect, tau=0.1) == pytest.approx(0.777091, abs=1e-6)


def test_open_bandit_with_rows_as_units() -> None:
    rows = 10_000
    effect = effect_of(
        ratio((np.arange(rows) < 69).astype(float), np.ones(rows)),
        ratio((np.arange(rows) < 46).astype(float), np.ones(rows)),
    )
    margin = 1.959964 * effect.error
    assert as_lift(effect.theta) == pytest.approx(0.50)
    assert as_lift(effect.theta - margin) == pytest.approx(0.034, abs=5e-4)
    assert as_lift(effect.theta + margin) == pytest.approx(1.176, abs=5e-4)
    assert 2 * NORMAL.cdf(-effect.theta / effect.error) == pytest.approx(0.033, abs=5e-4)
    assert always_valid_p(effect, tau=0.1) == pytest.approx(0.69, abs=5e-3)


@pytest.mark.parametrize(
    ("theta", "error", "tau"), [(0.1, 0.05, 0.1), (-0.3, 0.1, 0.05), (0.02, 0.2, 0.5)]
)
def test_e_is_the_likelihood_ratio_averaged_over_a_normal_prior(
    theta: float, error: float, tau: float
) -> None:
    lifts = np.linspace(-12 * tau, 12 * tau, 200_001)
    prior = np.exp(-((lifts / tau) ** 2) / 2)
    prior /= prior.sum()
    ratios = np.exp((theta**2 - (theta - lifts) ** 2) / (2 * error**2))
    expected = math.log(float(prior @ ratios))
    assert log_e_value(Effect(theta, error), tau) == pytest.approx(expected, abs=1e-6)


EFFECTS = st.builds(Effect, st.floats(-20, 20), st.floats(1e-9, 1e3))
TAUS = st.floats(0.001, 1)


@settings(deadline=None)
@given(EFFECTS, TAUS)
def test_the_interval_excludes_no_difference_if_and_only_if_p_is_below_alpha(
    effect: Effect, tau: float
) -> None:
    interval = always_valid_interval(effect, tau)
    p = always_valid_p(effect, tau)
    assert 0 <= p <= 1
    assert math.isfinite(as_lift(interval.high))
    assert as_lift(interval.low) >= -1
    if abs(p - ALPHA) > 1e-9:
        assert (interval.low > 0 or interval.high < 0) == (p < ALPHA)


@settings(deadline=None)
@given(st.floats(1e-9, 1e3), TAUS)
def test_looking_all_the_time_is_never_free(error: float, tau: float) -> None:
    assert always_valid_z(error, tau) > 1.96


def test_without_any_error_the_interval_is_a_point() -> None:
    assert always_valid_interval(Effect(0.1, 0.0), tau=0.1) == (0.1, 0.1)
    assert always_valid_p(Effect(0.1, 0.0), tau=0.1) == 0
    assert always_valid_p(Effect(0.0, 0.0), tau=0.1) == 1


@pytest.mark.parametrize("count", [1e-300, 1.0, 1e15, 1e300])
def test_no_size_of_counts_overflows(count: float) -> None:
    with np.errstate(all="raise", under="ignore"):
        treatment = ratio(count * clusters(1, 2, 1), count * clusters(10, 10, 10))
        control = ratio(count * clusters(2, 1, 1), count * clusters(10, 10, 11))
    assert math.isfinite(effect_of(treatment, control).theta)


@pytest.mark.parametrize("effect", [Effect(5.0, 1e-300), Effect(-5.0, 1e-160), Effect(0, 1e300)])
def test_no_size_of_effects_overflows(effect: Effect) -> None:
    assert 0 <= always_valid_p(effect, tau=0.1) <= 1
    always_valid_interval(effect, tau=0.1)
