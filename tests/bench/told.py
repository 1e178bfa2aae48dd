"""What a worker tells of itself, read from its status in Redis."""

from collections.abc import Callable
from contextlib import suppress

from tests.bench.rig import Lane
from tests.bench.runner import Running
from workers.steering.connection import RedisLink, RedisLost
from workers.steering.keys import Keys
from workers.steering.status import WorkerStatus, decode


def wait_until_told(
    running: Running, lane: Lane, condition: Callable[[WorkerStatus], bool]
) -> WorkerStatus:
    """Wait until the worker's status is as it should be; it is written about each second."""
    statuses = _Statuses(lane.place.redis, Keys(f"{lane.place.group}:"))
    running.wait_until(lambda: (told := statuses.look()) is not None and condition(told))
    assert statuses.last is not None
    return statuses.last


def loaded(told: WorkerStatus) -> set[str]:
    """The objectives of which a model is loaded."""
    return {
        o
        for o, versions in told.library.items()
        if any(one.state == "loaded" for one in versions.values())
    }


class _Statuses:
    """A status of many surfaces is long: it is read only where it has become another."""

    def __init__(self, redis: str, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._seen: object = None
        self.last: WorkerStatus | None = None

    def look(self) -> WorkerStatus | None:
        """The last status that there was; what Redis does not answer at once is looked for again."""
        with suppress(RedisLost), RedisLink(self._redis) as link:
            (seen,) = link.execute(("ZRANGE", self._keys.live, 0, -1, "WITHSCORES"))
            if isinstance(seen, list) and seen and seen != self._seen:
                (text,) = link.execute(("GET", self._keys.status(seen[0][0].decode())))
                if isinstance(text, bytes):
                    self._seen, self.last = seen, decode(text)
        return self.last
