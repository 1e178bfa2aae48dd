"""`python -m tests.bench`: start a stack, measure, print the report, end the stack."""

import json
import signal
import sys

import click

from tests.bench.measure import measure
from tests.bench.report import Limits
from tests.bench.rig import start_rig
from tests.bench.runner import PLAIN_LOOP

QUICK = Limits(backlog_requests=1000, steady_requests=200, open_requests=500)


@click.command()
@click.option("--quick", is_flag=True, help="Small counts, to see that it runs: the figures mean little.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--peers", type=click.Choice(["none", "plain"]), default="plain", show_default=True)
@click.option("--seed", type=int, default=Limits.seed, show_default=True)
def bench(quick: bool, as_json: bool, peers: str, seed: int) -> None:
    """Measure what the worker costs, beside its peers, on a real Kafka of its own."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the stack is ended on the way out
    limits = Limits(seed=seed) if not quick else QUICK
    with start_rig() as rig:
        report = measure(rig, limits, [PLAIN_LOOP] if peers == "plain" else [], lambda line: click.echo(line, err=True))
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
        return
    for line in report.lines():
        click.echo(line)


if __name__ == "__main__":
    bench()
