"""`python -m tests.trial`: start a stack and workers, steer them or swap their models in
mid-stream, print all, end it.

Without a word both trials run, one after the other.
"""

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from tests.bench.rig import Rig, start_rig
from tests.trial import report as steering_report
from tests.trial.models import report as models_report
from tests.trial.models.trial import run_models_trial
from tests.trial.own_redis import start_redis
from tests.trial.report import Limits
from tests.trial.trial import run_trial

Report = steering_report.Report | models_report.Report


@click.command()
@click.argument("which", type=click.Choice(["steering", "models"]), required=False)
@click.option("--changes", type=click.IntRange(min=50), default=Limits.changes, show_default=True)
@click.option("--seed", type=int, default=Limits.seed, show_default=True)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    help="Write each trial's report to this file as JSON, too.",
)
def trial(which: str | None, changes: int, seed: int, json_file: Path | None) -> None:
    """Turn weights, then swap models in mid-stream on a real Kafka and a real Redis, and judge
    every feed.

    `steering` or `models` runs one of the two alone. Ends with 1 where anything is lost, doubled,
    torn, scored by a wrong version, or acknowledged falsely. Times do not decide.
    """
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(1)
    )  # so that everything is ended on the way out
    trials: dict[str, Callable[[Rig], Report]] = {
        "steering": lambda rig: _steering(rig, replace(Limits(), changes=changes, seed=seed)),
        "models": lambda rig: _models(rig, replace(models_report.Limits(), seed=seed)),
    }
    reports = dict[str, Report]()
    with start_rig() as rig:
        for name in trials if which is None else [which]:
            reports[name] = trials[name](rig)
            click.echo("\n".join([f"--- {name}", *reports[name].lines()]))
    if json_file is not None:
        json_file.write_text(
            json.dumps({name: one.as_json() for name, one in reports.items()}, indent=2) + "\n"
        )
    sys.exit(any(count for report in reports.values() for count in report.wrong.values()))


def _steering(rig: Rig, limits: Limits) -> Report:
    with start_redis(rig.folder / "own-redis") as redis:
        return run_trial(rig, redis, limits, _say)


def _models(rig: Rig, limits: models_report.Limits) -> Report:
    """In a folder of its own: it adds versions."""
    folder = rig.folder / "models-trial"
    folder.mkdir()
    return run_models_trial(Rig.furnish(rig.kafka, rig.redis, folder), limits, _say)


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    trial()
