"""`python -m tests.bench`: start a stack, measure, print the reports, end the stack.

Without a word everything is measured.
"""

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tests.bench.backlog import Backlogs
from tests.bench.inputs import INPUTS, SINGLE_JSON
from tests.bench.kept import document_of, keep, read_kept, worse_than_kept
from tests.bench.measure import SECTIONS
from tests.bench.profile import write_flame_graph
from tests.bench.run import FULL, PARTS, QUICK, Run, Scale
from tests.bench.worker_report import WorkerLimits
from tests.rig.measured import measured_environment
from tests.rig.servers import started_servers

_KEPT_PARTS = ("worker", "stages", "curves")
_CHECKED_PARTS = ("backlog", "stream")


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
@click.option(
    "--keep",
    "is_kept",
    is_flag=True,
    help="Measure worker, stages, curves and all peers, and write docs/costs.md with its pictures.",
)
@click.option(
    "--check",
    "is_checked",
    is_flag=True,
    help="Compare the ratios of backlogs and stream with the kept ones. Exits with 1 if one is worse.",
)
@click.option(
    "--profile",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Only write a flame graph of a worker to this file, as SVG.",
)
@click.option(
    "--input",
    "input_name",
    type=click.Choice([shape.name for shape in INPUTS]),
    default=SINGLE_JSON.name,
    show_default=True,
    help="What the worker of the flame graph ranks.",
)
def bench(
    parts: Sequence[str],
    quick: bool,
    as_json: bool,
    peers: str,
    seed: int,
    is_kept: bool,
    is_checked: bool,
    profile: Path | None,
    input_name: str,
) -> None:
    """Measure what the worker costs beside its peers, on a real Kafka of its own.

    PARTS: `worker` is the table of goals; `backlog`, `stream` and `memory` are sections of it.
    `stages` is decode, assemble, rank and encode without Kafka. `curves` is the cost against what
    grows, and latency against load. `models` is a thousand models in one worker, `outcomes` the
    join, `metrics` what metrics cost.
    """
    # SIGTERM leaves by an exception, so that the stack is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    scale = QUICK if quick else FULL
    if profile is not None:
        _profile(profile, input_name, scale, seed)
        return

    run = Run(scale, seed, with_frameworks=is_kept or peers == "all", say=_say)
    if is_kept:
        run.measure(_KEPT_PARTS)
    elif is_checked:
        run.measure(_CHECKED_PARTS)
    else:
        run.measure(parts or PARTS)
    _print(run, as_json)

    if is_kept:
        keep(document_of(run))
    if is_checked:
        rows = [] if run.worker is None else list(run.worker.rows())
        worse = worse_than_kept(rows, read_kept())
        for line in worse:
            _say(line)
        sys.exit(1 if worse else 0)


def _print(run: Run, as_json: bool) -> None:
    reports = run.by_part()
    if as_json:
        by_part = {part: report.as_json() for part, report in reports.items()}
        click.echo(json.dumps(by_part, indent=2))
        return
    for report in reports.values():
        for line in report.lines():
            click.echo(line)


def _profile(path: Path, input_name: str, scale: Scale, seed: int) -> None:
    (shape,) = (shape for shape in INPUTS if shape.name == input_name)
    with started_servers() as servers:
        env = measured_environment(servers.kafka, servers.redis, servers.folder)
        backlogs = Backlogs(env, seed, scale.worker.backlog_candidates)
        write_flame_graph(env, shape, backlogs, path, _say)


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    bench()
