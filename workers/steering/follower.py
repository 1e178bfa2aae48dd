"""The follower keeps the mix of each surface as Redis has it, in a thread of its own.

The ranking thread reads one immutable snapshot. It never waits: not for Redis, not for the disk,
not for a lock. Without Redis the mixes in force go on. At a start without Redis the worker begins
with the last good ones on its disk, else with the surfaces' defaults.

What is read:
- A push names surfaces whose documents have changed: they are read at once.
- Once a second (`poll_seconds`) everything is read, because a push may be lost. The first read over
  a new connection is of everything, too.
- All documents of a surface are read in one transaction, so a change that a tool makes in one step
  is never seen in halves. If the experiment names arms that were not read, the surface is read
  again, with all of its arms.
- A surface for which a read has brought news is read again by the next read, which follows at once.

What is written, in the same round trip as a read:
- by a poll: CLIENT TRACKING, which turns pushes on. So pushes that a proxy or a fail-over has lost
  come back with the next poll.
- by every read except the first one after a push: the worker's status, and to the history the
  changes made by hand that it may not have yet. So a push is applied first, and the read that
  follows at once reports it. At least every second read writes.

Which server: after a fail-over, a connection may still lead to the old master, which takes no
writes now. `_note_server` has the table.
"""

import math
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple, Self

from workers.ranking.mix import Mix
from workers.ranking.pins import ANY_VERSION, AvailableModels, named_versions
from workers.ranking.surface import Surface
from workers.steering import status
from workers.steering.connection import (
    TIMEOUT_S,
    Command,
    ErrorReply,
    Events,
    OnEvent,
    RedisLink,
    RedisLost,
    RedisUse,
    UnwritableReply,
    as_transaction,
    transaction_replies,
)
from workers.steering.content import UnreadableContent, decode_fields
from workers.steering.documents import EXPERIMENT, MODELS, DocumentId, document_ids
from workers.steering.history import UnrecordedChanges
from workers.steering.keys import Keys
from workers.steering.last_good import LastGoodStore
from workers.steering.surface_state import Replies, SurfaceState, SurfaceStates

_JOIN_S: Final = 1.0  # how long start() and stop() wait for a thread at most, if Redis is near
_ROUND_TRIPS: Final = 8  # to connect and read everything: TCP, TLS, HELLO, SELECT, documents, arms
_LONGEST_START_S: Final = 10.0
_LONGEST_STOP_S: Final = 3.0
_FIRST_STAY_S: Final = (
    1.0  # with a server that takes no writes, before its address is resolved again
)
_LONGEST_STAY_S: Final = 5.0
_RECONNECT_S: Final = 0.5  # between attempts to reach Redis
_PACE_S: Final = 0.005  # between two reads: many writes in a row cost at most 200 reads a second
_SLICE_S: Final = 0.1  # how soon stop() is noticed
_STATUS_POLLS: Final = 10  # the status of a worker that died expires after this many polls
_FORGET_AFTER_MS: Final = 86_400_000  # the id of a worker that died is dropped after a day
_MAX_READS_FOR_ARMS: Final = 3  # an experiment may get other arms between two reads


class _Push(NamedTuple):
    """When a push came, in seconds of the clock, and the surfaces whose documents it names."""

    at: float
    surfaces: Collection[str]


class _Writes(NamedTuple):
    """Commands that write, by what they are for."""

    tracking: tuple[Command, ...] = ()
    status: tuple[Command, ...] = ()
    history: tuple[Command, ...] = ()


class _WriteReplies(NamedTuple):
    """Redis's replies to the commands that write."""

    tracking: list[object]
    status: list[object]
    history: list[object]

    @classmethod
    def of(cls, writes: _Writes, replies: list[object]) -> Self:
        """Split the replies to all of these commands."""
        status_at = len(writes.tracking)
        history_at = status_at + len(writes.status)
        return cls(replies[:status_at], replies[status_at:history_at], replies[history_at:])


class Follower:
    """The mix of each surface from Redis, and this worker's status in return.

    - `home`: the folder of the last good files.
    - `report`: what the worker adds to its status.
    - `available`: the models that there are.
    - `want`: asks for a version that a document names and that is not available.
    - `on_connected`: called when another server may be reached than before.
    - `timeout_s`: Redis's. `clock`: monotonic seconds. `now`: milliseconds since the epoch.

    `report`, `available`, `want` and `on_connected` are called in the steering thread and must
    neither block nor raise. Raises ValueError for a URL or a timeout that cannot be right.
    """

    def __init__(
        self,
        redis_url: str,
        prefix: str,
        surfaces: Mapping[str, Surface],
        worker_id: str,
        home: Path,
        on_event: OnEvent,
        *,
        report: Callable[[], Mapping[str, object]] = dict,
        available: Callable[[], AvailableModels] = lambda: ANY_VERSION,
        want: Callable[[str, int], None] = lambda objective, version: None,
        on_connected: Callable[[], None] = lambda: None,
        timeout_s: float = TIMEOUT_S,
        poll_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._surfaces = surfaces
        feature_sets = [surface.feature_set for surface in surfaces.values()]
        self._feature_sets = {feature_set.name: feature_set for feature_set in feature_sets}
        self._worker_id = worker_id
        self._report = report
        self._available = available
        self._want = want
        self._on_connected = on_connected
        self._poll_s = poll_seconds
        self._clock = clock
        self._now = now

        self._keys = Keys(prefix)
        self._link = RedisLink(redis_url, timeout_s)
        self._events = Events(on_event)
        self._states = SurfaceStates(surfaces, self._events, now, available)
        self._last_good = LastGoodStore(
            home, self._keys, surfaces, self._events, states=lambda: self._states.current
        )
        self._unrecorded = UnrecordedChanges(self._keys)

        prefixes = list[str]()
        for key_prefix in self._keys.document_prefixes:
            prefixes += ["PREFIX", key_prefix]
        self._tracking: tuple[Command, ...] = (
            ("CLIENT", "TRACKING", "OFF"),
            ("CLIENT", "TRACKING", "ON", "BCAST", *prefixes),
        )

        # Which server we are connected to.
        self._connected = False
        self._writable = True
        self._stay_s = _FIRST_STAY_S
        self._leave_at = math.inf  # when to resolve the address and connect again

        # What is to be read and written next.
        self._first_read = True  # over this connection
        self._poll_due = -math.inf
        self._push: _Push | None = None
        self._pushes_on = False
        self._owes_writes = False  # the last read wrote nothing
        self._with_news: Collection[str] = ()  # the surfaces that are read again

        self._contact_at = -math.inf
        self._tried = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="steering", daemon=True)

    def start(self) -> None:
        """Begin. Returns once Redis was tried, after ten seconds at the latest. To be called once.

        It was tried as soon as an attempt fails. So only a Redis that is far away and answers makes
        this wait.
        """
        self._states.restore(self._last_good.load(self._available()))
        self._last_good.start()
        self._thread.start()

        far_away_s = _ROUND_TRIPS * max(self._link.timeouts)
        self._tried.wait(min(max(_JOIN_S, far_away_s), _LONGEST_START_S))
        self._states.log_fallbacks()

    def stop(self) -> None:
        """End the threads and delete the status. Returns after four seconds at the latest."""
        self._stopping.set()
        if self._thread.is_alive():
            # A reply may be on its way, and deleting the status takes another round trip.
            two_round_trips_s = 2 * max(self._link.timeouts)
            self._thread.join(min(max(_JOIN_S, two_round_trips_s), _LONGEST_STOP_S))
        self._last_good.stop(_JOIN_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def mix(self, surface: str) -> Mix:
        """What to rank under now. Raises KeyError for an unknown surface."""
        return self._states.mixes[surface]

    def snapshot(self) -> Mapping[str, Mix]:
        """The mixes of all surfaces as one immutable mapping."""
        return self._states.mixes

    @property
    def redis(self) -> RedisUse:
        """What the connection was used for so far. For any thread."""
        return RedisUse(self._link.calls, self._link.failures)

    @property
    def states(self) -> Mapping[str, SurfaceState]:
        """The state of the documents of each surface, as an immutable snapshot. For any thread."""
        return self._states.current

    @property
    def is_in_touch(self) -> bool:
        """Whether Redis has answered a read in the last three polls, or within its timeout. For any
        thread.
        """
        return self.age_seconds() < max(3 * self._poll_s, 2 * max(self._link.timeouts))

    def describe(self) -> bytes:
        """The status of this worker as JSON, as it is written to Redis. For any thread."""
        return self._describe(self._now())

    def age_seconds(self) -> float:
        """Seconds since Redis last answered a read; infinite if it never has."""
        return self._clock() - self._contact_at

    # The thread

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._connect_and_follow()
                self._tried.set()
                self._stopping.wait(_RECONNECT_S)
        except BaseException as error:
            self._events.emit("steering_failed", error=repr(error))
            raise

    def _connect_and_follow(self) -> None:
        self._first_read = True
        self._leave_at = math.inf
        try:
            with self._link:
                self._follow()
        except RedisLost as lost:
            self._connected = False
            self._events.emit_if_new("redis_lost", str(lost))

    def _follow(self) -> None:
        """Follow this server until stopped, or until it is time to look for another one."""
        while not self._stopping.is_set():
            self._read_and_write()
            if self._clock() >= self._leave_at:
                return

            self._stopping.wait(_PACE_S)
            due = -math.inf if self._with_news else min(self._poll_due, self._leave_at)
            self._wait_for_push(due)

        self._link.execute(
            ("DEL", self._keys.status(self._worker_id)),
            ("ZREM", self._keys.live, self._worker_id),
        )

    def _wait_for_push(self, due: float) -> None:
        """Wait for a push that names one of our surfaces, or until `due` (seconds of the clock)."""
        while not self._stopping.is_set():
            keys = self._link.pushed_keys(max(0.0, min(_SLICE_S, due - self._clock())))
            surfaces = self._surfaces_of(keys)
            if surfaces:
                self._push = _Push(self._clock(), surfaces)
                return

            if self._clock() >= due:
                return
            if keys:
                self._stopping.wait(_PACE_S)

    def _surfaces_of(self, keys: Collection[bytes | None]) -> Collection[str]:
        """Our surfaces whose documents have these keys. None among the keys stands for all keys."""
        if None in keys:
            return self._surfaces
        names = {self._keys.surface_of(key) for key in keys if key}
        return self._surfaces.keys() & names

    # One round trip

    def _read_and_write(self) -> None:
        """Read and write what is due, and judge the replies. Afterwards `_with_news` has the
        surfaces that are to be read again at once.
        """
        is_first = self._first_read
        is_poll = is_first or self._clock() >= self._poll_due
        push = self._push
        self._push = None

        surfaces = self._what_to_read(is_poll, push)
        writes = self._what_to_write(is_poll, push)
        self._owes_writes = not writes.status
        written, replies = self._exchange(writes, surfaces)

        self._first_read = False
        self._contact_at = self._clock()
        if is_poll:
            self._poll_due = self._contact_at + self._poll_s
        if writes.status:
            self._note_written(written)

        push_ms = None if push is None else round((self._contact_at - push.at) * 1000, 3)
        changed = self._states.judge(replies, push_ms)
        if changed:
            self._last_good.save_soon()
        self._want_named_versions(replies)
        noted = self._unrecorded.note(self._states.current, replies)

        if is_first:
            self._with_news = self._surfaces
        elif writes.status:
            self._with_news = {*changed, *noted}
        else:
            self._with_news = {*self._with_news, *changed, *noted}
        self._tried.set()

    def _what_to_read(self, is_poll: bool, push: _Push | None) -> Collection[str]:
        """The surfaces to read: all of them by a poll, else those with news and those of a push."""
        if is_poll:
            return self._surfaces
        if push is None:
            return self._with_news
        return {*self._with_news, *push.surfaces}

    def _what_to_write(self, is_poll: bool, push: _Push | None) -> _Writes:
        """The commands to send before the read. None with the first read after a push."""
        if push is not None and not is_poll and not self._owes_writes:
            return _Writes()

        # A server that takes no writes is offered the changes once, not with each poll.
        offers = self._writable or self._first_read
        return _Writes(
            tracking=self._tracking if is_poll else (),
            status=self._status_commands(),
            history=tuple(self._unrecorded.commands()) if offers else (),
        )

    def _status_commands(self) -> tuple[Command, ...]:
        now = self._now()
        text = self._describe(now)
        return (
            ("SET", self._keys.status(self._worker_id), text, "PX", self._expiry_ms),
            ("ZADD", self._keys.live, now, self._worker_id),
            ("ZREMRANGEBYSCORE", self._keys.live, "-inf", now - _FORGET_AFTER_MS),
        )

    @property
    def _expiry_ms(self) -> int:
        return round(_STATUS_POLLS * self._poll_s * 1000)

    def _describe(self, now: int) -> bytes:
        """The status as JSON; `now` in milliseconds since the epoch."""
        available = self._available()
        objectives: dict[str, tuple[str, ...]] = {}
        for name, feature_set in self._feature_sets.items():
            objectives[name] = available.suitable_objectives(feature_set)
        return status.encode(
            worker=self._worker_id,
            at=now,
            expiry_ms=self._expiry_ms,
            pushes=self._pushes_on,
            states=self._states.current,
            objectives=objectives,
            report=self._report(),
        )

    def _exchange(
        self, writes: _Writes, surfaces: Collection[str]
    ) -> tuple[_WriteReplies, dict[str, Replies]]:
        """Send the writes and read every document of the surfaces, in one round trip. Returns the
        replies to the writes, and those for the documents by surface.

        A surface whose experiment names other arms than were read is read again as a whole, so that
        all its documents are of one instant.
        """
        states = self._states.current
        arms = {name: states[name].arms_to_read() for name in surfaces}
        commands = (*writes.tracking, *writes.status, *writes.history)
        replies = self._link.execute(*commands, *as_transaction(*self._reads(arms)))
        written = _WriteReplies.of(writes, replies[: len(commands)])
        read = self._by_surface(arms, replies[len(commands) :])

        for _ in range(_MAX_READS_FOR_ARMS):
            other_arms: dict[str, tuple[str, ...]] = {}
            for name, documents in read.items():
                needed = states[name].arms_to_read(documents[DocumentId(EXPERIMENT)])
                if needed != arms[name]:
                    other_arms[name] = needed
            if not other_arms:
                break

            arms |= other_arms
            replies = self._link.execute(*as_transaction(*self._reads(other_arms)))
            read |= self._by_surface(other_arms, replies)
        return written, read

    def _reads(self, arms: Mapping[str, tuple[str, ...]]) -> list[Command]:
        """The commands that read every document of the surfaces with these arms."""
        commands: list[Command] = []
        for name, surface_arms in arms.items():
            for kind, arm in _read_order(surface_arms):
                commands.append(("HGETALL", self._keys.document(name, kind, arm)))
        return commands

    def _by_surface(
        self, arms: Mapping[str, tuple[str, ...]], replies: list[object]
    ) -> dict[str, Replies]:
        """The replies to a transaction of `_reads`, by surface. If Redis denies us one document, it
        denies the transaction: then each is read by itself.
        """
        documents = transaction_replies(replies)
        if documents is None:
            documents = self._link.execute(*self._reads(arms))

        remaining = iter(documents)
        by_surface: dict[str, Replies] = {}
        for name, surface_arms in arms.items():
            by_surface[name] = {document: next(remaining) for document in _read_order(surface_arms)}
        return by_surface

    # What the replies mean

    def _want_named_versions(self, replies: Mapping[str, Replies]) -> None:
        """Ask for the model versions that documents name and that are not available, whether the
        documents are valid or not. Once a version is available, the documents are judged again.
        """
        available = self._available()
        for documents in replies.values():
            for document, reply in documents.items():
                if document.kind is not MODELS:
                    continue
                try:
                    named = named_versions(decode_fields(reply))
                except UnreadableContent:
                    continue

                for objective, version in named:
                    if version not in available.models.get(objective, {}):
                        self._want(objective, version)

    def _note_written(self, replies: _WriteReplies) -> None:
        self._note_server([*replies.status, *replies.history])

        if replies.tracking:
            _, turned_on = replies.tracking
            self._pushes_on = not isinstance(turned_on, ErrorReply)
            self._events.emit_if_new("pushes_denied", _denial([turned_on]))
        if replies.history:
            self._unrecorded.answered(replies.history)

        self._events.emit_if_new("status_denied", _denial(replies.status))
        self._events.emit_if_new("history_denied", _denial(replies.history))

    def _note_server(self, replies: list[object]) -> None:
        """Log that Redis is reached, or why it takes no writes, and decide when to look for another
        server. `replies` are those to our writes.

        | Our writes are | the last ones were taken | the last ones were refused |
        |---|---|---|
        | taken | stay | stay, log `redis_connected` |
        | refused by the server | leave at once, log `redis_read_only` | leave in `_stay_s`, which doubles each time |
        | denied to our user | stay | as if they were refused: the server may be the same |

        Until it leaves, the worker follows what that server holds. So it may stay with a replica
        for good.
        """
        refusal = None
        denied = 0
        for reply in replies:
            if isinstance(reply, ErrorReply):
                denied += 1
            if isinstance(reply, UnwritableReply) and refusal is None:
                refusal = reply.message
        taken = refusal is None and denied < len(replies)

        if not self._connected or (taken and not self._writable):
            self._connected = True
            self._events.emit_if_new("redis_lost", None)
            self._events.emit("redis_connected", address=self._link.address)
            # A fail-over may have lost what the server before has recorded.
            self._unrecorded.offer_all()
            self._on_connected()

        if refusal is not None:
            self._events.emit_if_new("redis_read_only", refusal)
        if refusal is not None and self._writable:
            self._writable = False
            self._leave_at = self._clock()
        elif taken:
            self._events.emit_if_new("redis_read_only", None)
            self._writable = True
            self._stay_s = _FIRST_STAY_S
            self._leave_at = math.inf
        elif not self._writable and self._leave_at == math.inf:
            self._leave_at = self._clock() + self._stay_s
            self._stay_s = min(2 * self._stay_s, _LONGEST_STAY_S)


@lru_cache(maxsize=1024)  # a poll asks for that of every surface, twice
def _read_order(arms: tuple[str, ...]) -> tuple[DocumentId, ...]:
    """The surface's own documents, then those of its arms. A user who must not MULTI so reads an
    experiment before the weights of its arms: what a tool writes in between is never missed.
    """
    return tuple(sorted(document_ids(arms), key=lambda document: document.arm is not None))


def _denial(replies: Sequence[object]) -> str | None:
    """What is denied to our user. What a server denies to everybody, because it takes no writes,
    does not count.
    """
    for reply in replies:
        if isinstance(reply, ErrorReply) and not isinstance(reply, UnwritableReply):
            return reply.message
    return None
