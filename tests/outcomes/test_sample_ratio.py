"""The sample-ratio check: published numbers, edge cases, and its errors if one looks all the time."""

import math

import numpy as np
import pytest

from workers.outcomes.sample_ratio import ALARM, PhaseUsers, log_bayes_factor, sample_ratio_p

HALF = {"control": 5_000, "canary": 5_000}


def half(control: int, canary: int) -> PhaseUsers:
    return PhaseUsers({"control": control, "canary": canary}, HALF)


def test_the_published_numbers() -> None:
    assert math.exp(-log_bayes_factor(half(5_300, 4_700))) == pytest.approx(1.74e-4, rel=5e-3)
    assert sample_ratio_p([half(5_300, 4_700)]) == pytest.approx(1.74e-4, rel=5e-3)
    assert sample_ratio_p([half(5_000, 5_000)]) == 1


def test_the_factor_is_the_product_of_predictions_user_by_user() -> None:
    """What the Dirichlet prior predicts for each next user, against the share that was set."""
    shares = {"control": 9_000, "a": 700, "b": 300}
    arms = [*["control"] * 40, *["a"] * 5, *["b"] * 2, *["control"] * 3]
    expected = 0.0
    seen = dict.fromkeys(shares, 0)
    for count, arm in enumerate(arms):
        predicted = (shares[arm] + seen[arm]) / (10_000 + count)
        expected += math.log(predicted / (shares[arm] / 10_000))
        seen[arm] += 1
    assert log_bayes_factor(PhaseUsers(seen, shares)) == pytest.approx(expected, abs=1e-9)


def test_phases_are_judged_by_their_own_shares_and_multiplied() -> None:
    before = PhaseUsers({"control": 9_500, "canary": 500}, {"control": 9_500, "canary": 500})
    after = half(5_000, 5_000)
    assert sample_ratio_p([before, after]) == 1

    off = half(5_200, 4_800)
    assert sample_ratio_p([off]) > ALARM
    total = 2 * log_bayes_factor(off)
    assert sample_ratio_p([off, off]) == pytest.approx(math.exp(-total))


def test_an_arm_without_a_share_must_not_get_users() -> None:
    shares = {"control": 10_000, "canary": 0}
    assert sample_ratio_p([PhaseUsers({"control": 10**6, "canary": 0}, shares)]) == 1
    assert sample_ratio_p([PhaseUsers({"control": 10**6}, shares)]) == 1
    assert sample_ratio_p([PhaseUsers({"control": 10**6, "canary": 1}, shares)]) == 0
    assert sample_ratio_p([PhaseUsers({"control": 10**6, "unknown": 1}, shares)]) == 0


def test_without_users_nothing_is_wrong() -> None:
    assert sample_ratio_p([]) == 1
    assert sample_ratio_p([PhaseUsers({}, HALF)]) == 1


def test_billions_of_users_do_not_overflow() -> None:
    assert sample_ratio_p([half(5 * 10**11, 5 * 10**11)]) == 1
    assert sample_ratio_p([half(6 * 10**11, 4 * 10**11)]) == 0


LOOKS = 60
USERS_PER_LOOK = 500


def cumulative_users(share: float, streams: int, seed: int) -> np.ndarray:
    """Users of the first arm at each look of each stream."""
    new = np.random.default_rng(seed).binomial(USERS_PER_LOOK, share, size=(streams, LOOKS))
    return new.cumsum(axis=1)


def ever_alarmed(users: np.ndarray) -> float:
    """The part of the streams in which the check failed at some look. It was set to halves."""
    alarmed = 0
    for stream in users:
        for look, count in enumerate(stream, 1):
            rest = look * USERS_PER_LOOK - int(count)
            if sample_ratio_p([half(int(count), rest)]) < ALARM:
                alarmed += 1
                break
    return alarmed / len(users)


def test_looking_all_the_time_raises_no_false_alarm_but_a_chi_square_test_does() -> None:
    users = cumulative_users(0.5, streams=2_000, seed=1)
    assert ever_alarmed(users) <= ALARM

    expected = (1 + np.arange(LOOKS)) * USERS_PER_LOOK / 2
    chi_square = 2 * (users - expected) ** 2 / expected
    assert np.mean((chi_square > 10.828).any(axis=1)) > 3 * ALARM


def test_an_arm_that_loses_one_user_in_ten_is_noticed() -> None:
    assert ever_alarmed(cumulative_users(0.5 / 0.95, streams=200, seed=2)) > 0.9
