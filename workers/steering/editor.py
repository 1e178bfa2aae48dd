"""The desk: where ops and tools look at the steering documents of a surface, and change them.

Each change is a compare-and-set on what was looked at, in one atomic step on the server, with an
actor and a reason.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from workers.errors import Failure
from workers.ranking.experiment import Experiment
from workers.ranking.pins import Pins
from workers.ranking.surface import Surface
from workers.ranking.weights import Weights
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
from workers.steering.fleet import Fleet, LiveWorker, available_to_all, read_fleet
from workers.steering.history import (
    HistoryEntry,
    NewContent,
    read_entries,
    revision_after,
    write_command,
)
from workers.steering.keys import Keys
from workers.steering.surface_state import EXPERIMENT, document_of, models_of
from workers.steering.view import AnyDocument, Found, SurfaceView, arms_in, view_of

AnyValue = Weights | Experiment | Pins

_TRIES = 10
_MOST_BLOCK_MS = 100


class RedisUnreachable(Failure):
    """Redis does not answer, or not to us; the message names the address, without a password."""


class RedisMoved(RedisUnreachable):
    """The server has nothing to be read: a replica without its master, or one that still loads."""


class RedisReadOnly(RedisUnreachable):
    """The server takes no writes: it is a replica, or a master that is cut off. Nothing was
    written.
    """


class ChangedMeanwhile(Failure):
    """Somebody else changed a document after it was looked at; nothing was written."""

    def __init__(self, before: AnyDocument, now: AnyDocument) -> None:
        who = f"by {now.last.actor}" if now.last and now.is_recorded else "by hand"
        why = f" ({now.last.reason})" if now.last and now.is_recorded and now.last.reason else ""
        change = difference(before.texts, now.texts) or "to what it was before"
        super().__init__(
            f"{now.content.name}: changed meanwhile {who}, revision {now.revision}{why}: {change}"
        )


@dataclass(frozen=True)
class Change:
    """A document as it was looked at, and what it is to hold."""

    document: AnyDocument
    value: AnyValue

    @property
    def changes_nothing(self) -> bool:
        """Whether it holds that already."""
        return self.document.texts == texts_for(self.value)


class SteeringEditor:
    """One connection to Redis; `with` opens and closes it. Every method raises RedisUnreachable.

    Raises ValueError for a URL or a timeout that cannot be right.
    """

    def __init__(self, url: str, prefix: str, timeout_s: float = TIMEOUT_S) -> None:
        self.keys = Keys(prefix)
        self._link = RedisLink(url, timeout_s)

    def __enter__(self) -> Self:
        with self._reached():
            self._link.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._link.__exit__()

    def execute(self, *commands: Command) -> list[object]:
        """Replies of one round trip."""
        with self._reached():
            return self._link.execute(*commands)

    def _execute_together(self, *commands: Command) -> list[object]:
        """Replies of one instant."""
        answers = self.execute(*as_transaction(*commands))
        replies = transaction_replies(answers)
        if replies is None:
            self._check(*answers)
        return replies or []

    def read_view(
        self, surface: Surface, arm: str | None = None, workers: Sequence[LiveWorker] | None = None
    ) -> SurfaceView:
        """The surface's documents and their history at one instant; `arm` is among them, heard of
        or not.

        `workers` says what models there are, for those who have read it already.
        """
        keys, name = self.keys, surface.name
        history: Command = ("XRANGE", keys.history(name), "-", "+")
        experiment, entries = self.execute(("HGETALL", keys.experiment(name)), history)
        found = Found({EXPERIMENT: experiment}, read_entries(entries), 0)
        arms = {*arms_in(found), arm}
        names = {EXPERIMENT: keys.experiment(name)}
        for one in (None, *sorted(filter(None, arms))):
            names |= {
                document_of(one): keys.weights(name, one),
                models_of(one): keys.models(name, one),
            }
        *replies, entries, clock = self._execute_together(
            *(("HGETALL", key) for key in names.values()), history, ("TIME",)
        )
        self._check(entries, clock)
        documents = dict(zip(names, replies, strict=True))
        found = Found(documents, read_entries(entries), _milliseconds(clock))
        return view_of(
            surface,
            keys,
            found,
            available_to_all(self.live_workers() if workers is None else workers, surface),
        )

    def write(self, view: SurfaceView, changes: Sequence[Change], actor: str, reason: str) -> int:
        """Write all of the changes or none; returns the surface's new revision. Raises
        ChangedMeanwhile.

        A server that takes no writes is left once, for the one that the address leads to by now.
        """
        has_reconnected = False
        for _ in range(_TRIES):
            pairs = [(change.document.content, written(change.value)) for change in changes]
            (reply,) = self.execute(
                write_command(
                    self.keys.history(view.surface.name), pairs, view.revision, actor, reason
                )
            )
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
            f"redis: {self._link.address}: the history changed {_TRIES} times meanwhile: try again"
        )

    def follow_history(self, surface: Surface, after: int) -> Iterator[HistoryEntry]:
        """Entries past a revision, then new ones as they come, without end."""
        history, place = self.keys.history(surface.name), b"0"
        # Less than the timeout: a server that has nothing new answers in time.
        block_ms = max(1, min(_MOST_BLOCK_MS, round(self._link.timeouts.answer_s * 500)))
        has_reconnected = False
        while True:
            try:
                (reply,) = self.execute(("XREAD", "BLOCK", block_ms, "STREAMS", history, place))
            except RedisMoved:
                if has_reconnected:
                    raise
                has_reconnected = True
                self._reconnect()
                continue
            has_reconnected = False
            self._check(reply)
            found = reply.get(history.encode(), []) if isinstance(reply, dict) else []
            yield from (entry for entry in read_entries(found) if entry.revision > after)
            place = found[-1][0] if found else place

    def live_workers(self) -> list[LiveWorker]:
        """What each live worker says of itself."""
        return self.read_fleet().workers

    def read_fleet(self) -> Fleet:
        """The same, and who has ceased to say anything."""
        with self._reached():
            return read_fleet(self._link, self.keys)

    def _reconnect(self) -> None:
        self.__exit__()
        self.__enter__()

    def _check(self, *replies: object) -> None:
        for reply in replies:
            if isinstance(reply, UnwritableReply):
                what = "takes no writes (is it a replica?), so the change was not made"
                raise RedisReadOnly(
                    f"redis: {self._link.address} {what}: {reply.message}; expected the address of the current master"
                )
            if isinstance(reply, ErrorReply):
                raise RedisUnreachable(f"redis: {self._link.address}: {reply.message}")

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except WrongServer as wrong:
            raise RedisMoved(f"redis: {self._link.address} cannot be read now: {wrong}") from None
        except RedisLost as lost:
            raise RedisUnreachable(f"no Redis answers at {self._link.address}: {lost}") from None


def texts_for(value: AnyValue) -> dict[str, str]:
    """The fields of the hash that holds it; numbers in the shortest form that reads back the same."""
    if not isinstance(value, Weights):
        return value.fields()
    return {objective: repr(weight) for objective, weight in value.values.items()}


def written(value: AnyValue) -> NewContent:
    """What is to be written, with the version of weights."""
    return NewContent(texts_for(value), value.version if isinstance(value, Weights) else None)


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """What differs between two contents, field by field; empty where nothing does."""
    fields = dict.fromkeys([*before, *after])
    return ", ".join(
        f"{field} {before.get(field, 'none')} -> {after.get(field, 'none')}"
        for field in fields
        if before.get(field) != after.get(field)
    )


def _renewed(change: Change, view: SurfaceView) -> Change:
    """The change on the document as it is now, where that is as it was looked at."""
    before = change.document
    now = view.document(before.content.name)
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
