"""Reports that are built here, for the tests of what is printed."""

from collections.abc import Mapping
from typing import Any

from tests.outcomes.building import HOUR, PHASE, arm_hour, sums, users
from workers.commands.outcomes.report_output import Reported
from workers.outcomes.plan import GuardRail, Plan
from workers.outcomes.reconciliation import Difference, FeedTotals, Reconciliation
from workers.outcomes.records import HOUR_MS, ArmHour
from workers.outcomes.report import Counted, Steered, make_report
from workers.outcomes.sums import Sums
from workers.outcomes.user_sums import UserSums
from workers.ranking.experiment import Experiment

HALVES = Experiment("home-3f2a", {"canary": 5_000})
STEERED = Steered(is_read=True, current=HALVES, experiments={PHASE: HALVES}, since=HOUR * HOUR_MS)
FEEDS = {
    arm_hour("control"): sums(seen=1_000, take_rate=0.05, spread=0.2),
    arm_hour("canary"): sums(seen=1_000, take_rate=0.06, spread=0.2),
}
USERS = {arm_hour("control"): users(1_010), arm_hour("canary"): users(990)}
NOON = (HOUR + 1) * HOUR_MS


def reported(
    feeds: Mapping[ArmHour, Sums] = FEEDS,
    over_users: Mapping[ArmHour, UserSums] | None = USERS,
    steered: Steered = STEERED,
    **changes: Any,
) -> Reported:
    """A report in which nothing is missing and everything is right, but for the changes."""
    values: dict[str, Any] = {
        "surface": "home",
        "since": None,
        "report": make_report(
            Counted(feeds, over_users, NOON), steered, against=changes.pop("against", "control")
        ),
        "running": steered.current,
        "steering_missing": None,
        "reconciliation": Reconciliation(2, ()),
        "not_reconciled": None,
        "closed_until": {0: NOON, 1: NOON},
    }
    return Reported(**values | changes)


def with_rails() -> Steered:
    """An experiment whose arm was stopped, with a rail that is broken and one without data."""
    rails = (GuardRail.parse("take_rate >= -2%"), GuardRail.parse("hide <= 0.05"))
    return Steered(
        is_read=True,
        current=Experiment("home-3f2a", {"canary": 0}),
        experiments={PHASE: HALVES},
        plan=Plan("home-3f2a", 0.05, rails),
    )


WORSE = FEEDS | {arm_hour("canary"): sums(seen=1_000, take_rate=0.04, spread=0.2)}
_TOTALS = FeedTotals(12, 60, 3)
_DIFFERENCE = Difference(arm_hour("canary"), FeedTotals(11, 55, 3), _TOTALS, _TOTALS)

REPORTS = {
    "better": reported(),
    "rails": reported(WORSE, steered=with_rails()),
    "differences": reported(since=NOON, reconciliation=Reconciliation(2, (_DIFFERENCE,))),
    "nothing but feeds": reported(
        over_users=None,
        steered=Steered(is_read=False),
        steering_missing="--redis is not set",
        reconciliation=None,
        not_reconciled="trimtab outcomes users has counted no feed of this surface",
        closed_until={0: None},
    ),
    "no takes": reported({arm_hour("control"): Sums()}),
}
"""One of each kind, for the schema."""
