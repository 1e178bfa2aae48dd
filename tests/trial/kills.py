"""The trial of kills: a worker, then the broker, is killed again and again under load.

`make test` does the same with three kills: tests/integration/test_faults.py. The runs are in
tests/rig/kills.py.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.rig.environment import Environment
from tests.rig.fixtures import write_test_files
from tests.rig.kills import kill_broker, kill_worker
from tests.rig.servers import Servers


@dataclass(frozen=True)
class KillsReport:
    """How often each was killed, and how many feeds were judged. A wrong feed ends the trial at
    once, by an AssertionError.
    """

    kills: int
    feeds_worker: int
    feeds_broker: int
    seconds: float

    @property
    def wrong(self) -> dict[str, int]:
        """Nothing: the trial has ended if anything was wrong."""
        return {}

    def as_json(self) -> dict[str, Any]:
        """The same figures, for `--json`."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The report as a page."""
        yield f"kills    {self.kills} of a worker, then {self.kills} of the broker; {self.seconds:.0f} s"
        yield f"  worker  {self.feeds_worker:,} requests, each with one feed, the oracle's"
        yield f"  broker  {self.feeds_broker:,} requests, each with one feed, the oracle's"


def run_kills(servers: Servers, times: int, say: Callable[[str], None]) -> KillsReport:
    """Kill both, each in an environment of its own."""
    began = time.monotonic()
    say(f"a worker is killed {times} times")
    with _environment(servers, "kill-worker") as env:
        feeds_worker = kill_worker(env, times)
    say(f"the broker is killed {times} times")
    with _environment(servers, "kill-broker") as env:
        feeds_broker = kill_broker(env, servers.stack, times)
    seconds = round(time.monotonic() - began, 1)
    return KillsReport(times, feeds_worker, feeds_broker, seconds)


@contextmanager
def _environment(servers: Servers, name: str) -> Iterator[Environment]:
    folder: Path = servers.folder / name
    folder.mkdir()
    write_test_files(folder)
    env = Environment(servers.kafka, servers.redis, folder)
    env.variables["TRIMTAB_KAFKA_CONFIG"] = str(folder / "kafka.properties")
    env.create_topics()
    try:
        yield env
    finally:
        env.end()
