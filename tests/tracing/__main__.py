"""What traces cost: CPU of a worker that traces, beside one that does not.

`python -m tests.tracing` measures on real servers, in turns, and prints the ratio of each: a worker
that traces but gets no context, one that draws a request in a hundred, one that traces every request.
"""

import argparse
import statistics
from collections.abc import Mapping
from typing import Final

import click

from tests.bench.backlog import Backlogs, Case
from tests.bench.inputs import BATCH_JSON, SINGLE_JSON
from tests.bench.programs import WORKER
from tests.rig.measured import measured_environment
from tests.rig.servers import started_servers
from tests.tracing.collector import running_collector

_INPUTS: Final = {"batches": BATCH_JSON, "single": SINGLE_JSON}
_RATIOS: Final = {"no context": "0", "one in a hundred": "0.01", "every request": "1"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=500_000)
    parser.add_argument("--input", choices=_INPUTS, default="batches")
    options = parser.parse_args()

    ratios: dict[str, list[float]] = {name: [] for name in _RATIOS}
    with started_servers() as servers, running_collector() as collector:
        env = measured_environment(servers.kafka, servers.redis, servers.folder)
        backlogs = Backlogs(env, seed=1, candidates=options.candidates)

        def measure(name: str, variables: Mapping[str, str]) -> float:
            case = Case(name, WORKER, _INPUTS[options.input], env, dict(variables))
            cost, _ = backlogs.measure(case)
            return cost.microseconds

        endpoint = {"TRIMTAB_TRACE_ENDPOINT": f"http://127.0.0.1:{collector.port}"}
        for _ in range(options.rounds):
            for name, ratio in _RATIOS.items():
                without = measure("without", {})
                spans = len(collector.spans)
                traced = measure(name, endpoint | {"TRIMTAB_TRACE_RATIO": ratio})
                ratios[name].append(traced / without)
                click.echo(
                    f"{name}: {traced:.2f} us of CPU a candidate, without {without:.2f},"
                    f" ratio {ratios[name][-1]:.3f}, {len(collector.spans) - spans} spans"
                )
    for name, measured in ratios.items():
        click.echo(f"{name}: median ratio {statistics.median(measured):.3f}")


if __name__ == "__main__":
    main()
