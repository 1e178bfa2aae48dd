"""The history of a surface: one entry a change, in a Redis stream of bounded length.

Whoever changes a document, or first sees one that was changed by hand, records it in the same step
on the server (changes.lua): so each change stands there once, however many workers see it.

What this worker has seen change and has not yet offered to the history.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import msgspec

from workers.ranking.weights import Weights
from workers.steering.connection import Command, ErrorReply, Script
from workers.steering.content import NOTHING, Fields, fields_of, is_no_hash, text_of
from workers.steering.keys import Keys
from workers.steering.surface_state import (
    EXPERIMENT,
    AnyStanding,
    Replies,
    SurfaceState,
    document_of,
    models_of,
)

MOST_ENTRIES: Final = 1000
"""What a surface's history keeps."""
UNKNOWN: Final = "unknown"
"""The actor of a change made by hand."""

_SCRIPT = Script(files("workers.steering").joinpath("changes.lua").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class HistoryEntry:
    """One change. `at` in milliseconds since the epoch, by Redis's clock; `document` as
    `document_of` names it.

    `before` and `after` are the fields of the hash, empty where there was none. `version` is that
    of the weights, None for an experiment and for what workers refuse; `refused` says why they do.
    """

    revision: int
    at: int
    document: str
    actor: str
    reason: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    version: str | None
    refused: str | None


@dataclass(frozen=True)
class ReadContent:
    """A document as it was read: Redis's fields (None: the key holds no hash), and what workers
    make of them.
    """

    key: str
    name: str
    fields: Fields | None
    version: str | None = None
    refused: str | None = None


@dataclass(frozen=True)
class NewContent:
    """A document's new content: one field at least, since Redis has no empty hash. Raises
    ValueError.
    """

    texts: Mapping[str, str]
    version: str | None = None

    def __post_init__(self) -> None:
        if not self.texts:
            raise ValueError("texts: got no field, expected at least one")


def record_command(history: str, *documents: ReadContent) -> Command:
    """The command that records what was changed by hand; it does nothing where that is recorded
    already.
    """
    return _script(history, [(document, None) for document in documents], "", "", "")


def write_command(
    history: str,
    changes: Sequence[tuple[ReadContent, NewContent]],
    revision: int,
    actor: str,
    reason: str,
) -> Command:
    """The command that writes new contents where nothing has changed since they were read, at
    `revision`.
    """
    return _script(history, changes, str(revision), actor, reason)


def revision_after(reply: object) -> int | None:
    """The revision that the history is at after the command; None where something had changed
    meanwhile.
    """
    match reply:
        case [b"done", int(revision)]:
            return revision
        case _:
            return None


def read_entries(reply: object) -> list[HistoryEntry]:
    """The entries in Redis's reply to XRANGE or XREVRANGE, in its order; what is none of ours is
    passed over.
    """
    found = [] if isinstance(reply, ErrorReply) or not isinstance(reply, list) else reply
    return [entry for one in found if (entry := _entry(one)) is not None]


def _entry(one: Any) -> HistoryEntry | None:
    identity, flat = one
    try:
        fields = {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}
        return HistoryEntry(
            revision=int(fields["revision"]),
            at=int(identity.split(b"-")[0]),
            document=fields["document"],
            actor=fields["actor"],
            reason=fields["reason"],
            before=_texts(fields["before"]),
            after=_texts(fields["after"]),
            version=fields["version"] or None,
            refused=fields["refused"] or None,
        )
    except (KeyError, ValueError):
        return None


def _texts(text: str) -> dict[str, str]:
    return msgspec.json.decode(text, type=dict[str, str])


def _script(
    history: str,
    changes: Sequence[tuple[ReadContent, NewContent | None]],
    revision: str,
    actor: str,
    reason: str,
) -> Command:
    keys = [history, *(read.key for read, _ in changes)]
    words: list[str | bytes | int] = [MOST_ENTRIES, revision, actor, reason]
    for read, written in changes:
        words += _as_read(read) + _as_written(written)
    return ("EVALSHA", _SCRIPT, len(keys), *keys, *words)


def _as_read(read: ReadContent) -> list[str | bytes | int]:
    text = text_of(read.fields) or NOTHING
    count = -1 if read.fields is None else len(read.fields)
    return [
        read.name,
        text,
        read.version or "",
        read.refused or "",
        count,
        *_flat(read.fields or {}),
    ]


def _as_written(written: NewContent | None) -> list[str | bytes | int]:
    if written is None:
        return [0]
    fields = fields_of(written.texts)
    return [len(fields), text_of(fields) or NOTHING, written.version or "", *_flat(fields)]


def _flat(fields: Fields) -> list[bytes]:
    return [word for field in fields.items() for word in field]


class UnrecordedChanges:
    """Notes each content once; `commands` offers what is noted, until Redis has answered to it.

    The first worker to offer a change records it; one that was made with the tools is recorded
    already, and then there is nothing to do. What something has followed by now is no longer there
    to be recorded, and is noted anew.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._seen: dict[str, dict[str, object]] = {}
        self._pending: dict[str, dict[str, ReadContent]] = {}
        self._offered: list[tuple[str, dict[str, ReadContent]]] = []

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
            record_command(self._keys.history(surface), *found.values())
            for surface, found in self._offered
        ]

    def answered(self, replies: Sequence[object]) -> None:
        """Redis's replies to the commands: what is denied, or has changed since it was read, is
        offered again.
        """
        for (surface, offered), reply in zip(self._offered, replies, strict=True):
            pending = self._pending[surface]
            if revision_after(reply) is not None:
                self._pending[surface] = {
                    name: read for name, read in pending.items() if read is not offered.get(name)
                }

    def _documents(self, surface: str, found: Replies) -> Iterator[tuple[str, str, object]]:
        keys = self._keys
        yield EXPERIMENT, keys.experiment(surface), found.experiment
        for arm, replies in ((None, found.own), *found.arms.items()):
            yield document_of(arm), keys.weights(surface, arm), replies.weights
            yield models_of(arm), keys.models(surface, arm), replies.models


def _read(key: str, name: str, reply: object, standing: AnyStanding) -> ReadContent:
    """The version is told only where the content is what is applied."""
    fields = reply if isinstance(reply, dict) else None
    if standing.refused is not None:
        return ReadContent(key, name, fields, refused=standing.refused.reason)
    value = standing.applied.value if standing.applied and fields else None
    return ReadContent(
        key, name, fields, version=value.version if isinstance(value, Weights) else None
    )
