"""The workers of a trial: so many processes on one lane, that have shared out its partitions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tests.bench.rig import Lane
from tests.bench.runner import PARTITIONS, WORKER, Running
from tests.trial.statuses import Statuses


@contextmanager
def start_crew(lane: Lane, workers: int, statuses: Statuses) -> Iterator[Running]:
    """Run them for a while, from when each owns what it is to own. More workers than partitions are
    never ready.
    """
    words = ["-m", "workers.cli", "worker", "--processes", str(workers)]
    with replace(WORKER, words=lambda _: words).start(lane.place) as running:
        running.wait_until(lambda: _shared_out(statuses.owners(), workers))
        yield running


def _shared_out(owners: list[tuple[int, str]], workers: int) -> bool:
    """Whether each partition has one owner, and each worker has something to do."""
    working = {worker for _, worker in owners}
    return [partition for partition, _ in owners] == list(range(PARTITIONS)) and len(
        working
    ) == workers
