"""The report of an experiment: numbers, checks and verdicts."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.outcomes.building import HOUR, PHASE, arm_hour, counts, sums, users
from workers.outcomes.cluster_counts import ClusterCounts
from workers.outcomes.comparison import compare
from workers.outcomes.plan import GuardRail, Plan
from workers.outcomes.rails import RailStanding
from workers.outcomes.records import HOUR_MS, ArmHour
from workers.outcomes.report import (
    ArmReport,
    Counted,
    Report,
    ReportRefused,
    Steered,
    Verdict,
    make_report,
)
from workers.outcomes.statistics import always_valid_p
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


def test_what_is_not_decided_says_how_long_it_takes() -> None:
    made = report(rate(0.052), tuned_for=0.05)
    canary = arm(made)
    assert canary.verdict is Verdict.NOT_DECIDED
    assert canary.days_more is not None
    assert canary.sentence == (
        "canary: +4.0 % (95 %: -1.3 to +9.6), not decided yet: less than 1 more hour at this"
        " traffic"
    )


def test_no_difference_is_said_with_the_lift_that_the_experiment_is_tuned_for() -> None:
    canary = arm(report(CONTROL))
    assert canary.sentence is not None
    assert canary.sentence.endswith(", no difference beyond 10 %")


def test_the_plan_says_what_the_experiment_is_tuned_for_and_an_option_replaces_it() -> None:
    planned = replace(STEERED, plan=Plan("salt-1", tuned_for=0.05))
    assert report(CONTROL).tuned_for == 0.10
    assert report(CONTROL, steered=planned).tuned_for == 0.05
    assert report(CONTROL, steered=planned, tuned_for=0.03).tuned_for == 0.03


def test_a_plan_of_another_salt_does_not_apply() -> None:
    rails = (GuardRail.parse("take_rate >= -2%"),)
    other = replace(STEERED, plan=Plan("salt-0", tuned_for=0.05, rails=rails))
    made = report(rate(0.04), steered=other)
    assert made.plan is None
    assert made.tuned_for == 0.10
    assert arm(made).rails == ()


# Why there is no verdict


def test_few_takes_give_an_interval_and_no_verdict() -> None:
    canary = arm(report(sums(seen=10, take_rate=0.1, clusters=99)))
    assert canary.verdict is Verdict.FEW_TAKES
    assert canary.lift is not None
    assert canary.sentence is not None
    assert canary.sentence.startswith("canary: +100.0 % (95 %: ")
    assert canary.sentence.endswith(", fewer than 100 takes")


def test_an_arm_without_takes_has_no_lift() -> None:
    canary = arm(report(rate(0.0)))
    assert canary.lift is None
    assert canary.sentence == "canary: lift not known, fewer than 100 takes"


def test_a_verdict_needs_counted_users_and_fifty_of_them() -> None:
    assert verdict_on(rate(0.06), over_users=None) is Verdict.USERS_NOT_COUNTED
    few = {arm_hour("control"): users(60), arm_hour("canary"): users(49)}
    assert verdict_on(rate(0.06), over_users=few) is Verdict.FEW_USERS
    enough = {arm_hour("control"): users(60), arm_hour("canary"): users(50)}
    assert verdict_on(rate(0.06), over_users=enough) is Verdict.BETTER


def test_arms_that_are_not_those_of_the_hash_withhold_the_verdict_in_capitals() -> None:
    moved = EQUAL_USERS | {arm_hour("canary"): users(1_000, misassigned=12)}
    made = report(rate(0.06), over_users=moved)
    canary = arm(made)
    assert canary.verdict is Verdict.ARMS_DO_NOT_MATCH
    assert canary.verdict.is_withheld
    assert canary.sentence is not None
    assert "VERDICT WITHHELD" in canary.sentence
    assert "better" not in canary.sentence
    assert made.warnings[0].startswith("THE ARMS OF 12 FEEDS")


def test_a_sample_ratio_that_is_off_withholds_the_verdict_in_capitals() -> None:
    lost = {arm_hour("control"): users(5_300), arm_hour("canary"): users(4_700)}
    made = report(rate(0.06), over_users=lost)
    assert arm(made).verdict is Verdict.SAMPLE_RATIO_IS_OFF
    assert made.sample_ratio is not None
    assert made.sample_ratio.p == pytest.approx(1.74e-4, rel=0.01)
    assert made.sample_ratio.users == {"control": 5_300, "canary": 4_700}
    assert made.sample_ratio.expected == {"control": 5_000, "canary": 5_000}
    assert made.warnings[0].startswith("THE ARMS DO NOT GET NEW USERS IN THE SHARES")


def test_a_sample_ratio_that_was_off_once_stays_off() -> None:
    hours = {
        arm_hour("control", HOUR): users(5_300),
        arm_hour("canary", HOUR): users(4_700),
        arm_hour("control", HOUR + 1): users(94_700),
        arm_hour("canary", HOUR + 1): users(95_300),
    }
    assert verdict_on(rate(0.06), over_users=hours) is Verdict.SAMPLE_RATIO_IS_OFF


def test_trust_comes_before_every_other_case() -> None:
    moved = EQUAL_USERS | {arm_hour("canary"): users(1_000, misassigned=1)}
    few = sums(seen=10, take_rate=0.1, clusters=9)
    assert verdict_on(few, over_users=moved) is Verdict.ARMS_DO_NOT_MATCH


def test_a_phase_whose_experiment_is_not_known_has_no_verdict() -> None:
    made = report(rate(0.06), steered=replace(STEERED, experiments={}))
    assert arm(made).verdict is Verdict.PHASE_NOT_KNOWN
    assert made.unknown_phases == (PHASE,)
    unchecked = EQUAL_USERS | {arm_hour("canary"): users(1_000, unchecked=3)}
    assert verdict_on(rate(0.06), over_users=unchecked) is Verdict.PHASE_NOT_KNOWN


def test_without_steering_the_numbers_are_there_and_the_verdict_is_not() -> None:
    made = report(rate(0.06), steered=Steered(is_read=False))
    assert arm(made).verdict is Verdict.PLAN_NOT_KNOWN
    assert arm(made).lift is not None
    assert made.warnings[-1] == "steering could not be read: plan and shares are not known"
    few = sums(seen=10, take_rate=0.1, clusters=9)
    assert verdict_on(few, steered=Steered(is_read=False)) is Verdict.FEW_TAKES


# Looks


def by_hour(*rates: tuple[float, float]) -> dict[ArmHour, Sums]:
    """Feeds of hour after hour, with the take-rates of control and canary."""
    feeds: dict[ArmHour, Sums] = {}
    for number, (control, canary) in enumerate(rates):
        feeds[arm_hour("control", HOUR + number)] = rate(control)
        feeds[arm_hour("canary", HOUR + number)] = rate(canary)
    return feeds


def test_p_is_the_least_of_the_looks_after_each_hour() -> None:
    made = make_report(Counted(by_hour((0.05, 0.06), (0.06, 0.05)), EQUAL_USERS), STEERED)
    canary = arm(made)
    first = compare(
        {PHASE: {"control": counts_of(0.05), "canary": counts_of(0.06)}}, "canary", "control"
    )
    assert first.effect is not None
    assert canary.lift is not None
    assert canary.lift.p == pytest.approx(always_valid_p(first.effect, 0.10))
    assert canary.lift.p < 0.001


def counts_of(take_rate: float) -> ClusterCounts:
    return counts(seen=1_000, take_rate=take_rate, spread=0.2)


def test_a_lift_that_has_gone_again_is_no_winner() -> None:
    feeds = by_hour((0.05, 0.06), (0.06, 0.051))
    canary = arm(make_report(Counted(feeds, EQUAL_USERS), STEERED, tuned_for=0.03))
    assert canary.verdict is Verdict.NOT_DECIDED
    assert canary.sentence is not None
    assert "not decided any more" in canary.sentence


def test_time_is_told_by_the_traffic_of_the_last_day() -> None:
    steady = by_hour(*[(0.05, 0.052)] * 2)
    ended = (HOUR + 2) * HOUR_MS
    slow = make_report(Counted(steady, EQUAL_USERS, ended), STEERED, tuned_for=0.02)
    fast = make_report(Counted(steady, EQUAL_USERS, ended - HOUR_MS // 2), STEERED, tuned_for=0.02)
    assert arm(slow).days_more is not None
    assert arm(slow).days_more == pytest.approx(2 / 1.5 * (arm(fast).days_more or 0))


def test_a_partition_that_stays_behind_does_not_make_time_run_backwards() -> None:
    feeds = by_hour(*[(0.05, 0.052)] * 2)
    behind = make_report(Counted(feeds, EQUAL_USERS, HOUR * HOUR_MS), STEERED, tuned_for=0.02)
    unknown = make_report(Counted(feeds, EQUAL_USERS), STEERED, tuned_for=0.02)
    assert arm(behind).days_more == arm(unknown).days_more is not None


def test_an_arm_that_was_stopped_is_not_promised_a_verdict() -> None:
    now = Experiment("salt-1", {"canary": 0})
    made = report(rate(0.052), steered=replace(STEERED, current=now), tuned_for=0.03)
    assert arm(made).verdict is Verdict.NOT_DECIDED
    assert arm(made).days_more is None
    assert arm(made).sentence is not None
    assert (arm(made).sentence or "").endswith("not decided: canary gets no users now")


# Phases


SECOND = "ba9876543210"


def test_phases_of_other_salts_and_feeds_outside_are_left_out() -> None:
    feeds = {
        arm_hour("control"): CONTROL,
        arm_hour("canary"): rate(0.06),
        arm_hour("control", phase=None): rate(0.5),
        arm_hour("canary", phase=SECOND): rate(0.5),
    }
    known = {PHASE: HALVES, SECOND: Experiment("salt-0", {"canary": 5_000})}
    made = make_report(Counted(feeds, EQUAL_USERS), replace(STEERED, experiments=known))
    assert [report.phase for report in made.phases] == [PHASE]
    assert [report.counts.seen for report in made.arms] == [256_000, 256_000]


def test_an_unknown_phase_from_before_the_experiment_is_not_its_own() -> None:
    feeds = {
        arm_hour("control"): CONTROL,
        arm_hour("canary"): rate(0.06),
        arm_hour("canary", HOUR - 1, phase=SECOND): rate(0.5),
    }
    assert make_report(Counted(feeds, EQUAL_USERS), STEERED).unknown_phases == ()


def test_an_arm_that_was_stopped_in_a_later_phase_is_compared_in_the_first_only() -> None:
    feeds = {
        arm_hour("control"): CONTROL,
        arm_hour("canary"): rate(0.06),
        arm_hour("control", HOUR + 1, SECOND): rate(0.5),
        arm_hour("other", HOUR + 1, SECOND): rate(0.5),
    }
    later = Experiment("salt-1", {"canary": 0, "other": 5_000})
    known = {PHASE: HALVES, SECOND: later}
    made = make_report(
        Counted(feeds, EQUAL_USERS), replace(STEERED, current=later, experiments=known)
    )
    canary = arm(made).lift
    assert canary is not None
    assert canary.lift == pytest.approx(0.2, abs=0.01)
    assert [phase.phase for phase in made.phases] == [PHASE, SECOND]
    assert list(made.phases[1].lifts) == ["other"]
    other = arm(made, "other").lift
    assert other is not None
    assert other.lift == pytest.approx(0)


def test_a_phase_without_takes_of_one_arm_is_not_lost() -> None:
    feeds = {
        arm_hour("control"): CONTROL,
        arm_hour("canary"): CONTROL,
        arm_hour("control", HOUR + 1, SECOND): CONTROL,
        arm_hour("canary", HOUR + 1, SECOND): rate(0.0),
    }
    known = {PHASE: HALVES, SECOND: HALVES}
    made = make_report(Counted(feeds, EQUAL_USERS), replace(STEERED, experiments=known))
    assert arm(made).verdict is Verdict.WORSE
    lift = arm(made).lift
    assert lift is not None
    assert lift.lift == pytest.approx(-0.5)


def test_users_of_several_phases_are_those_of_the_largest() -> None:
    over_users = {
        arm_hour("control"): users(700),
        arm_hour("canary"): users(700),
        arm_hour("canary", HOUR + 1): users(200),
        arm_hour("canary", HOUR + 1, SECOND): UserSums(users=800, new_users=100),
        arm_hour("control", HOUR + 1, SECOND): UserSums(users=600, new_users=100),
    }
    feeds = by_hour((0.05, 0.06)) | {
        arm_hour("control", HOUR + 1, SECOND): CONTROL,
        arm_hour("canary", HOUR + 1, SECOND): CONTROL,
    }
    known = {PHASE: HALVES, SECOND: HALVES}
    made = make_report(Counted(feeds, over_users), replace(STEERED, experiments=known))
    assert [report.counts.users for report in made.arms] == [700, 900]
    assert made.sample_ratio is not None
    assert made.sample_ratio.users == {"control": 800, "canary": 1_000}


# Arms


def test_the_arm_to_compare_with_is_first_and_has_no_verdict() -> None:
    feeds = {arm_hour("bts"): rate(0.06), arm_hour("random"): CONTROL, arm_hour("a"): CONTROL}
    made = make_report(Counted(feeds), Steered(is_read=False), against="random")
    assert [report.counts.arm for report in made.arms] == ["random", "a", "bts"]
    assert made.arms[0].verdict is None
    assert arm(made, "bts").lift is not None


@pytest.mark.parametrize("against", ["nobody", "control"])
def test_an_arm_without_feeds_cannot_be_compared_with(against: str) -> None:
    feeds = {arm_hour("bts"): CONTROL, arm_hour("random"): CONTROL}
    with pytest.raises(ReportRefused, match=f"against: got '{against}', expected .*: bts, random"):
        make_report(Counted(feeds), Steered(is_read=False), against=against)


def test_without_feeds_there_is_no_report() -> None:
    with pytest.raises(ReportRefused, match="no feed of an experiment is counted yet"):
        make_report(Counted({}), STEERED)


def test_an_arm_that_runs_and_has_no_feeds_yet_is_listed() -> None:
    current = Experiment("salt-1", {"canary": 4_000, "late": 1_000})
    made = report(rate(0.06), steered=replace(STEERED, current=current))
    late = arm(made, "late")
    assert (late.counts.feeds, late.counts.users) == (0, 0)
    assert late.verdict is Verdict.FEW_TAKES


def test_the_counts_of_an_arm_have_the_wilson_interval() -> None:
    made = report(rate(0.06))
    counted = arm(made).counts
    assert (counted.seen, counted.takes, counted.feeds) == (256_000, 15_360, 25_600)
    assert counted.take_rate == pytest.approx(0.06)
    assert counted.interval is not None
    assert counted.interval.low < 0.06 < counted.interval.high


def test_a_phase_whose_experiment_is_not_known_clears_no_guard_rail() -> None:
    """It may be of another experiment, of which Redis has lost the history."""
    rails = (GuardRail.parse("take_rate >= -2%"),)
    planned = replace(STEERED, plan=Plan("salt-1", rails=rails), experiments={})
    made = report(rate(0.07), steered=planned)
    assert made.unknown_phases == (PHASE,)
    assert [state.reason for state in arm(made).rails] == ["no data"]


def test_guard_rails_are_judged_for_every_arm_but_control() -> None:
    rails = (GuardRail.parse("take_rate >= -2%"), GuardRail.parse("deadline <= 5%"))
    planned = replace(STEERED, plan=Plan("salt-1", rails=rails))
    made = report(rate(0.04), steered=planned)
    assert made.arms[0].rails == ()
    assert [state.standing for state in arm(made).rails] == [
        RailStanding.BROKEN,
        RailStanding.CLEAR,
    ]
