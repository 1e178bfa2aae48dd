"""The workers of a trial: so many processes on one lane, that have shared out its partitions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tests.bench.rig import Lane
from tests.bench.runner import PARTITIONS, WORKER, Running
from tests.trial.statuses import Statuses


@contextmanager
def start_crew(lane: Lane, workers: int, statuses: Statuses) -> Iterator[Running]:
    """Run them for a while, from when each has a status and every partition an owner."""
    words = ["-m", "workers.cli", "worker", "--processes", str(workers)]
    with replace(WORKER, words=lambda _: words).start(lane.place) as running:
        running.wait_until(lambda: len(statuses.now()) == workers and len(statuses.owners()) == PARTITIONS)
        yield running
