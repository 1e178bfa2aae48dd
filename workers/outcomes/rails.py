"""Guard rails: where an arm is, compared with the bounds that its plan names.

Rules:
1. Each of k rails is judged by an interval that holds at all looks together with probability
   1 - 0.05 / k. So a harmless arm is stopped with a probability of at most 5 % over all its rails,
   however often one looks.
2. `>=` is broken if the upper limit is below the bound, and clear if the lower limit is not. `<=` is
   the other way round. Otherwise it is "not yet": nobody knows.
3. A rail is judged from 100 events on, of the arm and, if it is relative, of control, and from 30
   clusters with users on. Before that the approximations are not good enough.
4. A harmful arm may never have 100 events. So fewer than 100 are judged as if there were more: 100,
   or a quarter of what the bound would give if that is more. Only the limit that this moves towards the
   bound can then be relied on, and only that one is given. See `_raised`.
5. Relative rails compare with control phase by phase (`statistics.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from workers.outcomes.cluster_counts import ClusterCounts, MetricSums, PhaseCounts
from workers.outcomes.plan import Comparison, GuardRail, Plan
from workers.outcomes.statistics import (
    ALPHA,
    FloatArray,
    Ratio,
    always_valid_interval,
    as_lift,
    lift_effect,
    phase_weights,
    stratified_ratio,
)
from workers.outcomes.sums import CLUSTERS
from workers.ranking.experiment import CONTROL

LEAST_EVENTS = 100
LEAST_CLUSTERS = 30
_FEW_EVENTS = f"fewer than {LEAST_EVENTS} events"
_FEW_CLUSTERS = f"users in fewer than {LEAST_CLUSTERS} of the {CLUSTERS} clusters"


class RailStanding(StrEnum):
    """Where an arm is, compared with one bound."""

    BROKEN = "broken"
    CLEAR = "clear"
    NOT_YET = "not yet"


@dataclass(frozen=True)
class RailState:
    """One rail of one arm, with the numbers that people want to see.

    - `value` is the arm's rate or mean score, `control_value` control's if the rail is relative.
    - `low` and `high` are the limits of the arm's value, or of its lift over control as a fraction
      if the rail is relative, which is also the unit of the bound. None: not known.
    - `level` is the probability with which the limits hold at all looks together.
    - `events` is how many events the arm has, and `control_events` control if the rail is relative.
    - `reason` says why the rail is not judged yet, None if it is.
    """

    rail: GuardRail
    arm: str
    standing: RailStanding
    level: float
    value: float | None = None
    control_value: float | None = None
    low: float | None = None
    high: float | None = None
    events: int = 0
    control_events: int | None = None
    reason: str | None = None

    @property
    def text(self) -> str:
        """One sentence with the numbers."""
        sentence = f"{self.rail.text}: {self.standing}"
        if self.reason is not None:
            return f"{sentence}, {self.reason}"
        return f"{sentence}, {self._numbers()}"

    def _numbers(self) -> str:
        show = _lift_text if self.rail.is_relative else _value_text
        low = None if self.low is None else show(self.low)
        high = None if self.high is None else show(self.high)
        if low is None:
            limits = f"at most {high}"
        elif high is None:
            limits = f"at least {low}"
        else:
            limits = f"{low} to {high}"

        value = f"{_value_text(self.value)} from {self.events:,} events"
        if self.control_value is not None:
            value += f", control {_value_text(self.control_value)} from {self.control_events:,}"
        return f"{limits} ({self.level * 100:.4g} %): {value}"


def judge_rails(plan: Plan, counts: PhaseCounts, arm: str) -> tuple[RailState, ...]:
    """Judge every rail of the plan for one arm, in the order of the plan.

    `counts` has the phases of the plan's experiment only.
    """
    alpha = ALPHA / max(1, len(plan.rails))
    return tuple(_judge(rail, plan.tuned_for, alpha, counts, arm) for rail in plan.rails)


class _Side(NamedTuple):
    """A metric of one arm over all phases that count.

    - `base` is the denominator that would give the same variance in one phase: seen items, feeds or
      items.
    - `spread` is how much more the denominators vary between clusters than independent ones would.
    - `clusters` is how many clusters have a denominator.
    """

    ratio: Ratio
    events: float
    base: float
    spread: float
    clusters: int
    is_count: bool

    @property
    def has_few_events(self) -> bool:
        return self.events < LEAST_EVENTS

    @property
    def design_effect(self) -> float:
        """How much larger the variance is than that of independent events; at least 1.

        If there are too few events to measure it, it is assumed that all or none of a user's feeds
        have the event. Then it is the spread of the denominators.
        """
        if self.has_few_events:
            return max(1.0, self.spread)
        return max(1.0, self.ratio.variance * self.base / self.ratio.value)


def _judge(rail: GuardRail, tau: float, alpha: float, counts: PhaseCounts, arm: str) -> RailState:
    """Judge one rail. The first row that applies:

    | case                                                   | limits      |
    |--------------------------------------------------------|-------------|
    | no data, few clusters, few events, control's mean <= 0 | none        |
    | the arm's count or mean is too small for a logarithm   | upper limit |
    | control's count is too small for a logarithm           | lower limit |
    | otherwise                                              | both        |
    """
    own_sums = _metrics(rail, counts, arm)
    control_sums = _metrics(rail, counts, CONTROL)
    if rail.is_relative:
        weights = phase_weights(_denominators(own_sums), _denominators(control_sums))
        own = _side(own_sums, weights)
        control = _side(control_sums, weights)
    else:
        own = _side(own_sums, _denominators(own_sums))
        control = _side(control_sums, _denominators(control_sums))

    state = _unjudged(rail, alpha, arm, own, control)
    if state.reason is not None or own is None:
        return state

    # An absolute bound is a bound relative to a control of exactly 1.
    target = 1 + rail.bound if rail.is_relative else rail.bound
    reference = Ratio(1.0, 0.0)
    if rail.is_relative and control is not None:
        reference = control.ratio
    ratio = own.ratio
    lowest = target * reference.value / 4

    is_own_raised = own.has_few_events if own.is_count else ratio.value < lowest
    is_reference_raised = rail.is_relative and control is not None and control.has_few_events
    if is_own_raised:
        like = own if control is None or control.has_few_events else control
        ratio = _raised(own, lowest, like.design_effect)
    elif is_reference_raised and control is not None:
        reference = _raised(control, ratio.value / target / 4, own.design_effect)

    effect = lift_effect(ratio, reference)
    assert effect is not None
    limits = always_valid_interval(effect, tau, alpha)
    low = None if is_own_raised else limits.low
    high = None if is_reference_raised else limits.high
    show = as_lift if rail.is_relative else math.exp
    return replace(
        state,
        standing=_standing(rail, low, high, math.log(target)),
        low=None if low is None else show(low),
        high=None if high is None else show(high),
    )


def _raised(side: _Side, least: float, design_effect: float) -> Ratio:
    """The ratio of an arm that has too little for a logarithm, as if it had more.

    A rail that is broken with more events is broken with fewer: the arm is only further away from
    the bound. So any larger number is on the safe side, and its variance is known without the arm's
    own data: that of so many events, times the design effect. A quarter of the bound is far enough from
    it to decide soon. (The variance of the few events themselves would be a bad guess, and of no
    event it is 0.)

    The mean of scores has a variance however small it is, and keeps that.
    """
    if not side.is_count:
        return Ratio(least, side.ratio.variance)
    events = max(LEAST_EVENTS, least * side.base)
    value = events / side.base
    return Ratio(value, value * value * design_effect / events)


def _unjudged(
    rail: GuardRail, alpha: float, arm: str, own: _Side | None, control: _Side | None
) -> RailState:
    """The state without limits, and with the reason why it cannot be judged, if there is one."""
    state = RailState(rail, arm, RailStanding.NOT_YET, 1 - alpha)
    if own is None:
        return replace(state, reason="no data")
    state = replace(state, value=own.ratio.value, events=round(own.events))
    if not rail.is_relative:
        return replace(state, reason=_reason_of_absolute(rail, own))

    if control is None:
        return replace(state, reason="no data of control")
    state = replace(state, control_value=control.ratio.value, control_events=round(control.events))
    return replace(state, reason=_reason_of_relative(rail, own, control))


def _reason_of_absolute(rail: GuardRail, own: _Side) -> str | None:
    if own.clusters < LEAST_CLUSTERS:
        return _FEW_CLUSTERS
    if own.has_few_events and own.base * rail.bound < LEAST_EVENTS:
        return _FEW_EVENTS
    return None


def _reason_of_relative(rail: GuardRail, own: _Side, control: _Side) -> str | None:
    if min(own.clusters, control.clusters) < LEAST_CLUSTERS:
        return _FEW_CLUSTERS
    if not own.is_count and control.ratio.value <= 0:
        return "control's mean is not above 0: only an absolute bound can be judged"
    if own.has_few_events and control.has_few_events:
        return _FEW_EVENTS
    at_bound = own.base * control.ratio.value * (1 + rail.bound)
    if own.has_few_events and at_bound < LEAST_EVENTS:
        return _FEW_EVENTS
    return None


def _standing(rail: GuardRail, low: float | None, high: float | None, bound: float) -> RailStanding:
    """Compare limits and bound, all on the log scale."""
    is_below = high is not None and high < bound
    is_above = low is not None and low > bound
    at_least = rail.comparison is Comparison.AT_LEAST
    if is_below if at_least else is_above:
        return RailStanding.BROKEN
    if is_above if at_least else is_below:
        return RailStanding.CLEAR
    return RailStanding.NOT_YET


def _metrics(rail: GuardRail, counts: PhaseCounts, arm: str) -> list[MetricSums]:
    """The metric of one arm in each phase. All 0 in a phase in which the arm has no feeds."""
    return [by_arm.get(arm, ClusterCounts()).metric(rail.metric) for by_arm in counts.values()]


def _denominators(phases: Sequence[MetricSums]) -> FloatArray:
    return np.array([phase.denominators.sum() for phase in phases])


def _side(phases: Sequence[MetricSums], weights: FloatArray) -> _Side | None:
    """One arm over the phases that have a weight. None if there is none."""
    used = [phase for phase, weight in zip(phases, weights, strict=True) if weight > 0]
    weights = weights[weights > 0]
    if not used:
        return None
    numerators = np.stack([phase.numerators for phase in used])
    denominators = np.stack([phase.denominators for phase in used])
    ratio = stratified_ratio(numerators, denominators, weights)
    assert ratio is not None

    shares = weights / weights.sum()
    by_cluster = denominators.sum(axis=0)
    # A metric that is known in no feed of a phase has is_count there by default.
    is_count = all(phase.is_count for phase in used)
    events = numerators.sum() if is_count else denominators.sum()
    return _Side(
        ratio=ratio,
        events=float(events),
        base=float(1 / (shares**2 / denominators.sum(axis=1)).sum()),
        spread=float(by_cluster.var(ddof=1) / by_cluster.mean()),
        clusters=int(np.count_nonzero(by_cluster)),
        is_count=is_count,
    )


def _lift_text(lift: float) -> str:
    return f"{lift * 100:+.1f} %"


def _value_text(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.4g}"
