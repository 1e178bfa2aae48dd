"""The formulas: variances over clusters, lifts, and intervals that hold whenever one looks.

The unit is the user. What one reader does today is no independent witness beside what she did
yesterday, so users are put into clusters (`sums.py`), and what varies is measured between clusters.
A cluster without any count is one of them too.

Sources:
- Deng, Knoblich, Lu (2018), Applying the Delta Method in Metric Analytics, section 3: ratios of sums
  over randomised units.
- Robbins (1970), Statistical methods related to the law of the iterated logarithm: the normal
  mixture. Johari, Koomen, Pekelis, Walsh (2017), Peeking at A/B tests: always-valid p.
  Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2024), Time-uniform central limit theory and
  asymptotic confidence sequences, eq. 9: why estimated variances are good enough.
- Wilson (1927), Probable inference, the law of succession, and statistical inference.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
"""The probability with which a wrong winner is called, at all looks together."""

FloatArray = NDArray[np.float64]

_Z_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
_LARGEST_LOG = 700.0
"""exp() of it is still a finite float64."""


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


# One arm


def wilson_interval(successes: int, trials: int) -> Interval:
    """The 95 % interval of a rate by Wilson (1927), without continuity correction.

    With rate p = successes / trials, n = trials and z = 1.96:

        (p + z^2 / 2n  -+  z * sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Raises ValueError if there is no trial, or if there are more successes than trials.
    """
    if not 0 <= successes <= trials or not trials:
        raise ValueError(f"successes: got {successes} of {trials}, expected 0 to {trials} of some")
    rate = successes / trials
    square = _Z_95 * _Z_95
    center = rate + square / (2 * trials)
    spread = _Z_95 * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials * trials))
    scale = 1 + square / trials
    low = max(0.0, (center - spread) / scale)
    high = min(1.0, (center + spread) / scale)
    return Interval(low, high)


class Ratio(NamedTuple):
    """A ratio of two sums, such as takes / items seen, and the variance of its estimate."""

    value: float
    variance: float

    @property
    def relative_variance(self) -> float:
        """The variance of its logarithm, by the delta method. The value must not be 0."""
        return self.variance / (self.value * self.value)


def ratio(numerators: FloatArray, denominators: FloatArray) -> Ratio | None:
    """The ratio of the sums over n clusters, r = sum(M_c) / sum(D_c).

    Both arrays have one number for each cluster, empty ones included. By the delta method:

        variance = n / (n - 1) * sum((M_c - r D_c)^2) / sum(D_c)^2

    None if the denominators add up to 0.
    """
    return stratified_ratio(numerators[np.newaxis], denominators[np.newaxis], np.ones(1))


def stratified_ratio(
    numerators: FloatArray, denominators: FloatArray, weights: FloatArray
) -> Ratio | None:
    """The weighted mean of the ratios of several phases, r = sum(w_i r_i) / sum(w_i).

    Both arrays have a row for each phase i and a column for each cluster c. The users of a cluster
    come back in later phases. So their residuals are added up over the phases before they are
    squared:

        e_c = sum over i of  w_i / sum(w) * (M_ic - r_i D_ic) / sum over c of D_ic
        variance = n / (n - 1) * sum(e_c^2)

    (Variances that are added up phase by phase would be too small.) A phase of weight 0 counts for
    nothing. None if all weights are 0, or if a phase with a weight has no denominator.
    """
    used = weights > 0
    if not used.all():
        numerators = numerators[used]
        denominators = denominators[used]
        weights = weights[used]
    totals = denominators.sum(axis=1)
    if not totals.size or not totals.all():
        return None

    shares = weights / weights.sum()
    ratios = numerators.sum(axis=1) / totals
    residuals = numerators - ratios[:, np.newaxis] * denominators
    by_cluster = (shares / totals) @ residuals

    clusters = by_cluster.size
    variance = clusters / (clusters - 1) * float(by_cluster @ by_cluster)
    return Ratio(float(shares @ ratios), variance)


def phase_weights(treatment: FloatArray, control: FloatArray) -> FloatArray:
    """How much each phase counts in a comparison, from the denominators of both arms by phase.

    They are the inverse variances that the phases would have if the arms did not differ:

        w_i = D_Ti D_Ci / (D_Ti + D_Ci)

    These are the weights of Mantel and Haenszel (1959). Weights made from the measured variances
    would favour phases in which an arm happened to have many takes, and a phase without takes would
    be lost. A phase in which only one of the arms has data has the weight 0.
    """
    both = treatment + control
    return np.divide(treatment * control, both, out=np.zeros_like(both), where=both > 0)


# Two arms


class Effect(NamedTuple):
    """The logarithm of a ratio of two values (theta), and its standard error (s)."""

    theta: float
    error: float


def lift_effect(treatment: Ratio, control: Ratio) -> Effect | None:
    """How much more the treatment has: theta = log(r_T / r_C), s^2 = the sum of both relative
    variances. None if a value is 0 or less, so that it has no logarithm.
    """
    if treatment.value <= 0 or control.value <= 0:
        return None
    theta = math.log(treatment.value) - math.log(control.value)
    return Effect(theta, math.sqrt(treatment.relative_variance + control.relative_variance))


def as_lift(theta: float) -> float:
    """The lift of an effect as a fraction, exp(theta) - 1. Cut off at exp(700), to stay finite."""
    return math.expm1(min(theta, _LARGEST_LOG))


# Whenever one looks


def log_e_value(effect: Effect, tau: float) -> float:
    """The logarithm of the evidence against "no difference":

        e = sqrt(s^2 / (s^2 + tau^2)) * exp(theta^2 tau^2 / (2 s^2 (s^2 + tau^2)))

    If nothing differs, e exceeds 1 / alpha at any of all looks with a probability of at most alpha.
    This needs a tau that was chosen before the data. Without any error (s = 0) it is infinite:
    minus infinity if theta is 0 too.
    """
    theta, error = effect
    if error == 0:
        return math.inf if theta else -math.inf

    both = math.hypot(error, tau)
    z = theta / error * (tau / both)
    return math.log(error / both) + z * z / 2


def always_valid_p(effect: Effect, tau: float) -> float:
    """p = min(1, 1 / e) of one look. The p of an experiment is the least of all looks so far."""
    log_e = log_e_value(effect, tau)
    return 1.0 if log_e <= 0 else math.exp(-log_e)


def always_valid_interval(effect: Effect, tau: float, alpha: float = ALPHA) -> Interval:
    """The interval of theta that holds at all looks together, with probability 1 - alpha:

        theta -+ s * sqrt((s^2 + tau^2) / tau^2 * 2 ln(sqrt((s^2 + tau^2) / s^2) / alpha))

    It excludes 0 if, and only if, e exceeds 1 / alpha.
    """
    theta, error = effect
    margin = error * always_valid_z(error, tau, alpha)
    return Interval(theta - margin, theta + margin)


def always_valid_z(error: float, tau: float, alpha: float = ALPHA) -> float:
    """Half the width of the interval in standard errors. It is 1.96 for an interval that may be
    looked at once. 0 without any error.
    """
    if error == 0:
        return 0.0
    both = math.hypot(error, tau)
    return both / tau * math.sqrt(2 * (math.log(both / error) - math.log(alpha)))
