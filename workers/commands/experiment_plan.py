"""`trimtab experiment plan`: how much traffic a verdict would need.

Everything is measured on the surface itself: its traffic, its take-rate, and how much its readers
differ. Nothing is written, and no Redis is needed.
"""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import click

from workers.commands.options import (
    BrokersAt,
    PastTime,
    Percentage,
    brokers_options,
    example,
    json_option,
    settings,
    surface_argument,
    tuned_for_option,
)
from workers.commands.outcomes.counts import nothing_counted
from workers.commands.text import (
    days_text,
    hour_text,
    lift_text,
    printable,
    rate_text,
    share_text,
    table,
    wrap,
)
from workers.errors import Failure
from workers.outcomes.plan import DEFAULT_TUNED_FOR
from workers.outcomes.planning import POWER, TrafficPlan, plan_traffic
from workers.outcomes.records import HOUR_MS
from workers.outcomes.traffic import HOURS_OF_DAY, Traffic, measure_traffic
from workers.streaming.feed_sums import FeedSumsReader

_SHARES = ("5%", "10%", "25%", "50%")


@dataclass(frozen=True)
class MeasuredPlan:
    """What each share of users would need, from the traffic of the surface."""

    surface: str
    traffic: Traffic
    plans: tuple[TrafficPlan, ...]


@click.command(
    epilog=example(
        "trimtab experiment plan home --lift 3%",
        "trimtab experiment plan home --lift 3% --share 20% --since 7d",
    )
)
@brokers_options
@settings("topic_feed_outcomes")
@surface_argument
@click.option(
    "--lift",
    required=True,
    type=Percentage(above=-1, below=100),
    metavar="PERCENT",
    help="The lift of the take-rate that is to be found, such as 3% or -2%.",
)
@click.option(
    "--share",
    "shares",
    multiple=True,
    default=_SHARES,
    show_default="5%, 10%, 25% and 50%",
    type=Percentage(above=0, below=1),
    metavar="PERCENT",
    help="Share of the users that the arm gets; control gets the rest. May be given several times.",
)
@tuned_for_option(
    f"The lift that the experiment would be tuned for.  [default: {share_text(DEFAULT_TUNED_FOR)}]"
)
@click.option(
    "--since",
    type=PastTime(),
    help="Measure from the hour of this time on: 2h or 7d ago, or 2026-01-31T18:30Z.",
)
@json_option("Print the plan as one JSON object.")
def plan(
    brokers: BrokersAt,
    topic_feed_outcomes: str,
    surface: str,
    lift: float,
    shares: Sequence[float],
    tuned_for: float | None,
    since: int | None,
    as_json: bool,
) -> None:
    """How much traffic and how many days an experiment on SURFACE needs.

    An arm needs the more traffic, the smaller the lift, the lower the take-rate, and the more
    readers differ. All three are measured on the feeds that are counted already. Looking all the
    time costs more than looking once at the end, but the experiment may end as soon as it is
    decided. Exit code 1 if too little is counted, and what is missing.
    """
    if lift == 0:
        raise click.BadParameter(
            "got 0, expected a lift that differs from none", param_hint="--lift"
        )
    with closing(
        FeedSumsReader(brokers.cluster(), topic_feed_outcomes, lambda key: key.surface == surface)
    ) as reader:
        reader.read_to_end()
        counts = reader.counts_by_arm_hour(surface, since)
    if not counts:
        raise Failure(nothing_counted(reader.surfaces, surface, topic_feed_outcomes))

    traffic = measure_traffic(counts, reader.closed_until.values())
    measured = plan_shares(surface, traffic, lift=lift, tuned_for=tuned_for, shares=shares)
    if as_json:
        click.echo(json.dumps(plan_document(measured)))
    else:
        click.echo("\n".join(plan_lines(measured)))


def plan_shares(
    surface: str,
    traffic: Traffic,
    *,
    lift: float,
    tuned_for: float | None,
    shares: Sequence[float],
) -> MeasuredPlan:
    """A plan for each share. Raises Failure if the traffic says too little."""
    if traffic.missing is not None or traffic.rate is None or traffic.design_effect is None:
        raise Failure(
            f"{surface}: too little is counted to plan an experiment: {traffic.missing}. Only feeds"
            " of control count, and only once their outcome window has closed"
        )
    plans = []
    for share in shares:
        plans.append(
            plan_traffic(
                lift=lift,
                rate=traffic.rate,
                design_effect=traffic.design_effect,
                seen_per_day=traffic.seen_per_day or 0.0,
                share=share,
                control_share=1 - share,
                tuned_for=DEFAULT_TUNED_FOR if tuned_for is None else tuned_for,
            )
        )
    return MeasuredPlan(surface, traffic, tuple(plans))


# For programs


def plan_document(measured: MeasuredPlan) -> dict[str, object]:
    """What --json prints. Times in ms since the epoch."""
    traffic = measured.traffic
    first = measured.plans[0]
    rows = []
    for planned in measured.plans:
        rows.append(
            {
                "share": planned.share,
                "seen_once": round(planned.seen_once),
                "seen_always": round(planned.seen_always),
                "days_once": planned.days_once,
                "days_always": planned.days_always,
            }
        )
    return {
        "surface": measured.surface,
        "lift": first.lift,
        "tuned_for": first.tuned_for,
        "power": POWER,
        "measured": {
            "seen": traffic.seen,
            "takes": traffic.takes,
            "take_rate": traffic.rate,
            "design_effect": traffic.design_effect,
            "from": traffic.first_hour * HOUR_MS,
            "until": traffic.end_hour * HOUR_MS,
            "seen_per_day": traffic.seen_per_day,
        },
        "shares": rows,
    }


# For people


def plan_lines(measured: MeasuredPlan) -> list[str]:
    """The table, and what it rests on."""
    traffic = measured.traffic
    first = measured.plans[0]
    title = f"{measured.surface}: to find a lift of {lift_text(first.lift)}"

    rows = [
        [
            "arm's share",
            "seen if looked at once",
            "days",
            "seen if looked at always",
            "days",
        ]
    ]
    for planned in measured.plans:
        rows.append(
            [
                share_text(planned.share),
                f"{planned.seen_once:,.0f}",
                days_text(planned.days_once),
                f"{planned.seen_always:,.0f}",
                days_text(planned.days_always),
            ]
        )
    lines = [printable(title), *table(rows, align="r"), ""]

    lines += wrap(
        "So many items must the readers of the arm see until a lift of this size is found with a"
        f" probability of {share_text(POWER)}. Control has the rest of the users. Looking always"
        f" costs this much if the experiment is tuned for lifts of {share_text(first.tuned_for)};"
        " tuned for the lift that you look for, it costs least."
    )
    lines += wrap(
        f"Measured on {traffic.seen:,} items seen in feeds of control and {traffic.takes:,} takes:"
        f" take-rate {rate_text(first.rate)}, design effect {first.design_effect:.1f}. (The variance"
        " is larger by this factor than if all items seen were independent, because readers differ"
        " and come back.)"
    )
    lines += wrap(_traffic_sentence(traffic))
    return lines


def _traffic_sentence(traffic: Traffic) -> str:
    if traffic.seen_per_day is None:
        return (
            "How many days that takes is not known yet: traffic is measured in whole hours, and none"
            " is closed yet. The first hour does not count."
        )
    sentence = (
        f"Traffic was measured from {hour_text(traffic.first_hour)} to"
        f" {hour_text(traffic.end_hour)}: {traffic.seen_per_day:,.0f} items seen a day."
    )
    if traffic.hours < HOURS_OF_DAY:
        sentence += (
            f" That is less than a day, so the hour of the day may mislead: expected {HOURS_OF_DAY}"
            f" whole hours, got {traffic.hours}."
        )
    return sentence
