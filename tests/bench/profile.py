"""A flame graph of one worker on a backlog, by py-spy.

py-spy starts the worker as its own child, which it may look at without further rights. The start of
the worker is in the picture, too. Threads of librdkafka are not: they are not Python's.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.bench.backlog import Backlogs
from tests.bench.inputs import Input
from tests.bench.programs import WORKER
from tests.rig.environment import Environment
from tests.rig.progress import wait_until_published

_SAMPLES_A_SECOND = "250"
_END_SECONDS = 120.0


def write_flame_graph(
    env: Environment, shape: Input, backlogs: Backlogs, path: Path, say: Callable[[str], None]
) -> None:
    """Rank a backlog, and write where the worker's time went as SVG."""
    say(f"profile: {shape.name}")
    own = env.fresh(candidates=backlogs.topic(shape))
    events = backlogs.requests(shape) * -(-shape.candidates // shape.batch)
    spy = str(Path(sys.executable).with_name("py-spy"))
    record = ["record", "--output", str(path), "--rate", _SAMPLES_A_SECOND, "--native", "--"]
    with own.start([*record, sys.executable, *WORKER.arguments(own)], spy) as process:
        wait_until_published(own, process, events)

        # It writes the picture when the worker has ended.
        for worker in psutil.Process(process.pid).children():
            worker.terminate()
        process.process.wait(_END_SECONDS)
    assert path.exists(), process.logged()
