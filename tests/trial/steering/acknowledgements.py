"""A change, and the moment at which `trimtab weights wait` says that every worker ranks under it."""

import os
import subprocess
import sys
import time
from typing import NamedTuple

from tests.rig.environment import Environment
from tests.rig.process import pause
from tests.rig.statuses import Statuses
from tests.trial.steering.operators import Operators
from tests.trial.steering.plan import Texts
from tests.trial.steering.weights_history import version_of
from tests.trial.workload import SURFACE

_TIMEOUT_SECONDS = 20


class Acknowledgement(NamedTuple):
    """A version, the moments at which it was sent and acknowledged (ns), and how many workers were
    not under it then.
    """

    version: str
    sent: int
    acknowledged: int
    elsewhere: int


def acknowledge(
    env: Environment,
    operators: Operators,
    statuses: Statuses,
    texts: Texts,
    workers: int,
    head_start: float,
) -> Acknowledgement:
    """Start the command for a set, write the set `head_start` seconds later, and look at all
    workers when the command reports.

    The command needs about a second to start. With a longer head start it already waits when the
    set is written.
    """
    version = version_of(texts)
    assert version is not None, texts
    with _start_command(env, version, workers) as command:
        pause(head_start)
        sent = operators.hset(texts)
        assert command.stdout is not None
        output = command.stdout.readline()
        acknowledged = time.time_ns()
        versions = statuses.weights_versions(SURFACE)
    assert command.returncode == 0, output
    return Acknowledgement(version, sent, acknowledged, workers - versions.count(version))


def _start_command(env: Environment, version: str, workers: int) -> "subprocess.Popen[bytes]":
    words = ["weights", "wait", SURFACE, "--version", version]
    limits = ["--workers", str(workers), "--timeout", str(_TIMEOUT_SECONDS)]
    return subprocess.Popen(
        [sys.executable, "-m", "workers.cli", *words, *limits],
        env=os.environ | env.settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
