"""The report of an experiment: what each arm did, and whether it paid off.

Rules:
1. The report is about the phases of one salt. Feeds that are in no phase are not those of control.
2. Arms are compared by take-rate phase by phase, never through positions, and never pooled: while
   arms grow, the mix of hours differs between them.
3. The sums are looked at hour by hour, as if somebody had looked after each hour. The p is the least
   of these looks. So no state is kept, and whoever looks sees the same.
4. A verdict is withheld if the arms cannot be trusted. The numbers are given all the same.

The verdict of an arm is the first of these that applies:

| case                                                             | verdict              |
|------------------------------------------------------------------|----------------------|
| feeds whose arm is not the published hash's                      | ARMS_DO_NOT_MATCH    |
| new users do not come in the shares that were set                | SAMPLE_RATIO_IS_OFF  |
| fewer than 100 takes in either arm, in phases that both were in  | FEW_TAKES            |
| users are not counted                                            | USERS_NOT_COUNTED    |
| fewer than 50 users in either arm                                | FEW_USERS            |
| steering could not be read, and nothing says what it is tuned for | PLAN_NOT_KNOWN      |
| a phase whose experiment is not known                            | PHASE_NOT_KNOWN      |
| the interval is above 0                                          | BETTER               |
| the interval is below 0                                          | WORSE                |
| the interval is within m % of 0                                  | NO_DIFFERENCE        |
| otherwise                                                        | NOT_DECIDED          |

m is the lift that the experiment is tuned for. It was chosen before the data, and whoever tunes for
5 % says that less than that does not matter.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from workers.outcomes.cluster_counts import ClusterCounts, PhaseCounts, count_by_phase
from workers.outcomes.comparison import Comparison, compare, compare_by_hour
from workers.outcomes.plan import DEFAULT_TUNED_FOR, Plan
from workers.outcomes.planning import needed_error
from workers.outcomes.rails import RailState, judge_rails
from workers.outcomes.records import HOUR_MS, ArmHour
from workers.outcomes.sample_ratio import ALARM, PhaseUsers, sample_ratio_p
from workers.outcomes.statistics import (
    ALPHA,
    Interval,
    always_valid_interval,
    always_valid_p,
    as_lift,
    wilson_interval,
)
from workers.outcomes.sums import Sums
from workers.outcomes.user_sums import UserSums, add_user_sums
from workers.ranking.experiment import CONTROL, Experiment

LEAST_TAKES = 100
LEAST_USERS = 50
_HOURS_BACK = 24
"""How far back traffic counts as "this traffic"."""


class ReportRefused(ValueError):
    """What was asked for cannot be reported. The message names the field, the value and what was
    expected.
    """


class Verdict(StrEnum):
    """What can be said of an arm. The table at the head of this file has the cases."""

    ARMS_DO_NOT_MATCH = "arms do not match"
    SAMPLE_RATIO_IS_OFF = "sample ratio is off"
    FEW_TAKES = "few takes"
    USERS_NOT_COUNTED = "users not counted"
    FEW_USERS = "few users"
    PLAN_NOT_KNOWN = "plan not known"
    PHASE_NOT_KNOWN = "phase not known"
    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference"
    NOT_DECIDED = "not decided"

    @property
    def is_withheld(self) -> bool:
        """Whether the arms themselves cannot be trusted."""
        return self in (Verdict.ARMS_DO_NOT_MATCH, Verdict.SAMPLE_RATIO_IS_OFF)


@dataclass(frozen=True)
class Counted:
    """What was counted of one surface, by hour, arm and phase.

    `users` is None if the users stage has counted nothing. `closed_until` is the time (ms since the
    epoch) before which every feed is in `feeds`, None if it is not known.
    """

    feeds: Mapping[ArmHour, Sums]
    users: Mapping[ArmHour, UserSums] | None = None
    closed_until: int | None = None


@dataclass(frozen=True)
class Steered:
    """What steering knows about the experiments of the surface.

    - `is_read`: false if steering could not be read. Then nothing else is known.
    - `current`: the experiment that runs, or that ran last. None if there never was one.
    - `experiments`: the experiment of each phase that is known, those of other salts too.
    - `since`: when the current salt got its first users, in ms since the epoch, if that is known.
    - `plan`: the plan of the surface. It is ignored if it belongs to another salt.
    """

    is_read: bool
    current: Experiment | None = None
    experiments: Mapping[str, Experiment] | None = None
    since: int | None = None
    plan: Plan | None = None


@dataclass(frozen=True)
class Lift:
    """How much more takes per item seen an arm has than another one, as a fraction.

    `low` and `high` hold at all looks together with a probability of 95 %.
    """

    lift: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class ArmCounts:
    """What one arm did. `users` counts distinct users, None if they are not counted. Over several
    phases it is the number of the phase that had the most.
    """

    arm: str
    feeds: int
    deadline_feeds: int
    items: int
    seen: int
    takes: int
    users: int | None

    @property
    def take_rate(self) -> float | None:
        """Takes divided by items seen. None if no item was seen."""
        return self.takes / self.seen if self.seen else None

    @property
    def interval(self) -> Interval | None:
        """The 95 % Wilson interval of the take-rate. None if no item was seen."""
        return wilson_interval(self.takes, self.seen) if self.seen else None


@dataclass(frozen=True)
class ArmReport:
    """One arm against the arm that it is compared with.

    - `lift` is None if there is none: no phase in which both have data, or no takes.
    - `verdict` and `sentence` are None for the arm that the others are compared with.
    - `days_more` is how much longer it takes at this traffic, for arms that are not decided. None if
      that cannot be said.
    """

    counts: ArmCounts
    lift: Lift | None = None
    verdict: Verdict | None = None
    sentence: str | None = None
    rails: tuple[RailState, ...] = ()
    days_more: float | None = None


@dataclass(frozen=True)
class PhaseReport:
    """One phase. `experiment` is None if it is not known. `first_hour` and `last_hour` are the hours
    of its feeds. `lifts` has the lift of each arm within the phase, with the p of one look, now.
    """

    phase: str
    experiment: Experiment | None
    first_hour: int
    last_hour: int
    arms: tuple[ArmCounts, ...]
    lifts: Mapping[str, Lift]


@dataclass(frozen=True)
class SampleRatio:
    """The sample-ratio check: new users by arm, and how many the shares would give.

    `p` is the least of the looks after each hour.
    """

    p: float
    users: Mapping[str, int]
    expected: Mapping[str, float]

    @property
    def is_off(self) -> bool:
        """Whether the check has failed."""
        return self.p < ALARM


@dataclass(frozen=True)
class Report:
    """The report of one experiment. The arm that the others are compared with is the first.

    - `is_plan_known` is false if steering could not be read.
    - `tuned_for` is tau, and m of "no difference beyond m %", as a fraction.
    - `sample_ratio` is None if users are not counted, or no phase is known.
    - `misassigned` is how many feeds have another arm than the published hash says. `unchecked` is
      of how many nobody knows. Both are None if users are not counted.
    - `unknown_phases` are those whose experiment is not known.
    """

    salt: str | None
    against: str
    tuned_for: float
    is_plan_known: bool
    plan: Plan | None
    arms: tuple[ArmReport, ...]
    phases: tuple[PhaseReport, ...]
    sample_ratio: SampleRatio | None
    misassigned: int | None
    unchecked: int | None
    unknown_phases: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What everybody must read first. In capitals if verdicts are withheld."""
        warnings = list[str]()
        if self.misassigned:
            warnings.append(
                f"THE ARMS OF {self.misassigned:,} FEEDS ARE NOT THOSE OF THE PUBLISHED HASH:"
                " VERDICTS ARE WITHHELD"
            )
        if self.sample_ratio is not None and self.sample_ratio.is_off:
            warnings.append(
                "THE ARMS DO NOT GET NEW USERS IN THE SHARES THAT WERE SET"
                f" (p {self.sample_ratio.p:.2g}): VERDICTS ARE WITHHELD"
            )
        if self.unknown_phases:
            phases = ", ".join(self.unknown_phases)
            warnings.append(f"no experiment is known for these phases: {phases}")
        if self.unchecked:
            warnings.append(
                f"the arms of {self.unchecked:,} feeds could not be compared with the published"
                " hash"
            )
        if not self.is_plan_known:
            warnings.append("steering could not be read: plan and shares are not known")
        return tuple(warnings)


def make_report(
    counted: Counted,
    steered: Steered,
    *,
    against: str = CONTROL,
    tuned_for: float | None = None,
) -> Report:
    """Report the current experiment of a surface.

    `tuned_for` replaces that of the plan. Raises ReportRefused if the arm to compare with
    has no feeds, or if no arm has any yet.
    """
    experiments = steered.experiments or {}
    phases = _phases_of_experiment(counted, steered)
    feeds = {key: sums for key, sums in counted.feeds.items() if key.experiment in phases}
    users = None
    if counted.users is not None:
        users = {key: sums for key, sums in counted.users.items() if key.experiment in phases}

    arms = {key.arm for key in feeds}
    if not arms:
        raise ReportRefused(
            "no feed of an experiment is counted yet: feeds count once their outcome window is over"
        )
    if against not in arms:
        expected = ", ".join(sorted(arms))
        raise ReportRefused(
            f"against: got {against[:80]!r}, expected an arm with counted feeds: {expected}"
        )
    if steered.current is not None:
        arms.update(steered.current.running)

    # A plan of another salt was made for another experiment.
    plan = steered.plan
    if plan is not None and (steered.current is None or plan.salt != steered.current.salt):
        plan = None
    is_plan_known = steered.is_read or tuned_for is not None
    if tuned_for is None:
        tuned_for = DEFAULT_TUNED_FOR if plan is None else plan.tuned_for

    checks = _check_arms(phases, experiments, users, is_plan_known=is_plan_known)
    hours = _count_by_hour(feeds)
    counts = count_by_phase((key, ClusterCounts.of(sums)) for key, sums in feeds.items())

    # What nobody knows the experiment of may be another one's. It clears no rail.
    known_counts = {phase: by_arm for phase, by_arm in counts.items() if phase in experiments}
    rails = _rails(plan, known_counts, against)

    reports = [ArmReport(_arm_counts(against, counts, users), rails=rails)]
    for arm in sorted(arms - {against}):
        comparisons = compare_by_hour(hours, arm, against)
        arm_counts = _arm_counts(arm, counts, users)
        lift = _lift(comparisons, tuned_for)
        least_takes = comparisons[max(comparisons)].takes
        least_users = min(arm_counts.users or 0, reports[0].counts.users or 0)
        verdict = _obstacle(checks, least_takes, least_users)
        if verdict is None and lift is not None:
            verdict = _decide(lift, tuned_for)
        # With takes in both arms there is a lift.
        assert verdict is not None

        days_more = None
        stopped = _stopped(steered, arm, against)
        if verdict is Verdict.NOT_DECIDED and stopped is None:
            days_more = _days_more(comparisons, tuned_for, counted.closed_until, steered.since)
        words = _words(verdict, tuned_for, lift, days_more, stopped)
        reports.append(
            ArmReport(
                counts=arm_counts,
                lift=lift,
                verdict=verdict,
                sentence=f"{arm}: {_lift_text(lift)}, {words}",
                rails=_rails(plan, known_counts, arm),
                days_more=days_more,
            )
        )

    return Report(
        salt=None if steered.current is None else steered.current.salt,
        against=against,
        tuned_for=tuned_for,
        is_plan_known=is_plan_known,
        plan=plan,
        arms=tuple(reports),
        phases=_phase_reports(feeds, counts, users, experiments, against, tuned_for),
        sample_ratio=checks.sample_ratio,
        misassigned=checks.misassigned,
        unchecked=checks.unchecked,
        unknown_phases=checks.unknown_phases,
    )


# The experiment


def _phases_of_experiment(counted: Counted, steered: Steered) -> frozenset[str]:
    """The phases to report: those of the current salt, and those that may be.

    A phase whose experiment is not known may be of the current salt unless it is older. Without any
    known experiment these are all phases.
    """
    experiments = steered.experiments or {}
    since_hour = 0 if steered.since is None else steered.since // HOUR_MS
    first_hours: dict[str, int] = {}
    for key in counted.feeds:
        if key.experiment is not None:
            known = first_hours.get(key.experiment, key.hour)
            first_hours[key.experiment] = min(known, key.hour)

    chosen = set[str]()
    for phase, first_hour in first_hours.items():
        experiment = experiments.get(phase)
        if experiment is None:
            is_current = first_hour >= since_hour
        else:
            is_current = steered.current is None or experiment.salt == steered.current.salt
        if is_current:
            chosen.add(phase)
    return frozenset(chosen)


def _stopped(steered: Steered, arm: str, against: str) -> str | None:
    """The arm of the two that gets no users any more. None if both do, or if it is not known."""
    current = steered.current
    if current is None:
        return None
    for name in (arm, against):
        share = current.control_share if name == CONTROL else current.shares.get(name, 0)
        if share == 0:
            return name
    return None


# The checks


class _Checks(NamedTuple):
    """Whether the arms can be trusted. Fields as in Report."""

    sample_ratio: SampleRatio | None
    misassigned: int | None
    unchecked: int | None
    unknown_phases: tuple[str, ...]
    is_plan_known: bool


def _check_arms(
    phases: frozenset[str],
    experiments: Mapping[str, Experiment],
    users: Mapping[ArmHour, UserSums] | None,
    *,
    is_plan_known: bool,
) -> _Checks:
    unknown_phases = tuple(sorted(phases - set(experiments)))
    if users is None:
        return _Checks(None, None, None, unknown_phases, is_plan_known)
    total = add_user_sums(users.values())
    return _Checks(
        sample_ratio=_check_sample_ratio(phases, experiments, users),
        misassigned=total.misassigned,
        unchecked=total.unchecked,
        unknown_phases=unknown_phases,
        is_plan_known=is_plan_known,
    )


def _check_sample_ratio(
    phases: frozenset[str],
    experiments: Mapping[str, Experiment],
    users: Mapping[ArmHour, UserSums],
) -> SampleRatio | None:
    """Look after each hour at the new users of the phases that are known. None if none is."""
    shares: dict[str, dict[str, int]] = {}
    for phase in sorted(phases):
        if phase in experiments:
            experiment = experiments[phase]
            shares[phase] = {CONTROL: experiment.control_share, **experiment.shares}
    if not shares:
        return None

    new_users: dict[str, dict[str, int]] = {phase: {} for phase in shares}
    p = 1.0
    for hour in sorted({key.hour for key in users}):
        for key, sums in users.items():
            if key.hour == hour and key.experiment in shares:
                by_arm = new_users[key.experiment]
                by_arm[key.arm] = by_arm.get(key.arm, 0) + sums.new_users
        looked = [PhaseUsers(new_users[phase], shares[phase]) for phase in shares]
        p = min(p, sample_ratio_p(looked))

    found: dict[str, int] = {}
    expected: dict[str, float] = {}
    for phase, by_arm in new_users.items():
        count = sum(by_arm.values())
        whole = sum(shares[phase].values())
        for arm, share in shares[phase].items():
            expected[arm] = expected.get(arm, 0.0) + count * share / whole
        for arm, arm_users in by_arm.items():
            found[arm] = found.get(arm, 0) + arm_users
    return SampleRatio(p, found, expected)


# The numbers


def _count_by_hour(feeds: Mapping[ArmHour, Sums]) -> dict[int, PhaseCounts]:
    by_hour: dict[int, list[tuple[ArmHour, ClusterCounts]]] = {}
    for key, sums in feeds.items():
        by_hour.setdefault(key.hour, []).append((key, ClusterCounts.of(sums)))
    return {hour: count_by_phase(counts) for hour, counts in by_hour.items()}


def _arm_counts(
    arm: str, counts: PhaseCounts, users: Mapping[ArmHour, UserSums] | None
) -> ArmCounts:
    """What one arm did in these phases."""
    total = ClusterCounts()
    most_users = 0
    for phase, by_arm in counts.items():
        total.add(by_arm.get(arm, ClusterCounts()))
        in_phase = 0
        for key, sums in (users or {}).items():
            if key.arm == arm and key.experiment == phase:
                in_phase += sums.users
        most_users = max(most_users, in_phase)

    return ArmCounts(
        arm=arm,
        feeds=int(total.feeds.sum()),
        deadline_feeds=int(total.deadline_feeds.sum()),
        items=int(total.items.sum()),
        seen=int(total.seen.sum()),
        takes=int(total.takes.sum()),
        users=None if users is None else most_users,
    )


def _lift(comparisons: Mapping[int, Comparison], tau: float) -> Lift | None:
    """The lift now, and the least p of all looks. A look with few takes counts for nothing, other
    than the last one.
    """
    last = max(comparisons)
    now = comparisons[last].effect
    if now is None:
        return None

    p = always_valid_p(now, tau)
    for comparison in comparisons.values():
        if comparison.effect is not None and comparison.takes >= LEAST_TAKES:
            p = min(p, always_valid_p(comparison.effect, tau))
    interval = always_valid_interval(now, tau)
    return Lift(as_lift(now.theta), as_lift(interval.low), as_lift(interval.high), p)


def _rails(plan: Plan | None, counts: PhaseCounts, arm: str) -> tuple[RailState, ...]:
    """Rails protect control, so control has none."""
    if plan is None or arm == CONTROL:
        return ()
    return judge_rails(plan, counts, arm)


def _phase_reports(
    feeds: Mapping[ArmHour, Sums],
    counts: PhaseCounts,
    users: Mapping[ArmHour, UserSums] | None,
    experiments: Mapping[str, Experiment],
    against: str,
    tau: float,
) -> tuple[PhaseReport, ...]:
    """Each phase by itself, in the order in which they began."""
    reports = list[PhaseReport]()
    for phase, by_arm in counts.items():
        of_phase = {phase: by_arm}
        arms = sorted(by_arm, key=lambda arm: (arm != against, arm))
        lifts: dict[str, Lift] = {}
        for arm in arms:
            lift = _lift({0: compare(of_phase, arm, against)}, tau)
            if arm != against and lift is not None:
                lifts[arm] = lift

        hours = [key.hour for key in feeds if key.experiment == phase]
        reports.append(
            PhaseReport(
                phase=phase,
                experiment=experiments.get(phase),
                first_hour=min(hours),
                last_hour=max(hours),
                arms=tuple(_arm_counts(arm, of_phase, users) for arm in arms),
                lifts=lifts,
            )
        )
    return tuple(sorted(reports, key=lambda report: (report.first_hour, report.phase)))


# The verdict


def _obstacle(checks: _Checks, least_takes: int, least_users: int) -> Verdict | None:
    """Why there is no verdict: the first case of the table at the head of this file. None if there
    is one.
    """
    ratio = checks.sample_ratio
    cases = (
        (Verdict.ARMS_DO_NOT_MATCH, bool(checks.misassigned)),
        (Verdict.SAMPLE_RATIO_IS_OFF, ratio is not None and ratio.is_off),
        (Verdict.FEW_TAKES, least_takes < LEAST_TAKES),
        (Verdict.USERS_NOT_COUNTED, checks.misassigned is None),
        (Verdict.FEW_USERS, least_users < LEAST_USERS),
        (Verdict.PLAN_NOT_KNOWN, not checks.is_plan_known),
        (Verdict.PHASE_NOT_KNOWN, bool(checks.unknown_phases or checks.unchecked)),
    )
    for verdict, applies in cases:
        if applies:
            return verdict
    return None


def _decide(lift: Lift, most_difference: float) -> Verdict:
    """What the interval says of an arm without obstacles."""
    if lift.low > 0:
        return Verdict.BETTER
    if lift.high < 0:
        return Verdict.WORSE
    if lift.low >= -most_difference and lift.high <= most_difference:
        return Verdict.NO_DIFFERENCE
    return Verdict.NOT_DECIDED


def _days_more(
    comparisons: Mapping[int, Comparison],
    tau: float,
    closed_until: int | None,
    since: int | None,
) -> float | None:
    """How many days the traffic of the last day must go on until the arm is decided, if the lift
    stays what it is now. None if there was no traffic.

    It is decided as soon as the margin of the interval is smaller than the lift, or leaves no room
    for a difference of m. The square of the standard error falls as the traffic of the phases, by
    their weights, grows.
    """
    last = max(comparisons)
    first = min(comparisons)
    now = comparisons[last]
    if now.effect is None:
        return None

    end = (last + 1) * HOUR_MS
    if closed_until is not None and closed_until > last * HOUR_MS:
        end = closed_until
    start = max(first * HOUR_MS, since or 0)
    weight_before = 0.0
    if last - first >= _HOURS_BACK:
        start = (last - _HOURS_BACK + 1) * HOUR_MS
        weight_before = max(
            comparison.weight for hour, comparison in comparisons.items() if hour * HOUR_MS < start
        )
    gained = now.weight - weight_before
    if gained <= 0 or end <= start:
        return None

    size = abs(now.effect.theta)
    margin = max(size, math.log1p(tau) - size)
    factor = (now.effect.error / needed_error(margin, tau)) ** 2
    days = (end - start) / (24 * HOUR_MS)
    return now.weight * (factor - 1) / gained * days


# Words


_WORDS = {
    Verdict.ARMS_DO_NOT_MATCH: "VERDICT WITHHELD: ARMS DO NOT MATCH THE PUBLISHED HASH",
    Verdict.SAMPLE_RATIO_IS_OFF: "VERDICT WITHHELD: THE SAMPLE RATIO IS OFF",
    Verdict.FEW_TAKES: f"fewer than {LEAST_TAKES} takes",
    Verdict.USERS_NOT_COUNTED: "no verdict: users are not counted",
    Verdict.FEW_USERS: f"fewer than {LEAST_USERS} users",
    Verdict.PLAN_NOT_KNOWN: "no verdict: steering could not be read, so its plan is not known",
    Verdict.PHASE_NOT_KNOWN: "no verdict: the experiment of some feeds is not known",
    Verdict.BETTER: "better",
    Verdict.WORSE: "worse",
}


def _words(
    verdict: Verdict,
    tuned_for: float,
    lift: Lift | None,
    days_more: float | None,
    stopped: str | None,
) -> str:
    """The second half of the sentence that a manager reads."""
    if verdict in _WORDS:
        return _WORDS[verdict]
    if verdict is Verdict.NO_DIFFERENCE:
        return f"no difference beyond {tuned_for * 100:g} %"
    if lift is not None and lift.p < ALPHA:
        return f"not decided any more: p was {lift.p:.2g}, but the lift has changed since"
    if stopped is not None:
        return f"not decided: {stopped} gets no users now"
    return f"not decided yet: {_time_text(days_more)}"


def _time_text(days: float | None) -> str:
    if days is None:
        return "there is no traffic"
    if days > 365:
        return "more than a year at this traffic"
    if days >= 1.5:
        return f"about {days:.0f} more days at this traffic"
    if days * 24 < 1:
        return "less than 1 more hour at this traffic"
    hours = round(days * 24)
    return f"about {hours} more hour{'' if hours == 1 else 's'} at this traffic"


def _lift_text(lift: Lift | None) -> str:
    if lift is None:
        return "lift not known"
    low = _percent(lift.low)
    high = _percent(lift.high)
    return f"{_percent(lift.lift)} % (95 %: {low} to {high})"


def _percent(fraction: float) -> str:
    percent = fraction * 100
    return f"{percent:+.1f}" if abs(percent) < 1_000 else f"{percent:+.3g}"
