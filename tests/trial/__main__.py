"""`python -m tests.trial`: start servers and workers, change them in mid-stream, judge every feed,
print all, end everything.

Without a word all trials run, one after the other.
"""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import click

from tests.rig.environment import Environment
from tests.rig.measured import measured_environment
from tests.rig.redis import started_redis
from tests.rig.servers import Servers, started_servers
from tests.trial.kills import KillsReport, run_kills
from tests.trial.models import report as models_report
from tests.trial.models.trial import run_models_trial
from tests.trial.outcomes import run_outcomes_trial
from tests.trial.steering.report import Limits
from tests.trial.steering.trial import run_trial
from tests.trial.users import run_users_trial

TRIALS = ("steering", "models", "kills", "outcomes", "users")


class Report(Protocol):
    """What a trial returns."""

    @property
    def wrong(self) -> dict[str, int]: ...

    def as_json(self) -> dict[str, Any]: ...

    def lines(self) -> Any: ...


@click.command()
@click.argument("name", type=click.Choice(TRIALS), required=False)
@click.option("--changes", type=click.IntRange(min=50), default=Limits.changes, show_default=True)
@click.option("--kills", type=click.IntRange(min=1), default=10, show_default=True)
@click.option(
    "--protocol",
    type=click.Choice(["cooperative-sticky", "range", "consumer"]),
    default="cooperative-sticky",
    show_default=True,
    help="Group protocol, in the trial of outcomes.",
)
@click.option("--seed", type=int, default=Limits.seed, show_default=True)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    help="Write the report of each trial to this file as JSON, too.",
)
def trial(
    name: str | None,
    changes: int,
    kills: int,
    protocol: str,
    seed: int,
    json_file: Path | None,
) -> None:
    """Turn weights, swap models and kill a worker, the join and a broker in mid-stream, on a real
    Kafka and a real Redis, and judge every feed and every outcome.

    `steering`, `models`, `kills`, `outcomes` or `users` runs one of the five alone. Ends with 1 if anything
    is lost, doubled, torn, scored by a wrong version, acknowledged falsely, or counted wrongly.
    Times do not decide.
    """
    # SIGTERM leaves by an exception, so that everything is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    runs: dict[str, Callable[[Servers], Report]] = {
        "steering": lambda servers: _steering(servers, Limits(changes=changes, seed=seed)),
        "models": lambda servers: _models(servers, models_report.Limits(seed=seed)),
        "kills": lambda servers: _kills(servers, kills),
        "outcomes": lambda servers: run_outcomes_trial(servers, kills, seed, protocol, _say),
        "users": lambda servers: run_users_trial(servers, kills, seed, _say),
    }
    reports: dict[str, Report] = {}
    with started_servers() as servers:
        for each in TRIALS if name is None else [name]:
            reports[each] = runs[each](servers)
            click.echo("\n".join([f"--- {each}", *reports[each].lines()]))

    if json_file is not None:
        documents = {each: report.as_json() for each, report in reports.items()}
        json_file.write_text(json.dumps(documents, indent=2) + "\n")
    sys.exit(any(count for report in reports.values() for count in report.wrong.values()))


def _steering(servers: Servers, limits: Limits) -> Report:
    with started_redis(servers.folder / "own-redis") as redis:
        return run_trial(_environment(servers, "steering"), redis, limits, _say)


def _models(servers: Servers, limits: models_report.Limits) -> Report:
    return run_models_trial(_environment(servers, "models"), limits, _say)


def _kills(servers: Servers, times: int) -> KillsReport:
    return run_kills(servers, times, _say)


def _environment(servers: Servers, trial: str) -> Environment:
    """Files of its own: a trial changes them."""
    folder = servers.folder / trial
    folder.mkdir()
    return measured_environment(servers.kafka, servers.redis, folder)


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    trial()
