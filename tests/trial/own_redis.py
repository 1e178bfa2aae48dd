"""A Redis of the trial's own, to kill, freeze and start again as it likes."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from workers.local import processes
from workers.local.processes import ProcessIdentity
from workers.local.redis_server import prepare_redis, redis_address, redis_answers
from workers.local.server import free_port


class OwnRedis:
    """One redis-server on one port; it keeps nothing on disk, so it always starts empty."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port(())
        self.url = redis_address(self.port)
        self._server = prepare_redis(folder, self.port)
        self._process: ProcessIdentity | None = None

    def start(self) -> int:
        """Start it; the moment from which it accepts connections (ns since the epoch)."""
        self._process = self._server.start()
        while not redis_answers(self.port):
            self._server.check_alive(self._process, within=0.001)
        return time.time_ns()

    def kill(self) -> None:
        """End it without a word to anybody."""
        if self._process is not None:
            processes.kill(self._process)

    def freeze(self) -> None:
        """Stop the process where it is: it keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> int:
        """Let it go on; the moment before that (ns since the epoch)."""
        moment = time.time_ns()
        self._signal(signal.SIGCONT)
        return moment

    def client(self) -> "Redis":
        """A plain client, as `redis-cli` is one: it does not try a second time."""
        return Redis(port=self.port, decode_responses=True, retry=Retry(NoBackoff(), 0))

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "this Redis was not started"
        processes.send(self._process, number)


@contextmanager
def start_redis(folder: Path) -> Iterator[OwnRedis]:
    """A Redis that is up, killed in the end."""
    redis = OwnRedis(folder)
    try:
        redis.start()
        yield redis
    finally:
        redis.kill()
