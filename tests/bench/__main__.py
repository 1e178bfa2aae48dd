"""`python -m tests.bench`: start a stack, measure, print the reports, end the stack.

Without a word both parts are measured: the worker, then outcomes.
"""

import json
import signal
import sys
from dataclasses import replace

import click

from tests.bench.measure import measure
from tests.bench.outcome_report import OutcomeLimits, OutcomeReport
from tests.bench.outcomes import measure_outcomes
from tests.bench.peers.environment import OUTCOMES, RANKING, peers_python
from tests.bench.programs import PLAIN_COUNT, PLAIN_LOOP, faust, quix
from tests.bench.report import Limits, Report
from tests.rig.environment import Environment
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
QUICK_OUTCOMES = OutcomeLimits(
    backlog_feeds=400,
    slow_feeds=40,
    turns=1,
    open_feeds=4000,
    restart_feeds=1000,
    worker_requests=1000,
    worker_pairs=1,
)
PARTS = ("worker", "outcomes")


@click.command()
@click.argument("part", type=click.Choice(PARTS), required=False)
@click.option(
    "--quick", is_flag=True, help="Small counts, to see that it runs: the figures mean little."
)
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON, by part.")
@click.option(
    "--peers",
    type=click.Choice(["none", "plain", "all"]),
    default="plain",
    show_default=True,
    help="all: Quix Streams and Faust too, each in an environment of its own under the cache.",
)
@click.option("--seed", type=int, default=Limits.seed, show_default=True)
def bench(part: str | None, quick: bool, as_json: bool, peers: str, seed: int) -> None:
    """Measure what the worker costs and what outcomes cost, beside their peers, on a real Kafka of
    its own. `worker` or `outcomes` measures one of the two alone.
    """
    # SIGTERM leaves by an exception, so that the stack is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    reports: dict[str, Report | OutcomeReport] = {}

    with started_servers() as servers:
        env = measured_environment(servers.kafka, servers.redis, servers.folder)
        if part in (None, "worker"):
            limits = replace(QUICK if quick else Limits(), seed=seed)
            reports["worker"] = _measure_worker(env, limits, peers)
        if part in (None, "outcomes"):
            outcome_limits = replace(QUICK_OUTCOMES if quick else OutcomeLimits(), seed=seed)
            reports["outcomes"] = _measure_outcomes(env, outcome_limits, peers)

    if as_json:
        by_part = {name: report.as_json() for name, report in reports.items()}
        click.echo(json.dumps(by_part, indent=2))
        return
    for report in reports.values():
        for line in report.lines():
            click.echo(line)


def _measure_worker(env: Environment, limits: Limits, peers: str) -> Report:
    programs = []
    if peers != "none":
        programs.append(PLAIN_LOOP)
    if peers == "all":
        programs.append(quix(peers_python(user_cache() / "bench-peers", RANKING)))
    return measure(env, limits, programs, _say)


def _measure_outcomes(env: Environment, limits: OutcomeLimits, peers: str) -> OutcomeReport:
    plain = [] if peers == "none" else [PLAIN_COUNT]
    slow = []
    if peers == "all":
        slow.append(faust(peers_python(user_cache() / "bench-faust", OUTCOMES)))
    return measure_outcomes(env, limits, _say, peers=plain, slow_peers=slow)


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    bench()
