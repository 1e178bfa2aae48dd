"""What a worker tells of itself, read from its status in Redis."""

from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from tests.bench.rig import Lane
from tests.bench.runner import Running
from workers.steering.connection import Link, RedisLost
from workers.steering.keys import Keys


class Told(msgspec.Struct, frozen=True):
    """schemas/worker-status.schema.json, as far as the bench needs it."""

    at: int = 0
    counts: Mapping[str, int] = {}
    tally: Mapping[str, int] = {}
    library: Mapping[str, Mapping[str, Mapping[str, str]]] = {}

    @property
    def loaded(self) -> set[str]:
        """The objectives of which a model is loaded."""
        return {o for o, versions in self.library.items() if any(v["state"] == "loaded" for v in versions.values())}


def wait_until_told(running: Running, lane: Lane, condition: Callable[[Told], bool]) -> Told:
    """Wait until the worker's status is as it should be; it is written about each second."""
    statuses = _Statuses(lane.place.redis, Keys(f"{lane.place.group}:"))
    running.wait_until(lambda: condition(statuses.look()))
    return statuses.last


class _Statuses:
    """A status of many surfaces is long: it is read only where it has become another."""

    def __init__(self, redis: str, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._seen: object = None
        self.last = Told()

    def look(self) -> Told:
        """The last status that there was; what Redis does not answer at once is looked for again."""
        with suppress(RedisLost), Link(self._redis) as link:
            (seen,) = link.ask(("ZRANGE", self._keys.live, 0, -1, "WITHSCORES"))
            if isinstance(seen, list) and seen and seen != self._seen:
                (text,) = link.ask(("GET", self._keys.status(seen[0][0].decode())))
                if isinstance(text, bytes):
                    self._seen, self.last = seen, msgspec.json.decode(text, type=Told)
        return self.last
