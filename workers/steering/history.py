"""The history of a surface: a Redis stream with one entry for each change, of bounded length.

Rules:
- A tool writes a document and its entry in one step on the server (changes.lua), and only if
  nothing has changed since it read. So no change is lost, and each is recorded once.
- A change that was made by hand has no entry. Every worker that sees one offers it to the history.
  The first records it, with the actor `unknown`; for the others there is nothing left to do.
- Each entry carries the recorded content of all documents. So the newest entry alone tells whether
  a document was changed by hand since.
- Revisions count from 1, without gaps, also past the entries that are dropped.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

import msgspec

from workers.steering.connection import Command, Script
from workers.steering.content import (
    NO_FIELDS,
    RawFields,
    canonical_text,
    encode_fields,
    is_other_type,
)
from workers.steering.documents import DocumentId
from workers.steering.keys import Keys
from workers.steering.surface_state import DocumentState, Replies, SurfaceState

MAX_ENTRIES: Final = 1000
"""The history of a surface keeps this many entries."""
UNKNOWN_ACTOR: Final = "unknown"
"""The actor of changes that were made by hand, as changes.lua writes it."""

_SCRIPT = Script(files("workers.steering").joinpath("changes.lua").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class HistoryEntry:
    """One change. `at` in milliseconds since the epoch, by Redis's clock. `document` is the name of
    a DocumentId.

    `before` and `after` are the fields of the hash, empty if it was missing. `version` is that of
    the weights; None for other kinds and for what workers refuse. `refused` is the reason.
    `recorded` is the JSON text of what was recorded of every document after the change.
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
    recorded: bytes = field(default=NO_FIELDS.encode(), repr=False)

    @property
    def contents_before(self) -> dict[str, dict[str, str]]:
        """The recorded fields of every document before the change, by the documents' names. A
        document that was missing is not in it.
        """
        texts = msgspec.json.decode(self.recorded, type=dict[str, str])
        contents: dict[str, dict[str, str]] = {}
        for name, text in texts.items():
            contents[name] = msgspec.json.decode(text, type=dict[str, str])

        contents[self.document] = dict(self.before)
        return contents


@dataclass(frozen=True)
class ReadContent:
    """The content of a document as it was read, and what workers make of it.

    `fields` are Redis's; None if the key holds something other than a hash.
    """

    key: str
    name: str
    fields: RawFields | None
    version: str | None = None
    refused: str | None = None


@dataclass(frozen=True)
class NewContent:
    """The content that a document is to have. Raises ValueError without a field: Redis has no empty
    hash.
    """

    texts: Mapping[str, str]
    version: str | None = None

    def __post_init__(self) -> None:
        if not self.texts:
            raise ValueError("texts: got no field, expected at least one")


def record_command(history: str, *documents: ReadContent) -> Command:
    """The command that records what was changed by hand. It does nothing if that is recorded."""
    changes = [(document, None) for document in documents]
    return _script_command(history, changes, revision="", actor="", reason="")


def write_command(
    history: str,
    changes: Sequence[tuple[ReadContent, NewContent]],
    revision: int,
    actor: str,
    reason: str,
) -> Command:
    """The command that writes new contents, if nothing has changed since they were read at
    `revision`.
    """
    return _script_command(history, changes, revision=str(revision), actor=actor, reason=reason)


def revision_after(reply: object) -> int | None:
    """The history's revision after the command; None if something had changed meanwhile, and
    nothing was done.
    """
    match reply:
        case [b"done", int(revision)]:
            return revision
        case _:
            return None


def _script_command(
    history: str,
    changes: Sequence[tuple[ReadContent, NewContent | None]],
    *,
    revision: str,
    actor: str,
    reason: str,
) -> Command:
    """Keys and arguments in the order that changes.lua describes."""
    keys = [history]
    arguments: list[str | bytes | int] = [MAX_ENTRIES, revision, actor, reason]
    for read, new in changes:
        keys.append(read.key)

        arguments += [read.name, canonical_text(read.fields) or NO_FIELDS]
        arguments += [read.version or "", read.refused or ""]
        arguments.append(-1 if read.fields is None else len(read.fields))
        arguments += _names_and_values(read.fields or {})

        if new is None:
            arguments.append(0)
        else:
            fields = encode_fields(new.texts)
            arguments += [len(fields), canonical_text(fields) or NO_FIELDS, new.version or ""]
            arguments += _names_and_values(fields)
    return ("EVALSHA", _SCRIPT, len(keys), *keys, *arguments)


def _names_and_values(fields: RawFields) -> list[bytes]:
    flat = list[bytes]()
    for name, value in fields.items():
        flat += [name, value]
    return flat


def read_entries(reply: object) -> list[HistoryEntry]:
    """The entries in Redis's reply to XRANGE or XREVRANGE, in its order. Entries that are not of a
    history are left out.
    """
    if not isinstance(reply, list):
        return []

    entries = list[HistoryEntry]()
    for entry_id, flat in reply:
        entry = _entry(entry_id, flat)
        if entry is not None:
            entries.append(entry)
    return entries


def _entry(entry_id: bytes, flat: Sequence[bytes]) -> HistoryEntry | None:
    try:
        raw_fields = dict(zip(flat[::2], flat[1::2], strict=True))
        recorded = raw_fields.pop(b"documents", NO_FIELDS.encode())
        fields = {name.decode(): value.decode() for name, value in raw_fields.items()}

        return HistoryEntry(
            revision=int(fields["revision"]),
            at=int(entry_id.split(b"-")[0]),
            document=fields["document"],
            actor=fields["actor"],
            reason=fields["reason"],
            before=msgspec.json.decode(fields["before"], type=dict[str, str]),
            after=msgspec.json.decode(fields["after"], type=dict[str, str]),
            version=fields["version"] or None,
            refused=fields["refused"] or None,
            recorded=recorded,
        )
    except (KeyError, ValueError):
        return None


@dataclass(frozen=True)
class _Offer:
    """What a command offers to the history of a surface: contents by the documents' names."""

    surface: str
    contents: Mapping[str, ReadContent]


class UnrecordedChanges:
    """The changes that this worker has seen and that the history may not have yet.

    Each content is noted once, when it is seen first. It is offered with every write until Redis
    has answered. What was changed again before that cannot be recorded any more: the newer content
    is noted instead.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._seen: dict[str, dict[str, object]] = {}
        self._pending: dict[str, dict[str, ReadContent]] = {}
        self._offers: list[_Offer] = []

    def note(self, states: Mapping[str, SurfaceState], replies: Mapping[str, Replies]) -> set[str]:
        """Take note of what Redis holds, with the states it was judged to. Returns the surfaces of
        which any content is new.
        """
        surfaces = set[str]()
        for surface, contents in replies.items():
            self._forget_others(surface, contents)
            seen = self._seen[surface]

            # What is seen together is recorded in this order: first what a surface has once.
            for document in sorted(contents, key=lambda document: document.kind.has_arms):
                reply = contents[document]
                is_content = isinstance(reply, dict) or is_other_type(reply)
                if not is_content or seen.get(document.name) == reply:
                    continue

                seen[document.name] = reply
                state = states[surface].documents[document]
                content = self._content(surface, document, reply, state)
                self._pending[surface][document.name] = content
                surfaces.add(surface)
        return surfaces

    def offer_all(self) -> None:
        """Offer everything that is read from now on, also what was offered before: this server may
        not have it.
        """
        self._seen.clear()

    def commands(self) -> list[Command]:
        """One command for each surface of which something is pending."""
        self._offers = []
        commands = list[Command]()
        for surface, pending in self._pending.items():
            if pending:
                self._offers.append(_Offer(surface, dict(pending)))
                commands.append(record_command(self._keys.history(surface), *pending.values()))
        return commands

    def answered(self, replies: Sequence[object]) -> None:
        """Redis's replies to the commands. What was denied, or has changed since it was read, is
        offered again.
        """
        for offer, reply in zip(self._offers, replies, strict=True):
            if revision_after(reply) is None:
                continue

            pending = self._pending[offer.surface]
            for name, content in offer.contents.items():
                if pending.get(name) is content:
                    del pending[name]

    def _forget_others(self, surface: str, documents: Iterable[DocumentId]) -> None:
        """Drop what is not read any more: the documents of an arm that is gone. Nobody would note
        their changes.
        """
        names = {document.name for document in documents}
        seen = self._seen.get(surface, {})
        pending = self._pending.get(surface, {})
        self._seen[surface] = {name: reply for name, reply in seen.items() if name in names}
        self._pending[surface] = {name: read for name, read in pending.items() if name in names}

    def _content(
        self, surface: str, document: DocumentId, reply: object, state: DocumentState[Any]
    ) -> ReadContent:
        """The version is given only if the content is what is applied."""
        key = self._keys.document(surface, document.kind, document.arm)
        fields = reply if isinstance(reply, dict) else None
        if state.refused is not None:
            return ReadContent(key, document.name, fields, refused=state.refused.reason)

        version = None
        if state.applied is not None and fields:
            version = document.kind.version_of(state.applied.value)
        return ReadContent(key, document.name, fields, version=version)
