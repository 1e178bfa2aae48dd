"""`python -m tests.trial`: start a stack and workers, turn weights in mid-stream, print what came of it, end all."""

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

import click

from tests.bench.rig import start_rig
from tests.trial.own_redis import start_redis
from tests.trial.report import Limits
from tests.trial.trial import run_trial


@click.command()
@click.option("--changes", type=click.IntRange(min=50), default=Limits.changes, show_default=True)
@click.option("--seed", type=int, default=Limits.seed, show_default=True)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the report to this file as JSON, too."
)
def trial(changes: int, seed: int, json_file: Path | None) -> None:
    """Turn weights in mid-stream on a real Kafka and a real Redis, and judge every feed.

    Ends with 1 where anything is lost, doubled, torn or acknowledged falsely. Times do not decide.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything is ended on the way out
    limits = replace(Limits(), changes=changes, seed=seed)
    with start_rig() as rig, start_redis(rig.folder / "own-redis") as redis:
        report = run_trial(rig, redis, limits, lambda line: click.echo(line, err=True))
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    for line in report.lines():
        click.echo(line)
    sys.exit(any(report.wrong.values()))


if __name__ == "__main__":
    trial()
