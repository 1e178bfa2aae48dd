"""What a stage does in Redis, tried command by command. For `trimtab doctor`.

Rules:
- Nothing is written. A command that writes is sent so that it finds nothing to do: on a key of no
  worker, with a condition that does not hold.
- Redis checks rights before it looks for a script. So a script that does not exist shows whether
  EVALSHA is allowed.
- A reply that is no denial counts as allowed.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from workers.ranking.pins import ANY_VERSION
from workers.ranking.surface import SetOwner, Surface, Surfaces
from workers.steering.connection import Command, ErrorReply, UnwritableReply
from workers.steering.documents import EXPERIMENT, DocumentId, document_ids
from workers.steering.editor import SteeringEditor
from workers.steering.keys import Keys
from workers.steering.surface_state import Moment, SurfaceState
from workers.steering.view import arms_named

_NOBODY = "doctor"
_NO_SCRIPT = "0" * 40


class Probe(NamedTuple):
    """A command that a stage sends, and what is missing without it. `stops`: it steers nothing."""

    name: str
    command: Command
    without: str
    stops: bool = False


def worker_probes(keys: Keys, surfaces: Surfaces) -> Iterator[Probe]:
    """What a worker does."""
    for surface in surfaces.values():
        yield from _document_probes(keys, surface)
    first = next(iter(surfaces.values()))
    history = keys.history(first.name)
    yield Probe(
        "CLIENT TRACKING",
        ("CLIENT", "TRACKING", "OFF"),
        "changes wait for the poll, one second at most",
    )
    yield Probe("MULTI", ("MULTI",), "the documents of a surface are not read at one instant")
    yield Probe("EXEC", ("EXEC",), "the documents of a surface are not read at one instant")
    unrecorded = "changes by hand are not recorded"
    yield Probe(f"EVALSHA on {history}", ("EVALSHA", _NO_SCRIPT, 1, history), unrecorded)
    yield Probe("SCRIPT LOAD", ("SCRIPT", "LOAD", "return 0"), unrecorded)
    yield Probe(f"XREVRANGE on {history}", ("XREVRANGE", history, "+", "-", "COUNT", 1), unrecorded)
    yield from _status_probes(
        keys.status(_NOBODY), keys.live, "the worker is not shown by trimtab status"
    )
    for surface in surfaces.values():
        yield from _lookup_probes(keys, surface)


def stage_probes(keys: Keys, stage: str) -> Iterator[Probe]:
    """What the stages of outcomes do: `join` and `users`."""
    yield from _status_probes(
        keys.stage_status(stage, _NOBODY),
        keys.live_stages,
        f"the stage {stage} is not shown by trimtab status",
    )


def users_probes(keys: Keys, surfaces: Surfaces) -> Iterator[Probe]:
    """What the users stage does beside its status: it follows experiments, and stops arms."""
    for surface in surfaces.values():
        if surface.outcomes is None:
            continue
        yield from _document_probes(keys, surface)
        history = keys.history(surface.name)
        yield Probe(
            f"XRANGE on {history}",
            ("XRANGE", history, "-", "+", "COUNT", 1),
            "no arm is checked against its hash",
        )
        yield Probe(
            f"EVALSHA on {history}",
            ("EVALSHA", _NO_SCRIPT, 1, history),
            "no guard rail stops an arm",
        )


def _document_probes(keys: Keys, surface: Surface) -> Iterator[Probe]:
    for kind, _ in document_ids(()):
        key = keys.document(surface.name, kind)
        yield Probe(f"HGETALL on {key}", ("HGETALL", key), f"{key} steers nothing", stops=True)


def _status_probes(status: str, live: str, without: str) -> Iterator[Probe]:
    # A key that does not exist, and a member that is not there: nothing to do.
    yield Probe(f"SET on {status}", ("SET", status, "", "XX", "PX", 1), without)
    yield Probe(f"ZADD on {live}", ("ZADD", live, "XX", 0, _NOBODY), without)
    yield Probe(f"ZREMRANGEBYSCORE on {live}", ("ZREMRANGEBYSCORE", live, "(0", "(0"), without)


def _lookup_probes(keys: Keys, surface: Surface) -> Iterator[Probe]:
    for drop_set in surface.drop:
        owner = surface.name if drop_set.owner is SetOwner.SURFACE else _NOBODY
        key = keys.drop_set(drop_set.name, owner)
        yield Probe(f"SMISMEMBER on {key}", ("SMISMEMBER", key, _NOBODY), "feeds say skipped")
    if surface.lookup_features:
        key = keys.features(surface.feature_set.name, _NOBODY)
        yield Probe(f"MGET on {key}", ("MGET", key), "feeds say skipped")


class Denial(NamedTuple):
    """A probe that Redis denies, or does not do, and its message."""

    probe: Probe
    message: str
    is_unwritable: bool


def denials(editor: SteeringEditor, probes: Sequence[Probe]) -> list[Denial]:
    """The probes that are denied. Raises RedisUnreachable."""
    replies = editor.execute(*(probe.command for probe in probes))
    found: list[Denial] = []
    for probe, reply in zip(probes, replies, strict=True):
        if isinstance(reply, UnwritableReply):
            found.append(Denial(probe, reply.message, is_unwritable=True))
        elif isinstance(reply, ErrorReply) and _is_denial(reply.message):
            found.append(Denial(probe, reply.message, is_unwritable=False))
    return found


def _is_denial(message: str) -> bool:
    return (
        re.search(r"no permission|NOPERM|can't run|cannot run", message, re.IGNORECASE) is not None
    )


def refused_documents(editor: SteeringEditor, surface: Surface) -> dict[str, str]:
    """The keys of the surface's documents that workers would refuse, and why.

    Raises RedisUnreachable.
    """
    keys = editor.keys
    (experiment,) = editor.execute(("HGETALL", keys.document(surface.name, EXPERIMENT)))
    documents = document_ids(tuple(arms_named(experiment, ())))
    reads: list[Command] = []
    for kind, arm in documents:
        reads.append(("HGETALL", keys.document(surface.name, kind, arm)))
    replies = editor.execute(*reads)

    readable: dict[DocumentId, object] = {}
    for document, reply in zip(documents, replies, strict=True):
        if not (isinstance(reply, ErrorReply) and _is_denial(reply.message)):
            readable[document] = reply
    # Which models are available is not known here.
    state = SurfaceState.of({}).judge(readable, surface, ANY_VERSION, Moment(now=0))

    refused: dict[str, str] = {}
    for document in readable:
        refusal = state.documents[document].refused
        if refusal is not None:
            refused[keys.document(surface.name, document.kind, document.arm)] = refusal.reason
    return refused


class RedisFacts(NamedTuple):
    """What a Redis says of itself. None: this user may not see it."""

    version: str | None
    time_ms: int | None
    maxmemory: int | None
    maxmemory_policy: str | None
    is_appending: bool | None


def read_facts(editor: SteeringEditor) -> RedisFacts:
    """Raises RedisUnreachable."""
    hello, clock, memory, persistence = editor.execute(
        ("HELLO",), ("TIME",), ("INFO", "memory"), ("INFO", "persistence")
    )
    version = hello.get(b"version") if isinstance(hello, dict) else None
    info = {**_info(memory), **_info(persistence)}
    maxmemory = info.get("maxmemory")
    appending = info.get("aof_enabled")
    return RedisFacts(
        version=version.decode() if isinstance(version, bytes) else None,
        time_ms=_milliseconds(clock),
        maxmemory=None if maxmemory is None else int(maxmemory),
        maxmemory_policy=info.get("maxmemory_policy"),
        is_appending=None if appending is None else appending == "1",
    )


def _milliseconds(clock: object) -> int | None:
    if not isinstance(clock, list):
        return None
    seconds, microseconds = clock
    return int(seconds) * 1000 + int(microseconds) // 1000


def _info(reply: object) -> dict[str, str]:
    fields: dict[str, str] = {}
    if isinstance(reply, bytes):
        for line in reply.decode(errors="replace").splitlines():
            key, colon, value = line.partition(":")
            if colon:
                fields[key] = value
    return fields
