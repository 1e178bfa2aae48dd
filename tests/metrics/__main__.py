"""What metrics cost: CPU of a worker that is scraped each second, beside one without an endpoint.

`python -m tests.metrics` measures pairs on real servers, in turns, and prints the ratio of each.
"""

import argparse
import statistics
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from tests.bench.backlog import Backlogs, Case
from tests.bench.inputs import BATCH_JSON
from tests.bench.programs import WORKER
from tests.rig.measured import measured_environment
from tests.rig.redis import free_port
from tests.rig.servers import started_servers


@contextmanager
def scraped(port: int) -> Iterator[list[int]]:
    """Scrape each second while the block runs. Gives the sizes of what came."""
    sizes: list[int] = []
    done = threading.Event()

    def scrape() -> None:
        while not done.wait(1.0):
            with (
                suppress(urllib.error.URLError, ConnectionError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply,
            ):
                sizes.append(len(reply.read()))

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield sizes
    finally:
        done.set()
        thread.join()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    options = parser.parse_args()

    ratios: list[float] = []
    with started_servers() as servers:
        env = measured_environment(servers.kafka, servers.redis, servers.folder)
        backlogs = Backlogs(env, seed=1, candidates=options.candidates)
        for pair in range(options.pairs):
            port = free_port()
            without = Case("without", WORKER, BATCH_JSON, env)
            endpoint = {"TRIMTAB_METRICS_PORT": str(port)}
            with_endpoint = Case("with", WORKER, BATCH_JSON, env, endpoint)
            costs: dict[str, float] = {}
            order = [without, with_endpoint] if pair % 2 else [with_endpoint, without]
            with scraped(port) as sizes:
                for case in order:
                    cost, _ = backlogs.measure(case)
                    costs[case.name] = cost.microseconds
            ratios.append(costs["with"] / costs["without"])
            click.echo(
                f"without {costs['without']:.2f}, with {costs['with']:.2f} us of CPU a candidate,"
                f" ratio {ratios[-1]:.3f}, scrapes {len(sizes)}"
            )
    click.echo(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
