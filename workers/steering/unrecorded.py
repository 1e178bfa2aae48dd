"""What this worker has seen change and has not yet offered to the history."""

from collections.abc import Iterator, Mapping, Sequence

from workers.ranking.weights import Weights
from workers.steering.connection import Command
from workers.steering.content import is_no_hash
from workers.steering.history import Read, record, was_done
from workers.steering.keys import Keys
from workers.steering.surface_state import (
    EXPERIMENT,
    AnyStanding,
    Replies,
    SurfaceState,
    document_of,
    models_of,
)


class Unrecorded:
    """Notes each content once; `commands` offers what is noted, until Redis has answered to it.

    The first worker to offer a change records it; one that was made with the tools is recorded
    already, and then there is nothing to do. What something has followed by now is no longer there
    to be recorded, and is noted anew.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._seen: dict[str, dict[str, object]] = {}
        self._pending: dict[str, dict[str, Read]] = {}
        self._offered: list[tuple[str, dict[str, Read]]] = []

    def note(
        self, standings: Mapping[str, SurfaceState], replies: Mapping[str, Replies]
    ) -> set[str]:
        """Take note of what Redis holds, as it was judged; the surfaces of which any of it is new."""
        noted = set()
        for surface, found in replies.items():
            documents, here = standings[surface].documents, list(self._documents(surface, found))
            self._forget(surface, {name for name, _, _ in here})
            seen, pending = self._seen[surface], self._pending[surface]
            for name, key, reply in here:
                known = isinstance(reply, dict) or is_no_hash(reply)
                if known and seen.get(name) != reply:
                    seen[name] = reply
                    pending[name] = _read(key, name, reply, documents[name])
                    noted.add(surface)
        return noted

    def _forget(self, surface: str, names: set[str]) -> None:
        """Drop what is not read any more: the documents of an arm that is gone. Nobody would note
        their changes.
        """
        self._seen[surface] = {
            n: reply for n, reply in self._seen.get(surface, {}).items() if n in names
        }
        self._pending[surface] = {
            n: read for n, read in self._pending.get(surface, {}).items() if n in names
        }

    def offer_all(self) -> None:
        """Offer everything that is read from now on, also what was offered before: this server may
        not know of it.
        """
        self._seen.clear()

    def commands(self) -> list[Command]:
        """One command for each surface of which something is pending."""
        self._offered = [
            (surface, dict(found)) for surface, found in self._pending.items() if found
        ]
        return [
            record(self._keys.history(surface), *found.values()) for surface, found in self._offered
        ]

    def answered(self, replies: Sequence[object]) -> None:
        """Redis's replies to the commands: what is denied, or has changed since it was read, is
        offered again.
        """
        for (surface, offered), reply in zip(self._offered, replies, strict=True):
            pending = self._pending[surface]
            if was_done(reply) is not None:
                self._pending[surface] = {
                    name: read for name, read in pending.items() if read is not offered.get(name)
                }

    def _documents(self, surface: str, found: Replies) -> Iterator[tuple[str, str, object]]:
        keys = self._keys
        yield EXPERIMENT, keys.experiment(surface), found.experiment
        for arm, replies in ((None, found.own), *found.arms.items()):
            yield document_of(arm), keys.weights(surface, arm), replies.weights
            yield models_of(arm), keys.models(surface, arm), replies.models


def _read(key: str, name: str, reply: object, standing: AnyStanding) -> Read:
    """The version is told only where the content is what is applied."""
    fields = reply if isinstance(reply, dict) else None
    if standing.refused is not None:
        return Read(key, name, fields, refused=standing.refused.reason)
    value = standing.applied.value if standing.applied and fields else None
    return Read(key, name, fields, version=value.version if isinstance(value, Weights) else None)
