"""Guard rails: which arms break them, which clear them, and of which nobody knows."""

import math

import pytest

from tests.outcomes.building import PHASE, counts
from workers.outcomes.cluster_counts import ClusterCounts, PhaseCounts
from workers.outcomes.plan import GuardRail, Plan
from workers.outcomes.rails import RailStanding, RailState, judge_rails
from workers.outcomes.statistics import Effect, always_valid_interval, ratio

BROKEN = RailStanding.BROKEN
CLEAR = RailStanding.CLEAR
NOT_YET = RailStanding.NOT_YET


def plan(*rails: str) -> Plan:
    return Plan("s", rails=tuple(GuardRail.parse(rail) for rail in rails))


def phase(control: ClusterCounts, canary: ClusterCounts) -> PhaseCounts:
    return {PHASE: {"control": control, "canary": canary}}


def judge(rail: str, control: ClusterCounts, canary: ClusterCounts) -> RailState:
    (state,) = judge_rails(plan(rail), phase(control, canary), "canary")
    return state


CONTROL = {"seen": 2_000, "take_rate": 0.05, "spread": 0.2}


@pytest.mark.parametrize(
    ("rail", "take_rate", "standing"),
    [
        ("take_rate >= -2%", 0.035, BROKEN),
        ("take_rate >= -2%", 0.060, CLEAR),
        ("take_rate >= -2%", 0.049, NOT_YET),
        ("take_rate <= +2%", 0.060, BROKEN),
        ("take_rate <= +2%", 0.035, CLEAR),
        ("take_rate <= +2%", 0.051, NOT_YET),
        ("take_rate >= 4%", 0.035, BROKEN),
        ("take_rate >= 4%", 0.050, CLEAR),
        ("take_rate <= 4%", 0.050, BROKEN),
        ("take_rate <= 4%", 0.035, CLEAR),
    ],
)
def test_a_rail_is_broken_or_clear_if_the_interval_is_on_one_side_of_its_bound(
    rail: str, take_rate: float, standing: RailStanding
) -> None:
    canary = counts(seen=2_000, take_rate=take_rate, spread=0.2)
    assert judge(rail, counts(**CONTROL), canary).standing is standing


def test_the_state_has_the_numbers_that_people_want_to_see() -> None:
    state = judge("take_rate >= -2%", counts(**CONTROL), counts(seen=400, take_rate=0.03))
    assert (state.value, state.control_value) == pytest.approx((0.03, 0.05))
    assert (state.events, state.control_events) == (256 * 12, 256 * 100)
    assert state.level == 0.95
    assert state.low is not None
    assert state.high is not None
    assert -1 < state.low < -0.4 < state.high < -0.02
    assert state.text.startswith("take_rate >= -2%: broken, -4")


def test_each_of_several_rails_is_judged_more_strictly() -> None:
    alone = judge("take_rate >= -2%", counts(**CONTROL), counts(**CONTROL))
    first, *_ = judge_rails(
        plan("take_rate >= -2%", "take_rate >= 1%", "deadline <= 5%", "take_rate <= +50%"),
        phase(counts(**CONTROL), counts(**CONTROL)),
        "canary",
    )
    assert first.level == pytest.approx(1 - 0.05 / 4)
    assert (alone.low, alone.high) != (None, None)
    assert first.low is not None
    assert alone.low is not None
    assert first.low < alone.low


# Metrics


def test_each_kind_of_metric_has_its_own_numerator_and_denominator() -> None:
    control = counts(seen=1_000, take_rate=0.05, hides=4_000, deadline_feeds=500, score=0.4)
    canary = counts(seen=1_000, take_rate=0.05, hides=9_000, deadline_feeds=4_000, score=0.6)
    rails = ("hide <= +10%", "deadline <= 5%", "quality >= 0.5", "quality >= +10%")
    states = judge_rails(plan(*rails), phase(control, canary), "canary")
    assert [state.standing for state in states] == [BROKEN, BROKEN, CLEAR, CLEAR]
    assert [state.value for state in states] == pytest.approx(
        [9_000 / 256_000, 4_000 / 25_600, 0.6, 0.6], rel=1e-3
    )


def test_a_metric_of_which_no_feed_knows_anything_is_not_judged() -> None:
    state = judge("hide <= +10%", counts(**CONTROL), counts(**CONTROL))
    assert (state.standing, state.reason) == (NOT_YET, "no data")


def test_feeds_from_before_an_outcome_was_named_do_not_count_for_it() -> None:
    canary = counts(seen=1_000, take_rate=0.05)
    canary.add(counts(seen=1_000, take_rate=0.05, hides=2_560))
    state = judge("hide <= 2%", counts(seen=1_000, take_rate=0.05, hides=2_560), canary)
    assert state.value == pytest.approx(0.01)


# Few events


def test_a_relative_rail_is_judged_from_a_hundred_events_of_both_on() -> None:
    few = counts(seen=10, take_rate=0.0, hides=99)
    enough = counts(seen=10, take_rate=0.0, hides=100)
    for control, canary, reason in (
        (few, few, "fewer than 100 events"),
        (enough, enough, None),
    ):
        assert judge("hide <= +10%", control, canary).reason == reason


def test_an_arm_without_any_takes_is_stopped_although_it_will_never_have_a_hundred() -> None:
    for seen in (40, 2_000):
        state = judge("take_rate >= -2%", counts(**CONTROL), counts(seen=seen, take_rate=0.0))
        assert state.standing is BROKEN
        assert state.events == 0
        assert state.low is None


def test_an_arm_without_takes_is_not_stopped_before_it_should_have_had_some() -> None:
    # At the rate of control it would have had 256 * 7 * 0.05 = 90 takes.
    state = judge("take_rate >= -2%", counts(**CONTROL), counts(seen=7, take_rate=0.0))
    assert (state.standing, state.reason) == (NOT_YET, "fewer than 100 events")


def test_few_events_are_judged_as_a_quarter_of_what_the_bound_would_give() -> None:
    control = counts(**CONTROL)
    state = judge("take_rate >= -2%", control, counts(seen=100, take_rate=0.0))
    events = 0.25 * 256 * 100 * 0.05 * 0.98
    measured = ratio(control.takes, control.seen)
    assert measured is not None
    design_effect = measured.variance * control.seen.sum() / measured.value
    error = math.sqrt(design_effect / events + measured.relative_variance)
    interval = always_valid_interval(Effect(math.log(0.25 * 0.98), error), tau=0.1)
    assert state.high == pytest.approx(math.expm1(interval.high))


def test_few_events_are_judged_as_a_hundred_if_that_is_more() -> None:
    control = counts(**CONTROL)
    state = judge("take_rate >= -2%", control, counts(seen=20, take_rate=0.0))
    lift = (100 / (256 * 20)) / 0.05 - 1
    assert state.high is not None
    assert state.high > lift


@pytest.mark.parametrize("takes", [0, 1, 50, 99])
def test_fewer_events_are_never_judged_more_mildly(takes: int) -> None:
    canary = counts(seen=100, take_rate=0.0)
    canary.takes[:takes] = 1
    none = judge("take_rate >= -2%", counts(**CONTROL), counts(seen=100, take_rate=0.0))
    assert judge("take_rate >= -2%", counts(**CONTROL), canary).high == none.high


def test_an_arm_without_takes_breaks_an_absolute_bound_too() -> None:
    state = judge("take_rate >= 4%", counts(**CONTROL), counts(seen=200, take_rate=0.0))
    assert state.standing is BROKEN


def test_an_arm_whose_feeds_are_never_late_clears_the_rail_on_deadlines() -> None:
    """Also if there is no late feed anywhere from which one could learn how they vary."""
    calm = counts(seen=2_000, take_rate=0.05)
    state = judge("deadline <= 5%", calm, calm)
    assert state.standing is CLEAR
    assert state.high is not None
    assert state.high < 0.05


def test_an_arm_that_is_hidden_all_the_time_is_stopped_although_control_never_is() -> None:
    control = counts(seen=2_000, take_rate=0.05, hides=0)
    state = judge("hide <= +10%", control, counts(seen=2_000, take_rate=0.05, hides=5_000))
    assert state.standing is BROKEN
    assert state.high is None


def test_an_arm_that_is_never_hidden_clears_the_rail() -> None:
    control = counts(seen=2_000, take_rate=0.05, hides=5_000)
    state = judge("hide <= +10%", control, counts(seen=2_000, take_rate=0.05, hides=0))
    assert state.standing is CLEAR


def test_users_of_a_few_clusters_are_no_evidence() -> None:
    canary = counts(seen=100_000, take_rate=0.01, clusters=29)
    state = judge("take_rate >= -2%", counts(**CONTROL), canary)
    assert (state.standing, state.reason) == (
        NOT_YET,
        "users in fewer than 30 of the 256 clusters",
    )


# Scores that have no logarithm


def test_a_mean_score_below_zero_breaks_a_bound_above_zero() -> None:
    good = counts(seen=100, take_rate=0.05, score=0.5)
    bad = counts(seen=100, take_rate=0.05, score=-0.2)
    assert judge("quality >= 0.4", good, bad).standing is BROKEN
    assert judge("quality >= -2%", good, bad).standing is BROKEN
    assert judge("quality <= 0.4", good, bad).standing is CLEAR


def test_nothing_is_relative_to_a_mean_score_below_zero() -> None:
    good = counts(seen=100, take_rate=0.05, score=0.5)
    bad = counts(seen=100, take_rate=0.05, score=-0.2)
    state = judge("quality >= -2%", bad, good)
    assert state.standing is NOT_YET
    assert state.reason is not None
    assert "absolute" in state.reason


# Phases


def test_phases_are_compared_one_by_one() -> None:
    """The canary grew while all rates fell. Pooled it would be worse by half."""
    phases = {
        "before": {
            "control": counts(seen=4_000, take_rate=0.10, spread=0.2),
            "canary": counts(seen=100, take_rate=0.10, spread=0.2),
        },
        "after": {
            "control": counts(seen=100, take_rate=0.04, spread=0.2),
            "canary": counts(seen=4_000, take_rate=0.04, spread=0.2),
        },
    }
    (state,) = judge_rails(plan("take_rate >= -20%"), phases, "canary")
    assert state.standing is CLEAR


def test_a_phase_without_the_arm_counts_for_nothing() -> None:
    before = phase(counts(**CONTROL), counts(seen=2_000, take_rate=0.03))
    after = {"after": {"control": counts(seen=9_000, take_rate=0.02)}}
    (alone,) = judge_rails(plan("take_rate >= -2%"), before, "canary")
    (both,) = judge_rails(plan("take_rate >= -2%"), {**before, **after}, "canary")
    assert both == alone


def test_an_arm_without_feeds_is_not_judged() -> None:
    only_control = {PHASE: {"control": counts(**CONTROL)}}
    states = judge_rails(plan("take_rate >= -2%", "deadline <= 5%"), only_control, "canary")
    assert [state.reason for state in states] == ["no data", "no data"]


def test_control_need_not_exist_for_an_absolute_bound() -> None:
    only_canary = {PHASE: {"canary": counts(seen=2_000, take_rate=0.03)}}
    relative, absolute = judge_rails(
        plan("take_rate >= -2%", "take_rate >= 4%"), only_canary, "canary"
    )
    assert relative.standing is NOT_YET
    assert absolute.standing is BROKEN
