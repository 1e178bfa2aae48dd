"""The report of an experiment as text and as JSON.

The text begins with what everybody must read: a sentence for each arm, then warnings. Below that are
the numbers, the checks, the guard rails, and up to when feeds are counted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from workers.commands.text import (
    NOTHING,
    hour_text,
    lift_text,
    limits_text,
    moment_text,
    probability_text,
    rate_text,
    share_text,
    shares_text,
    table,
    wrap,
)
from workers.outcomes.rails import RailState
from workers.outcomes.reconciliation import Difference, FeedTotals, Reconciliation
from workers.outcomes.records import HOUR_MS
from workers.outcomes.report import ArmCounts, ArmReport, Lift, PhaseReport, Report, SampleRatio
from workers.ranking.experiment import CONTROL, Experiment

_ARM_WIDTH = 24
"""Columns of a table's first column. Longer names are cut, but the sentences have them whole."""
_SHOWN_DIFFERENCES = 3
_INTERVALS = (
    "The interval of a take-rate is Wilson's. That of a lift takes into account that readers differ"
    " and come back, and holds however often one looks; p is the least so far."
)


class ReportRows(StrEnum):
    """What the tables of a report are made by."""

    ARM = "arm"
    PHASE = "phase"


@dataclass(frozen=True)
class Reported:
    """A report, and what one must know about how it was made.

    - `since`: feeds of earlier hours are left out (ms since the epoch). None: none is.
    - `running`: the experiment that is in force, None if it is not known or there is none.
    - `steering_missing`: why steering was not read, None if it was.
    - `reconciliation`: how users compare with feeds. If it is None, `not_reconciled` says why.
    - `closed_until`: for each partition, the time (ms) before which every feed is counted.
    """

    surface: str
    since: int | None
    report: Report
    running: Experiment | None
    steering_missing: str | None
    reconciliation: Reconciliation | None
    not_reconciled: str | None
    closed_until: Mapping[int, int | None]

    @property
    def warnings(self) -> list[str]:
        """What everybody must know beside the verdicts."""
        warnings = list(self.report.warnings)
        if self.reconciliation is not None and self.reconciliation.differences:
            warnings.append(
                "users and feeds do not come to the same numbers: one of the two stages has lost or"
                " repeated feeds (see the checks below)"
            )
        return warnings


# For programs


def report_document(reported: Reported) -> dict[str, object]:
    """What --json prints. Times in ms since the epoch, rates and lifts as fractions."""
    report = reported.report
    partitions = []
    for partition, until in reported.closed_until.items():
        partitions.append({"partition": partition, "closed_until": until})
    return {
        "surface": reported.surface,
        "since": reported.since,
        "salt": report.salt,
        "against": report.against,
        "tuned_for": report.tuned_for,
        "steering_missing": reported.steering_missing,
        "warnings": reported.warnings,
        "arms": [_arm_document(arm) for arm in report.arms],
        "phases": [_phase_document(phase) for phase in report.phases],
        "checks": _checks_document(reported),
        "partitions": partitions,
    }


def _arm_document(arm: ArmReport) -> dict[str, object]:
    return {
        **_counts_document(arm.counts),
        "comparison": _lift_document(arm.lift),
        "verdict": arm.verdict,
        "sentence": arm.sentence,
        "days_more": arm.days_more,
        "rails": [rail_document(state) for state in arm.rails],
    }


def _counts_document(counts: ArmCounts) -> dict[str, object]:
    interval = counts.interval
    return {
        "arm": counts.arm,
        "feeds": counts.feeds,
        "deadline_feeds": counts.deadline_feeds,
        "items": counts.items,
        "users": counts.users,
        "seen": counts.seen,
        "takes": counts.takes,
        "take_rate": counts.take_rate,
        "interval": None if interval is None else interval._asdict(),
    }


def _lift_document(lift: Lift | None) -> dict[str, object] | None:
    if lift is None:
        return None
    return {"lift": lift.lift, "interval": {"low": lift.low, "high": lift.high}, "p": lift.p}


def rail_document(state: RailState) -> dict[str, object]:
    """A rail as --json prints it, in a report and in `experiment show`."""
    return {
        "rail": state.rail.text,
        "standing": state.standing,
        "level": state.level,
        "value": state.value,
        "control_value": state.control_value,
        "low": state.low,
        "high": state.high,
        "events": state.events,
        "control_events": state.control_events,
        "reason": state.reason,
    }


def _phase_document(phase: PhaseReport) -> dict[str, object]:
    arms = []
    for counts in phase.arms:
        lift = phase.lifts.get(counts.arm)
        arms.append({**_counts_document(counts), "comparison": _lift_document(lift)})
    return {
        "phase": phase.phase,
        "first_hour": phase.first_hour * HOUR_MS,
        "last_hour": phase.last_hour * HOUR_MS,
        "shares": None if phase.experiment is None else _percents(phase.experiment),
        "arms": arms,
    }


def _checks_document(reported: Reported) -> dict[str, object]:
    report = reported.report
    ratio = report.sample_ratio
    reconciliation = reported.reconciliation
    differences = () if reconciliation is None else reconciliation.differences
    return {
        "misassigned": report.misassigned,
        "unchecked": report.unchecked,
        "unknown_phases": list(report.unknown_phases),
        "sample_ratio": ratio
        and {
            "is_off": ratio.is_off,
            "p": ratio.p,
            "new_users": dict(ratio.users),
            "expected": dict(ratio.expected),
        },
        "users": {
            "compared": None if reconciliation is None else reconciliation.compared,
            "differences": [_difference_document(each) for each in differences],
            "not_compared": reported.not_reconciled,
        },
    }


def _difference_document(difference: Difference) -> dict[str, object]:
    arm_hour = difference.arm_hour
    return {
        "hour": arm_hour.hour * HOUR_MS,
        "arm": arm_hour.arm,
        "phase": arm_hour.experiment,
        "over_users": difference.over_users._asdict(),
        "over_feeds": difference.after._asdict(),
    }


def _percents(experiment: Experiment) -> dict[str, float]:
    return {CONTROL: experiment.percent(CONTROL), **experiment.percents()}


# For people


def report_lines(reported: Reported, by: ReportRows) -> list[str]:
    """The report in the order in which one reads it."""
    report = reported.report
    sentences = [arm.sentence for arm in report.arms if arm.sentence is not None]
    if not sentences:
        sentences = [f"{report.against} is the only arm with feeds: there is nothing to compare."]
    lines = []
    for sentence in [*sentences, *reported.warnings]:
        lines += wrap(sentence, indent=2)

    lines += ["", *wrap(_title(reported))]
    if by is ReportRows.PHASE:
        for phase in report.phases:
            lines += _phase_lines(phase)
    else:
        lines += _arm_tables(reported)
    lines += ["", *wrap(_INTERVALS)]

    lines += ["", "Checks", *_check_lines(reported)]
    rails = _rail_lines(report)
    if rails:
        lines += ["", "Guard rails", *rails]
    lines += ["", *_closed_lines(reported.closed_until)]
    return lines


def _title(reported: Reported) -> str:
    report = reported.report
    parts = [reported.surface]
    if report.salt is not None:
        parts.append(f"experiment {report.salt}")
    parts.append(f"compared with {report.against}")
    parts.append(f"tuned for lifts of {share_text(report.tuned_for)}")
    if reported.since is not None:
        parts.append(f"feeds from {hour_text(reported.since // HOUR_MS)} on")
    return ", ".join(parts)


def _arm_tables(reported: Reported) -> list[str]:
    """Two tables: what the arms did, and how they compare."""
    report = reported.report
    rows = [["arm", "share", *_COUNT_COLUMNS]]
    for arm in report.arms:
        share = _running_share(reported.running, arm.counts.arm)
        rows.append([arm.counts.arm, share, *_count_cells(arm.counts)])
    lines = table(rows, align="lr", first_width=_ARM_WIDTH)

    compared = [arm for arm in report.arms if arm.counts.arm != report.against]
    if compared:
        rows = [["arm", *_LIFT_COLUMNS]]
        for arm in compared:
            rows.append([arm.counts.arm, *_lift_cells(arm.lift)])
        lines += ["", *table(rows, align="lr", first_width=_ARM_WIDTH)]
    return lines


def _phase_lines(phase: PhaseReport) -> list[str]:
    """One phase: what it was, and what its arms did."""
    shares = "its experiment is not known"
    if phase.experiment is not None:
        shares = shares_text(_percents(phase.experiment))
    title = (
        f"phase {phase.phase}: {hour_text(phase.first_hour)} to {hour_text(phase.last_hour + 1)},"
        f" {shares}"
    )
    rows = [["arm", *_COUNT_COLUMNS]]
    for counts in phase.arms:
        rows.append([counts.arm, *_count_cells(counts)])
    lines = ["", *wrap(title), *_indented(table(rows, align="lr", first_width=_ARM_WIDTH))]

    if phase.lifts:
        rows = [["arm", *_LIFT_COLUMNS]]
        for arm, lift in phase.lifts.items():
            rows.append([arm, *_lift_cells(lift)])
        lines += _indented(table(rows, align="lr", first_width=_ARM_WIDTH))
    return lines


_COUNT_COLUMNS = ("feeds", "users", "seen", "takes", "take-rate", "95 % interval")
_LIFT_COLUMNS = ("lift", "95 % interval", "p")


def _count_cells(counts: ArmCounts) -> list[str]:
    rate = counts.take_rate
    interval = counts.interval
    cells = [
        f"{counts.feeds:,}",
        NOTHING if counts.users is None else f"{counts.users:,}",
        f"{counts.seen:,}",
        f"{counts.takes:,}",
    ]
    if rate is None or interval is None:
        return [*cells, NOTHING, NOTHING]
    return [*cells, rate_text(rate), f"{rate_text(interval.low)} to {rate_text(interval.high)}"]


def _lift_cells(lift: Lift | None) -> list[str]:
    if lift is None:
        return [NOTHING, NOTHING, NOTHING]
    return [lift_text(lift.lift), limits_text(lift.low, lift.high), probability_text(lift.p)]


def _running_share(running: Experiment | None, arm: str) -> str:
    """The share of the users that an arm has now."""
    if running is None:
        return NOTHING
    if arm != CONTROL and arm not in running.shares:
        return NOTHING
    return f"{running.percent(arm):g} %"


def _check_lines(reported: Reported) -> list[str]:
    report = reported.report
    checks = {
        "assignment": _assignment_text(report),
        "sample ratio": _sample_ratio_text(report.sample_ratio, report.misassigned is not None),
        "users": _users_text(reported),
    }
    if reported.steering_missing is not None:
        checks["steering"] = f"not read: {reported.steering_missing}"

    lines = []
    for name, text in checks.items():
        lines += wrap(text, label=f"  {name:<12}  ")
    return lines


def _assignment_text(report: Report) -> str:
    if report.misassigned is None:
        return "not checked, because users are not counted"
    if report.misassigned:
        return (
            f"WRONG: {report.misassigned:,} feeds are of another arm than the published hash gives"
            " their users"
        )
    if report.unchecked:
        return f"right, except for {report.unchecked:,} feeds that could not be checked"
    return "right: every feed is of the arm that the published hash gives its user"


def _sample_ratio_text(ratio: SampleRatio | None, has_users: bool) -> str:
    if ratio is None:
        if has_users:
            return "not checked, because the shares of no phase are known"
        return "not checked, because users are not counted"
    arms = []
    for arm, expected in ratio.expected.items():
        arms.append(f"{arm} {ratio.users.get(arm, 0):,} ({expected:,.0f} expected)")
    standing = "OFF" if ratio.is_off else "right"
    return f"{standing}, p {probability_text(ratio.p)}. New users: {', '.join(arms)}"


def _users_text(reported: Reported) -> str:
    found = reported.reconciliation
    if found is None:
        reason = reported.not_reconciled or "nothing is counted"
        return f"not compared with feeds yet: {reason}"
    if not found.compared:
        return "not compared with feeds: records of these hours were deleted"
    if not found.differences:
        return f"the same numbers as over feeds, in {_arm_hours(found.compared)}"

    shown = [_difference_text(each) for each in found.differences[:_SHOWN_DIFFERENCES]]
    if len(found.differences) > len(shown):
        shown.append("and so on")
    return (
        f"OTHER NUMBERS than over feeds in {len(found.differences):,} of"
        f" {_arm_hours(found.compared)}: {'; '.join(shown)}"
    )


def _arm_hours(count: int) -> str:
    return f"{count:,} {'pair' if count == 1 else 'pairs'} of hour and arm"


def _difference_text(difference: Difference) -> str:
    arm_hour = difference.arm_hour
    return (
        f"{arm_hour.arm} at {hour_text(arm_hour.hour)} has {_totals_text(difference.over_users)}"
        f" over users, {_totals_text(difference.after)} over feeds"
    )


def _totals_text(totals: FeedTotals) -> str:
    return f"feeds {totals.feeds:,}, seen {totals.seen:,}, takes {totals.takes:,}"


def _rail_lines(report: Report) -> list[str]:
    lines = []
    for arm in report.arms:
        if arm.rails:
            lines += wrap(arm.counts.arm, label="  ")
        for state in arm.rails:
            lines += wrap(state.text, label="    ", indent=6)
    return lines


def _closed_lines(closed_until: Mapping[int, int | None]) -> list[str]:
    """Up to when feeds are counted."""
    known = {p: until for p, until in closed_until.items() if until is not None}
    silent = [str(partition) for partition in closed_until if partition not in known]
    if not known:
        return wrap("No partition has closed feeds yet.")

    behind = min(known, key=lambda partition: known[partition])
    ahead = max(known, key=lambda partition: known[partition])
    text = (
        f"Only feeds whose outcome window is over are counted: partition {behind} up to"
        f" {moment_text(known[behind])}"
    )
    if known[ahead] != known[behind]:
        text += f", the others up to {moment_text(known[ahead])} at most"
    text += "."
    if silent:
        text += f" Nothing yet in partition {', '.join(silent)}."
    return wrap(text)


def _indented(lines: Iterable[str]) -> Sequence[str]:
    return [f"  {line}" for line in lines]
