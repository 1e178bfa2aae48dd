"""The steering editor: how tools read the steering documents of a surface, and change them.

Rules:
- A change is made in one step on the server, with an actor and a reason, and only if no document
  that it changes has changed since it was read. Otherwise `ChangedMeanwhile` is raised.
- If only the history has gone on meanwhile (a change to another document, or a worker has recorded
  one made by hand), the editor reads again and tries again.
- A server that takes no writes is left once for the one that its address leads to by now. If that
  takes none either, `RedisReadOnly` is raised, and nothing was written.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from workers.errors import Failure
from workers.ranking.pins import ANY_VERSION
from workers.ranking.surface import Surface
from workers.steering.connection import (
    TIMEOUT_S,
    Command,
    ErrorReply,
    RedisLink,
    RedisLost,
    UnwritableReply,
    WrongServer,
    as_transaction,
    transaction_replies,
)
from workers.steering.content import RawFields
from workers.steering.documents import (
    EXPERIMENT,
    KINDS,
    PLAN,
    DocumentId,
    ReadContext,
    document_ids,
)
from workers.steering.fleet import Fleet, LiveWorker, available_to_all, read_fleet
from workers.steering.history import (
    HistoryEntry,
    NewContent,
    read_entries,
    revision_after,
    write_command,
)
from workers.steering.keys import Keys
from workers.steering.phases import Phases, phases_of
from workers.steering.stage_status import Stages, read_stages
from workers.steering.view import (
    DocumentView,
    PlannedExperiment,
    SurfaceView,
    arms_named,
    document_view,
    surface_view,
)

_MAX_TRIES = 10
_MAX_BLOCK_MS = 100


class RedisUnreachable(Failure):
    """Redis does not answer, or not to us; the message names the address, without a password."""


class RedisMoved(RedisUnreachable):
    """The server has nothing to be read: a replica without its master, or one that still loads."""


class RedisReadOnly(RedisUnreachable):
    """The server takes no writes: it is a replica, or a master that is cut off. Nothing was
    written.
    """


class ChangedMeanwhile(Failure):
    """Somebody else changed a document after it was read. Nothing was written."""

    def __init__(self, before: DocumentView[Any], now: DocumentView[Any]) -> None:
        if now.last is not None and now.is_recorded:
            why = f" ({now.last.reason})" if now.last.reason else ""
            who = f"by {now.last.actor}, revision {now.revision}{why}"
        else:
            who = f"by hand, revision {now.revision}"
        change = difference(before.texts, now.texts) or "to what it was before"
        super().__init__(f"{now.content.name}: changed meanwhile {who}: {change}")


@dataclass(frozen=True)
class Change:
    """A document as it was read, and the value that it is to have: one of its kind."""

    document: DocumentView[Any]
    value: object

    @property
    def new_content(self) -> NewContent:
        """What is to be written."""
        kind = self.document.kind
        return NewContent(kind.fields_of(self.value), kind.version_of(self.value))

    @property
    def changes_nothing(self) -> bool:
        """Whether Redis holds the value already."""
        return self.document.texts == self.document.kind.fields_of(self.value)


class SteeringEditor:
    """One connection to Redis; `with` opens and closes it. Every method raises RedisUnreachable.

    Raises ValueError for a URL or a timeout that cannot be right.
    """

    def __init__(self, url: str, prefix: str, timeout_s: float = TIMEOUT_S) -> None:
        self.keys = Keys(prefix)
        self._link = RedisLink(url, timeout_s)

    def __enter__(self) -> Self:
        with self._failures():
            self._link.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._link.__exit__()

    @property
    def calls(self) -> int:
        """How many round trips were made."""
        return self._link.calls

    def execute(self, *commands: Command) -> list[object]:
        """Replies of one round trip."""
        with self._failures():
            return self._link.execute(*commands)

    def read_view(
        self, surface: Surface, arm: str | None = None, workers: Sequence[LiveWorker] | None = None
    ) -> SurfaceView:
        """The surface's documents and their history at one instant. `arm` is among them even if
        nothing names it.

        `workers` say which models are available. Without them the live workers are read.
        """
        keys = self.keys
        name = surface.name
        read_history: Command = ("XRANGE", keys.history(name), "-", "+")

        # The first look only finds out which arms there are.
        read_experiment: Command = ("HGETALL", keys.document(name, EXPERIMENT))
        experiment, history = self.execute(read_experiment, read_history)
        arms = set(arms_named(experiment, read_entries(history)))
        if arm is not None:
            arms.add(arm)

        documents = document_ids(tuple(sorted(arms)), KINDS)
        reads: list[Command] = []
        for kind, document_arm in documents:
            reads.append(("HGETALL", keys.document(name, kind, document_arm)))
        *replies, history, clock = self._execute_at_once(*reads, read_history, ("TIME",))
        self._check(history, clock)

        if workers is None:
            workers = self.live_workers()
        return surface_view(
            surface,
            keys,
            replies=dict(zip(documents, replies, strict=True)),
            entries=read_entries(history),
            now=_milliseconds(clock),
            available=available_to_all(workers, surface),
        )

    def read_phases(self, surface: Surface) -> Phases:
        """The phases of the surface's experiments, in one round trip.

        A document of an arm that was changed by hand is known once a worker has recorded it.
        """
        name = surface.name
        documents = document_ids(())
        reads: list[Command] = []
        for kind, _ in documents:
            reads.append(("HGETALL", self.keys.document(name, kind)))
        *replies, history = self._execute_at_once(
            *reads, ("XRANGE", self.keys.history(name), "-", "+")
        )
        self._check(history)

        contents: dict[DocumentId, RawFields | None] = {}
        for document, reply in zip(documents, replies, strict=True):
            contents[document] = reply if isinstance(reply, dict) else None
        return phases_of(surface, read_entries(history), contents)

    def read_planned(self, surface: Surface) -> PlannedExperiment:
        """The experiment in force and its plan. Takes one round trip if Redis holds a valid
        experiment, or no plan: cheap enough to ask every second.

        Without a plan, an experiment that Redis holds no more is not found.
        """
        context = ReadContext(surface, ANY_VERSION)
        documents = (DocumentId(EXPERIMENT), DocumentId(PLAN))
        reads: list[Command] = []
        for kind, _ in documents:
            reads.append(("HGETALL", self.keys.document(surface.name, kind)))
        replies = self._execute_at_once(*reads)

        views = list[DocumentView[Any]]()
        for document, reply, (_, key) in zip(documents, replies, reads, strict=True):
            views.append(document_view(document, str(key), reply, (), context))
        experiment, plan = views
        if experiment.value is None and plan.content.fields != {}:
            # What is in force instead is in the history.
            view = self.read_view(surface, workers=[])
            return PlannedExperiment.of(view.experiment, view.plan)
        return PlannedExperiment.of(experiment, plan)

    def write(self, view: SurfaceView, changes: Sequence[Change], actor: str, reason: str) -> int:
        """Write all of the changes or none. Returns the surface's new revision. Raises
        ChangedMeanwhile.
        """
        history = self.keys.history(view.surface.name)
        has_reconnected = False
        for _ in range(_MAX_TRIES):
            contents = [(change.document.content, change.new_content) for change in changes]
            command = write_command(history, contents, view.revision, actor, reason)
            (reply,) = self.execute(command)
            if isinstance(reply, UnwritableReply) and not has_reconnected:
                has_reconnected = True
                self._reconnect()
                continue

            self._check(reply)
            revision = revision_after(reply)
            if revision is not None:
                return revision

            view = self.read_view(view.surface)
            changes = [_renewed(change, view) for change in changes]
        raise RedisUnreachable(
            f"redis: {self._link.address}: "
            f"the history changed {_MAX_TRIES} times meanwhile: try again"
        )

    def follow_history(self, surface: Surface, after: int) -> Iterator[HistoryEntry]:
        """The entries after a revision, then new ones as they come, without end."""
        history = self.keys.history(surface.name)
        position = b"0"
        # Less than the timeout: a server that has nothing new must answer in time.
        block_ms = max(1, min(_MAX_BLOCK_MS, round(self._link.timeouts.answer_s * 500)))
        has_reconnected = False
        while True:
            try:
                command: Command = ("XREAD", "BLOCK", block_ms, "STREAMS", history, position)
                (reply,) = self.execute(command)
            except RedisMoved:
                if has_reconnected:
                    raise
                has_reconnected = True
                self._reconnect()
                continue

            has_reconnected = False
            self._check(reply)

            entries = reply.get(history.encode(), []) if isinstance(reply, dict) else []
            for entry in read_entries(entries):
                if entry.revision > after:
                    yield entry
            if entries:
                position = entries[-1][0]

    def live_workers(self) -> list[LiveWorker]:
        """The workers that have a status."""
        return self.read_fleet().workers

    def read_fleet(self) -> Fleet:
        """The workers that have a status, and those that have none any more."""
        with self._failures():
            return read_fleet(self._link, self.keys)

    def read_stages(self) -> Stages:
        """The processes of `join` and `users` that have a status."""
        with self._failures():
            return read_stages(self._link, self.keys)

    def _execute_at_once(self, *commands: Command) -> list[object]:
        """The replies of one instant."""
        wrapped = self.execute(*as_transaction(*commands))
        replies = transaction_replies(wrapped)
        if replies is None:
            self._check(*wrapped)
        return replies or []

    def _reconnect(self) -> None:
        self.__exit__()
        self.__enter__()

    def _check(self, *replies: object) -> None:
        for reply in replies:
            if isinstance(reply, UnwritableReply):
                raise RedisReadOnly(
                    f"redis: {self._link.address} takes no writes (is it a replica?), "
                    f"so the change was not made: {reply.message}; "
                    "expected the address of the current master"
                )
            if isinstance(reply, ErrorReply):
                raise RedisUnreachable(f"redis: {self._link.address}: {reply.message}")

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except WrongServer as wrong:
            raise RedisMoved(f"redis: {self._link.address} cannot be read now: {wrong}") from None
        except RedisLost as lost:
            raise RedisUnreachable(f"no Redis answers at {self._link.address}: {lost}") from None


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """What differs between two contents, field by field. Empty if nothing does."""
    changes = list[str]()
    for field in dict.fromkeys([*before, *after]):
        if before.get(field) != after.get(field):
            changes.append(f"{field} {before.get(field, 'none')} -> {after.get(field, 'none')}")
    return ", ".join(changes)


def _renewed(change: Change, view: SurfaceView) -> Change:
    """The change to the document as it is now. Raises ChangedMeanwhile if that is not as it was
    read.
    """
    before = change.document
    now = view.documents[before.id]
    if now.content.fields != before.content.fields or now.revision != before.revision:
        raise ChangedMeanwhile(before, now)
    return Change(now, change.value)


def _milliseconds(clock: object) -> int:
    match clock:
        case [bytes(seconds), bytes(microseconds)]:
            return int(seconds) * 1000 + int(microseconds) // 1000
        case _:
            raise RedisUnreachable(
                f"redis: got {clock!r} as its time, expected seconds and microseconds"
            )
