"""`trimtab outcomes report`: did the change pay off?

This module reads, `workers/outcomes/report.py` judges, and `report_output.py` prints. A report is
printed whatever can be read. What is missing is said in it, and costs the verdicts that need it:

| cannot be read                      | what is missing                                      |
|-------------------------------------|------------------------------------------------------|
| Redis, or the surface's description | plan, shares and phases: there is no verdict then    |
| the topic of the users stage        | users, and the checks of assignment and sample ratio |
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import click

from workers.commands.options import (
    BrokersAt,
    PastTime,
    brokers_options,
    evidence_options,
    example,
    gather_settings,
    json_option,
    surface_argument,
    tuned_for_option,
)
from workers.commands.outcomes.counts import nothing_counted
from workers.commands.outcomes.report_output import (
    Reported,
    ReportRows,
    report_document,
    report_lines,
)
from workers.commands.redis_access import REDIS, RedisAt
from workers.errors import Failure
from workers.outcomes.report import ReportRefused, Steered, make_report
from workers.ranking.experiment import CONTROL
from workers.settings import SETTINGS, ConfigurationError
from workers.steering.editor import RedisUnreachable
from workers.steering.view import SurfaceView
from workers.streaming.evidence import EvidenceTopics, read_evidence
from workers.surfaces import load_surfaces


class SteeringRead(NamedTuple):
    """What steering knows, and why it was not read, None if it was."""

    steered: Steered
    missing: str | None


@dataclass(frozen=True)
class OptionalSteering:
    """Where the steering documents are. A report can do without them. `redis` None: not set."""

    redis: RedisAt | None
    surfaces_file: Path

    @classmethod
    def of(
        cls, redis: str | None, redis_prefix: str, redis_timeout_ms: int, surfaces: str
    ) -> "OptionalSteering":
        """From the settings of these names."""
        redis_at = RedisAt.of(redis, redis_prefix, redis_timeout_ms) if redis else None
        return cls(redis_at, Path(surfaces))

    def read(self, surface: str) -> SteeringRead:
        """Read the documents of a surface. Raises ConfigurationError for a wrong URL of Redis."""
        if self.redis is None:
            return SteeringRead(Steered(is_read=False), f"{SETTINGS['redis'].flag} is not set")
        try:
            surfaces = load_surfaces(self.surfaces_file)
        except ConfigurationError as error:
            return SteeringRead(Steered(is_read=False), str(error))
        if surface not in surfaces:
            missing = f"surface {surface!r} is not in {self.surfaces_file}"
            return SteeringRead(Steered(is_read=False), missing)

        try:
            with self.redis.open() as editor:
                view = editor.read_view(surfaces[surface])
        except RedisUnreachable as error:
            return SteeringRead(Steered(is_read=False), str(error))
        return SteeringRead(steered_of(view), None)


def steered_of(view: SurfaceView) -> Steered:
    """What steering knows about the experiments of a surface, for a report."""
    phases = view.phases
    return Steered(
        is_read=True,
        current=phases.current,
        experiments=phases.experiments,
        since=phases.since,
        plan=view.plan_that_applies,
    )


def _parse_rows(_context: click.Context, _option: click.Parameter, name: str) -> ReportRows:
    return ReportRows(name)


@click.command(
    epilog=example(
        "trimtab outcomes report home", "trimtab outcomes report home --by phase --since 2d"
    )
)
@brokers_options
@evidence_options
@gather_settings("steering", (*REDIS, "surfaces"), OptionalSteering.of)
@surface_argument
@click.option(
    "--since",
    type=PastTime(),
    help="Count feeds from the hour of this time on: 2h or 7d ago, or 2026-01-31T18:30Z.",
)
@click.option(
    "--against",
    metavar="ARM",
    default=CONTROL,
    show_default=True,
    help="The arm that the others are compared with.",
)
@click.option(
    "--by",
    type=click.Choice([rows.value for rows in ReportRows]),
    default=ReportRows.ARM.value,
    show_default=True,
    callback=_parse_rows,
    help="What the tables are made by: all phases together, or each phase.",
)
@tuned_for_option("The lift that the experiment is tuned for, instead of that of its plan.")
@json_option("Print the report as one JSON object.")
def report(
    brokers: BrokersAt,
    topics: EvidenceTopics,
    steering: OptionalSteering,
    surface: str,
    since: int | None,
    against: str,
    by: ReportRows,
    tuned_for: float | None,
    as_json: bool,
) -> None:
    """Say for each arm of SURFACE's experiment whether it pays off.

    Arms are compared by take-rate, with an interval that holds however often one looks. The verdict
    is withheld if the arms cannot be trusted. Feeds count once their outcome window has closed.
    Exit code 1 if there is nothing to report.
    """
    read = steering.read(surface)
    evidence = read_evidence(brokers.cluster(), topics, surface, since=since)
    if not evidence.feeds:
        raise Failure(nothing_counted(evidence.surfaces, surface, topics.feed_outcomes))
    try:
        made = make_report(evidence.counted, read.steered, against=against, tuned_for=tuned_for)
    except ReportRefused as refused:
        raise Failure(f"{surface}: {refused}") from None

    reported = Reported(
        surface=surface,
        since=since,
        report=made,
        running=read.steered.current,
        steering_missing=read.missing,
        reconciliation=evidence.reconciliation,
        not_reconciled=evidence.not_reconciled,
        closed_until=evidence.closed_until,
    )
    if as_json:
        click.echo(json.dumps(report_document(reported), allow_nan=False))
    else:
        click.echo("\n".join(report_lines(reported, by)))
