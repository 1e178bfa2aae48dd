"""`python -m tests.bench`: start a stack, measure, print the reports, end the stack.

Without a word everything is measured.
"""

import json
import signal
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from tests.bench.many import measure_models
from tests.bench.many_report import ModelsLimits, ModelsReport
from tests.bench.measure import SECTIONS, measure_worker
from tests.bench.outcome_report import OutcomeLimits, OutcomeReport
from tests.bench.outcomes import measure_outcomes
from tests.bench.peers.environment import FAUST, peers_python
from tests.bench.peers_report import PeersLimits, PeersReport, measure_peers
from tests.bench.programs import PLAIN_COUNT, faust
from tests.bench.stages import StageLimits, StageReport, measure_stages
from tests.bench.worker_report import WorkerLimits, WorkerReport
from tests.rig.environment import Environment
from tests.rig.measured import measured_environment
from tests.rig.servers import started_servers, user_cache

QUICK_WORKER = WorkerLimits(
    backlog_candidates=100_000, turns=1, stream_seconds=8.0, open_requests=1000
)
QUICK_MODELS = ModelsLimits(models=60, held=12, requests=600)
QUICK_OUTCOMES = OutcomeLimits(
    backlog_feeds=400,
    slow_feeds=40,
    turns=1,
    open_feeds=4000,
    restart_feeds=1000,
    worker_requests=1000,
    worker_pairs=1,
)
QUICK_PEERS = PeersLimits(candidates=100_000)
QUICK_STAGES = StageLimits(candidates=20_000, repeats=2)
PARTS = ("worker", "stages", "models", "outcomes")

Report = WorkerReport | PeersReport | StageReport | ModelsReport | OutcomeReport


@click.command()
@click.argument("parts", type=click.Choice((*PARTS, *SECTIONS)), nargs=-1)
@click.option(
    "--quick", is_flag=True, help="Small counts, to see that it runs: the figures mean little."
)
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON, by part.")
@click.option(
    "--peers",
    type=click.Choice(["plain", "all"]),
    default="plain",
    show_default=True,
    help="all: frameworks too, each in an environment of its own under the cache.",
)
@click.option("--seed", type=int, default=WorkerLimits.seed, show_default=True)
def bench(parts: Sequence[str], quick: bool, as_json: bool, peers: str, seed: int) -> None:
    """Measure what the worker costs beside its peers, on a real Kafka of its own.

    PARTS: `worker` is the table of goals; `backlog`, `stream` and `memory` are sections of it.
    `stages` is decode, assemble, rank and encode without Kafka. `models` is a thousand models in
    one worker, `outcomes` the join.
    """
    # SIGTERM leaves by an exception, so that the stack is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    reports: dict[str, Report] = {}
    wanted = set(parts or PARTS)

    if "stages" in wanted:
        stage_limits = replace(QUICK_STAGES if quick else StageLimits(), seed=seed)
        with TemporaryDirectory(prefix="trimtab-stages-") as folder:
            measured_environment(kafka="", redis="", folder=Path(folder))
            reports["stages"] = measure_stages(Path(folder), stage_limits, _say)

    if wanted != {"stages"}:
        reports |= _measure_on_servers(wanted, quick, peers, seed)

    if as_json:
        by_part = {name: report.as_json() for name, report in reports.items()}
        click.echo(json.dumps(by_part, indent=2))
        return
    for report in reports.values():
        for line in report.lines():
            click.echo(line)


def _measure_on_servers(
    wanted: Collection[str], quick: bool, peers: str, seed: int
) -> dict[str, Report]:
    reports: dict[str, Report] = {}
    sections = set(SECTIONS) if "worker" in wanted else set(SECTIONS).intersection(wanted)
    with started_servers() as servers:
        env = measured_environment(servers.kafka, servers.redis, servers.folder)
        if sections:
            limits = replace(QUICK_WORKER if quick else WorkerLimits(), seed=seed)
            reports["worker"] = measure_worker(env, limits, _say, sections)
        if sections and peers == "all":
            peers_limits = replace(QUICK_PEERS if quick else PeersLimits(), seed=seed)
            reports["peers"] = measure_peers(env, peers_limits, user_cache(), _say)
        if "models" in wanted:
            models_limits = replace(QUICK_MODELS if quick else ModelsLimits(), seed=seed)
            reports["models"] = measure_models(env, models_limits, _say)
        if "outcomes" in wanted:
            outcome_limits = replace(QUICK_OUTCOMES if quick else OutcomeLimits(), seed=seed)
            reports["outcomes"] = _measure_outcomes(env, outcome_limits, peers)

    return reports


def _measure_outcomes(env: Environment, limits: OutcomeLimits, peers: str) -> OutcomeReport:
    slow = []
    if peers == "all":
        slow.append(faust(peers_python(user_cache() / "bench-faust", FAUST)))
    return measure_outcomes(env, limits, _say, peers=[PLAIN_COUNT], slow_peers=slow)


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    bench()
