"""What this worker has seen change and has not yet offered to the history."""

from collections.abc import Mapping, Sequence

from workers.ranking.experiment import Experiment
from workers.ranking.weights import Weights
from workers.steering.connection import Command, Denied
from workers.steering.content import is_no_hash
from workers.steering.history import Read, record
from workers.steering.keys import Keys
from workers.steering.standing import Standing
from workers.steering.surface_standing import EXPERIMENT, Replies, SurfaceStanding, document_of

_Place = tuple[str, str]


class Unrecorded:
    """Notes each content once; `commands` offers what is noted, until Redis has answered to it.

    The first worker to offer a change records it. One that was made with the tools is recorded already, and one that
    something has followed by now is no longer there to be recorded: then there is nothing to do.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._seen: dict[_Place, object] = {}
        self._pending: dict[_Place, Read] = {}
        self._offered: list[_Place] = []

    def note(self, standings: Mapping[str, SurfaceStanding], replies: Mapping[str, Replies]) -> bool:
        """Take note of what Redis holds, as it was judged; whether any of it is new."""
        pending = len(self._pending)
        for surface, found in replies.items():
            documents = standings[surface].documents
            for name, key, reply in self._documents(surface, found):
                known = isinstance(reply, dict) or is_no_hash(reply)
                if known and self._seen.get((surface, name)) != reply:
                    self._seen[surface, name] = reply
                    self._pending[surface, name] = _read(key, name, reply, documents[name])
        return len(self._pending) > pending

    def commands(self) -> list[Command]:
        """One command for each change that is pending."""
        self._offered = list(self._pending)
        return [record(self._keys.history(place[0]), self._pending[place]) for place in self._offered]

    def answered(self, replies: Sequence[object]) -> None:
        """Redis's replies to the commands: what it has denied stays pending."""
        for place, reply in zip(self._offered, replies, strict=True):
            if not isinstance(reply, Denied):
                self._pending.pop(place, None)

    def _documents(self, surface: str, found: Replies) -> list[tuple[str, str, object]]:
        keys = self._keys
        arms = [(document_of(arm), keys.weights(surface, arm), reply) for arm, reply in found.arms.items()]
        own = [(document_of(), keys.weights(surface), found.weights)]
        return [*own, (EXPERIMENT, keys.experiment(surface), found.experiment), *arms]


def _read(key: str, name: str, reply: object, standing: Standing[Weights] | Standing[Experiment]) -> Read:
    """The version is told only where the content is what is applied."""
    fields = reply if isinstance(reply, dict) else None
    if standing.refused is not None:
        return Read(key, name, fields, refused=standing.refused.reason)
    value = standing.applied.value if standing.applied and fields else None
    return Read(key, name, fields, version=value.version if isinstance(value, Weights) else None)
