"""`python -m tests.bench`: start a stack, measure, print the report, end the stack."""

import json
import signal
import sys
from dataclasses import replace

import click

from tests.bench.measure import measure
from tests.bench.peers.environment import peers_python
from tests.bench.programs import PLAIN_LOOP, Program, quix
from tests.bench.report import Limits
from tests.rig.measured import measured_environment
from tests.rig.servers import started_servers, user_cache

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
    # SIGTERM leaves by an exception, so that the stack is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    limits = replace(QUICK if quick else Limits(), seed=seed)
    programs = _peers(peers)

    with started_servers() as servers:
        env = measured_environment(servers.kafka, servers.redis, servers.folder)
        report = measure(env, limits, programs, lambda line: click.echo(line, err=True))

    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        for line in report.lines():
            click.echo(line)


def _peers(names: str) -> list[Program]:
    match names:
        case "all":
            return [PLAIN_LOOP, quix(peers_python(user_cache()))]
        case "plain":
            return [PLAIN_LOOP]
        case _:
            return []


if __name__ == "__main__":
    bench()
