"""`python -m tests.bench`: start a stack, measure, print the report, end the stack."""

import json
import signal
import sys
from dataclasses import replace

import click

from tests.bench.measure import measure
from tests.bench.peers.environment import peers_python
from tests.bench.report import Limits
from tests.bench.rig import start_rig, user_cache
from tests.bench.runner import PLAIN_LOOP, Runner, quix

QUICK = Limits(
    backlog_requests=1000,
    steady_requests=200,
    open_requests=500,
    models=60,
    models_held=12,
    models_requests=600,
)


@click.command()
@click.option(
    "--quick", is_flag=True, help="Small counts, to see that it runs: the figures mean little."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--peers",
    type=click.Choice(["none", "plain", "all"]),
    default="plain",
    show_default=True,
    help="all: Quix Streams too, installed into an environment of its own under the cache.",
)
@click.option("--seed", type=int, default=Limits.seed, show_default=True)
def bench(quick: bool, as_json: bool, peers: str, seed: int) -> None:
    """Measure what the worker costs, beside its peers, on a real Kafka of its own."""
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(1)
    )  # so that the stack is ended on the way out
    limits = replace(QUICK if quick else Limits(), seed=seed)
    beside = _peers(peers)
    with start_rig() as rig:
        report = measure(rig, limits, beside, lambda line: click.echo(line, err=True))
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
        return
    for line in report.lines():
        click.echo(line)


def _peers(which: str) -> list[Runner]:
    if which == "all":
        return [PLAIN_LOOP, quix(peers_python(user_cache()))]
    return [PLAIN_LOOP] if which == "plain" else []


if __name__ == "__main__":
    bench()
