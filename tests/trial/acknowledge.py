"""A change, and the moment at which it is said that every worker stands on it."""

import time
from typing import NamedTuple

from tests.bench.runner import Place
from tests.trial.operators import Operators
from tests.trial.plan import Texts
from tests.trial.statuses import Statuses


class Acknowledgement(NamedTuple):
    """A version, the moments at which it was sent and acknowledged (ns), how, and workers elsewhere then."""

    how: str
    version: str
    sent: int
    acknowledged: int
    elsewhere: int


def acknowledge(operators: Operators, statuses: Statuses, place: Place, texts: Texts, workers: int) -> Acknowledgement:
    """Write a set, wait until all workers are said to stand on it, and look whether they do."""
    sent = operators.hset(texts)
    version = operators.ledger.in_force
    statuses.wait_for(version, workers)
    acknowledged = time.time_ns()
    there = [one.version for one in statuses.now().values()]
    return Acknowledgement("the workers' statuses", version, sent, acknowledged, workers - there.count(version))
