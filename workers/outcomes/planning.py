"""How much traffic a verdict needs.

The variance of a lift falls with the traffic. With r the take-rate, n_T and n_C the items seen in
the arm and in control, and g the design effect (how much larger the variance is than if every item
seen were independent of the others):

    s^2 = g * (1 - r) / r * (1 / n_T + 1 / n_C)

(The textbook's sample size for two proportions, such as Fleiss, Levin, Paik (2003), on the log scale.)
A lift is found with the probability `power` as soon as it is as large as the margin of its interval
plus z(power) standard errors. Margins are 1.96 standard errors if one looks once, at the end, and
`always_valid_z` of them if one looks all the time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

from workers.outcomes.statistics import ALPHA, Ratio, always_valid_z

POWER = 0.8
"""The probability with which a lift of the planned size is found."""
_NORMAL = NormalDist()
_STEPS = 200


def design_effect(rate: Ratio, trials: float) -> float:
    """How much larger the variance of a rate is than that of as many independent trials:

        variance / (r (1 - r) / trials)

    Raises ValueError if the rate is not between 0 and 1.
    """
    if not 0 < rate.value < 1:
        raise ValueError(f"rate: got {rate.value}, expected one between 0 and 1")
    return rate.variance * trials / (rate.value * (1 - rate.value))


def needed_error(theta: float, tau: float, power: float | None = None) -> float:
    """The largest standard error with which an effect of this size is decided while one looks all
    the time. With `power` None the effect is the measured one, otherwise the true one.
    """
    z_power = 0.0 if power is None else _NORMAL.inv_cdf(power)
    return _largest_error(lambda error: error * (always_valid_z(error, tau) + z_power), abs(theta))


@dataclass(frozen=True)
class TrafficPlan:
    """How much an arm needs to see until a lift is found with probability POWER.

    `seen_once` is for a look at the end only, `seen_always` for looking all the time, both in items
    seen by the arm. At `seen_always` the last look alone finds the lift with this probability. The
    looks before find it earlier more often than not. The days are None if there is no traffic.
    """

    lift: float
    tuned_for: float
    rate: float
    design_effect: float
    share: float
    seen_once: float
    seen_always: float
    days_once: float | None
    days_always: float | None

    @property
    def factor(self) -> float:
        """What looking all the time costs: how many times as much must be seen."""
        return self.seen_always / self.seen_once


def plan_traffic(
    *,
    lift: float,
    rate: float,
    design_effect: float,
    seen_per_day: float,
    share: float,
    control_share: float,
    tuned_for: float,
) -> TrafficPlan:
    """Plan for one arm beside control.

    `lift` is a fraction, negative if the arm is worse. `rate` is control's take-rate, `seen_per_day`
    the items seen on the whole surface, and the shares are those of all users, as fractions. Raises
    ValueError naming the value.
    """
    _check("lift", lift, lift > -1 and lift != 0, "a fraction above -1 other than 0")
    _check("rate", rate, 0 < rate < 1, "a take-rate between 0 and 1")
    _check("design_effect", design_effect, design_effect > 0, "more than 0")
    _check("seen_per_day", seen_per_day, seen_per_day >= 0, "0 or more")
    _check("share", share, 0 < share < 1, "a fraction between 0 and 1")
    _check("control_share", control_share, 0 < control_share <= 1 - share, "what is left, or less")
    _check("tuned_for", tuned_for, tuned_for > 0, "more than 0")

    theta = abs(math.log1p(lift))
    # s^2 = per_seen / n_T, with n_C = n_T * control_share / share.
    per_seen = design_effect * (1 - rate) / rate * (1 + share / control_share)
    error_once = theta / (_NORMAL.inv_cdf(1 - ALPHA / 2) + _NORMAL.inv_cdf(POWER))
    error_always = needed_error(theta, tuned_for, POWER)
    seen_once = per_seen / error_once**2
    seen_always = per_seen / error_always**2

    per_day = seen_per_day * share
    return TrafficPlan(
        lift=lift,
        tuned_for=tuned_for,
        rate=rate,
        design_effect=design_effect,
        share=share,
        seen_once=seen_once,
        seen_always=seen_always,
        days_once=seen_once / per_day if per_day else None,
        days_always=seen_always / per_day if per_day else None,
    )


def _largest_error(margin_of: Callable[[float], float], margin: float) -> float:
    """The error whose margin is this one. Margins grow with the error."""
    low = margin * 1e-6
    high = margin
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        if margin_of(middle) <= margin:
            low = middle
        else:
            high = middle
    return low


def _check(name: str, value: float, is_right: bool, expected: str) -> None:
    if not is_right:
        raise ValueError(f"{name}: got {value}, expected {expected}")
