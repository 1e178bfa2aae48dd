"""A change, and the moment at which `trimtab weights wait` says that every worker ranks under it."""

import os
import subprocess
import sys
import time
from typing import NamedTuple

from tests.bench.runner import WORKER, Place
from tests.trial.ledger import version_of
from tests.trial.operators import SURFACE, Operators, pause
from tests.trial.plan import Texts
from tests.trial.statuses import Statuses

_TIMEOUT_SECONDS = 20


class Acknowledgement(NamedTuple):
    """A version, the moments at which it was sent and acknowledged (ns), and how many workers were
    elsewhere then.
    """

    version: str
    sent: int
    acknowledged: int
    elsewhere: int


def acknowledge(
    operators: Operators,
    statuses: Statuses,
    place: Place,
    texts: Texts,
    workers: int,
    head_start: float,
) -> Acknowledgement:
    """Let the command wait for a set, write the set so many seconds later, and look around when the
    command speaks.

    The command needs about a second to start: with a longer head start it waits already when the
    set is written.
    """
    version = version_of(texts)
    assert version is not None, texts
    with _waiting(place, version, workers) as waiting:
        pause(head_start)
        sent = operators.hset(texts)
        assert waiting.stdout is not None
        said = waiting.stdout.readline()
        acknowledged = time.time_ns()
        there = [one.version for one in statuses.now().values()]
    assert waiting.returncode == 0, said
    return Acknowledgement(version, sent, acknowledged, workers - there.count(version))


def _waiting(place: Place, version: str, workers: int) -> "subprocess.Popen[bytes]":
    words = ["weights", "wait", SURFACE, "--version", version]
    limits = ["--workers", str(workers), "--timeout", str(_TIMEOUT_SECONDS)]
    return subprocess.Popen(
        [sys.executable, "-m", "workers.cli", *words, *limits],
        env=os.environ | WORKER.settings(place),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
