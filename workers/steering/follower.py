"""Steering: keeps each surface's mix as Redis has it, in a thread of its own.

The ranking thread reads one immutable snapshot and never waits: not for Redis, not for the disk,
not for a lock. Pushes only hasten: they name what has changed, and each second everything is read
anew, which is the truth. Without Redis the last good mix goes on; at a start without Redis the one
kept on disk, else the surface's default.

A server that takes no writes may be the old master after a fail-over that has kept the connection.
Its address is then resolved and connected to again: at once, and if the next server takes no writes
either, after pauses that double up to `_LONGEST_STAY_S`. Meanwhile what that server holds is
followed, so that a worker may stay with a replica for good.
"""

import math
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self

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
    UnwritableReply,
    as_transaction,
    transaction_replies,
)
from workers.steering.content import NoContent, texts_of
from workers.steering.history import UnrecordedChanges
from workers.steering.keys import Keys
from workers.steering.last_good import Keeper
from workers.steering.surface_state import ArmReplies, Replies
from workers.steering.surface_states import SurfaceStates

_PATIENCE_S = 1.0  # how long start() and stop() wait for a thread at most, if Redis is near
_ROUND_TRIPS = 8  # to connect and to read everything once: TCP, TLS, HELLO, SELECT, documents, arms
_LONGEST_START_S = 10.0
_LONGEST_STOP_S = 3.0
_FIRST_STAY_S = 1.0  # with a server that takes no writes, before its address is resolved again
_LONGEST_STAY_S = 5.0
_PAUSE_S = 0.5  # between attempts to reach Redis
_PACE_S = 0.005  # between two reads: a storm of writes costs at most 200 reads a second
_SLICE_S = 0.1  # how soon stop() is noticed
_STATUS_POLLS = 10  # the status of a worker that died is gone after so many polls
_FORGOTTEN_MS = 86_400_000  # the id of a worker that died is gone after a day
_MOST_LOOKS = 3  # for the arms that an experiment has got between two looks


class _Push(NamedTuple):
    """When something was pushed, in seconds, and the surfaces whose documents were named."""

    at: float
    surfaces: Collection[str]


class Follower:
    """The mix of each of `surfaces` from Redis, and this worker's status in return; keys as
    schemas/ describes them.

    `home` keeps the last good mixes. `report` gives what the worker adds to its status, `available`
    the models that there are, and `want` asks for a version that is named and not among them: they
    are called in the steering thread and must neither block nor raise; so is `on_connected`, each
    time that another server may be reached than before. `timeout_s` is Redis's, `clock` is
    monotonic seconds, `now` milliseconds since the epoch. Raises ValueError for a URL or a timeout
    that cannot be right.
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
        self._keys = Keys(prefix)
        self._surfaces = surfaces
        self._feature_sets = {one.feature_set.name: one.feature_set for one in surfaces.values()}
        self._link = RedisLink(redis_url, timeout_s)
        self._events = Events(on_event)
        self._standings = SurfaceStates(surfaces, self._keys, home, self._events, now, available)
        self._keeper = Keeper(self._standings.keep, self._events)
        self._available, self._want = available, want
        self._on_connected = on_connected
        self._unrecorded = UnrecordedChanges(self._keys)
        # Turned on anew with each poll: what a proxy or a failover has lost is back with the next
        # poll.
        prefixes = [word for begin in self._keys.steered for word in ("PREFIX", begin)]
        self._tracking = (
            ("CLIENT", "TRACKING", "OFF"),
            ("CLIENT", "TRACKING", "ON", "BCAST", *prefixes),
        )
        self._worker_id = worker_id
        self._report = report
        self._poll_s = poll_seconds
        self._clock = clock
        self._now = now
        self._fresh = True  # whether nothing was read over this connection yet
        self._connected = False
        self._writable = True
        self._stay_s = _FIRST_STAY_S
        self._leave_at = math.inf  # when the address is to be resolved and connected to again
        self._pushes = False
        self._push: _Push | None = None
        self._due = -math.inf  # when everything is to be read again
        self._owing = False  # whether what was last read is still to be spoken of
        self._again: Collection[
            str
        ] = ()  # the surfaces of which something new is still to be spoken of
        self._contact_at = -math.inf
        self._tried = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="steering", daemon=True)

    def start(self) -> None:
        """Begin; returns once Redis has been tried, after ten seconds at the latest. To be called
        once.

        As soon as an attempt fails, it has been tried: only a Redis that is far away and answers is
        waited for.
        """
        self._standings.restore()
        self._keeper.start()
        self._thread.start()
        self._tried.wait(
            min(max(_PATIENCE_S, _ROUND_TRIPS * max(self._link.timeouts)), _LONGEST_START_S)
        )
        self._standings.say_fallbacks()

    def stop(self) -> None:
        """End the threads and take the status back; returns after four seconds at the latest."""
        self._stopping.set()
        if self._thread.is_alive():
            # A reply may be under way, and the status is taken back in another round trip.
            self._thread.join(min(max(_PATIENCE_S, 2 * max(self._link.timeouts)), _LONGEST_STOP_S))
        self._keeper.stop(_PATIENCE_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def mix(self, surface: str) -> Mix:
        """What to rank under now. Raises KeyError for an unknown surface."""
        return self._standings.snapshot[surface]

    def snapshot(self) -> Mapping[str, Mix]:
        """The mixes of all surfaces as one immutable mapping."""
        return self._standings.snapshot

    def age_seconds(self) -> float:
        """Seconds since Redis last answered a read; infinite where it never has."""
        return self._clock() - self._contact_at

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._connect_and_follow()
                self._tried.set()
                self._stopping.wait(_PAUSE_S)
        except BaseException as error:
            self._events.say("steering_failed", error=repr(error))
            raise

    def _connect_and_follow(self) -> None:
        self._fresh = True
        self._leave_at = math.inf
        try:
            with self._link:
                self._follow()
        except RedisLost as lost:
            self._connected = False
            self._events.trouble("redis_lost", str(lost))

    def _follow(self) -> None:
        """Follow this server until stopped, or until it is time to look for another one."""
        while not self._stopping.is_set():
            more_to_say = self._read()
            if self._clock() >= self._leave_at:
                return
            self._stopping.wait(_PACE_S)
            self._await_news(-math.inf if more_to_say else min(self._due, self._leave_at))
        self._link.execute(
            ("DEL", self._keys.status(self._worker_id)), ("ZREM", self._keys.live, self._worker_id)
        )

    def _read(self) -> bool:
        """Read the surfaces that a push has named, all of them where that is due; True where there
        is more to say.

        What a push announces is read at once and spoken of with the next read, which is of the same
        surfaces too.
        """
        first, push, self._push = self._fresh, self._push, None
        everything = first or self._clock() >= self._due
        speaks = everything or self._owing or push is None
        self._owing = not speaks
        named = self._surfaces if everything else {*self._again, *(push.surfaces if push else ())}
        said, replies = self._look(self._words(everything) if speaks else (), named)
        self._fresh = False
        self._contact_at = self._clock()
        if everything:
            self._due = self._contact_at + self._poll_s
        if speaks:
            self._hear(said, everything)
        push_ms = None if push is None else round((self._contact_at - push.at) * 1000, 3)
        changed = self._standings.take(replies, push_ms)
        if changed:
            self._keeper.note()
        self._ask_for_models(replies)
        noted = self._unrecorded.note(self._standings.current, replies)
        self._again = (
            self._surfaces if first else {*changed, *noted, *(() if speaks else self._again)}
        )
        self._tried.set()
        return bool(self._again)

    def _words(self, everything: bool) -> tuple[Command, ...]:
        tracking = self._tracking if everything else ()
        # A server that takes no writes is offered the changes by hand once, not with each poll.
        changes = self._unrecorded.commands() if self._writable or self._fresh else ()
        return (*tracking, *self._status(), *changes)

    def _ask_for_models(self, replies: Mapping[str, Replies]) -> None:
        """Ask for the versions that are named, sound or not, and not available: once they are, all
        is judged anew.
        """
        available = self._available()
        for found in replies.values():
            for documents in (found.own, *found.arms.values()):
                for objective, version in _named_versions(documents.models):
                    if version not in available.models.get(objective, {}):
                        self._want(objective, version)

    def _look(
        self, saying: tuple[Command, ...], surfaces: Collection[str]
    ) -> tuple[list[object], dict[str, Replies]]:
        """The replies to what is said, and to every document of the surfaces.

        A surface whose experiment has got other arms is read again, whole: what was changed in one
        step is seen so.
        """
        standings = self._standings.current
        arms = {name: standings[name].arms_to_read(None) for name in surfaces}
        replies = self._link.execute(*saying, *as_transaction(*self._documents(arms)))
        said, found = replies[: len(saying)], self._parted(arms, replies[len(saying) :])
        for _ in range(_MOST_LOOKS):
            needed = {
                name: standings[name].arms_to_read(one.experiment) for name, one in found.items()
            }
            others = {
                name: of_surface for name, of_surface in needed.items() if of_surface != arms[name]
            }
            if not others:
                break
            arms |= others
            found |= self._parted(
                others, self._link.execute(*as_transaction(*self._documents(others)))
            )
        return said, found

    def _parted(
        self, arms: Mapping[str, tuple[str, ...]], replies: list[object]
    ) -> dict[str, Replies]:
        """The replies by surface; where one document is denied to us, each is asked for by itself."""
        found = transaction_replies(replies)
        rest = iter(self._link.execute(*self._documents(arms)) if found is None else found)
        return {
            name: Replies(_next_two(rest), next(rest), {arm: _next_two(rest) for arm in of_surface})
            for name, of_surface in arms.items()
        }

    def _documents(self, arms: Mapping[str, tuple[str, ...]]) -> list[Command]:
        """In the order in which `_parted` takes the replies."""
        keys = self._keys
        named: list[str] = []
        for name, of_surface in arms.items():
            named += [keys.weights(name), keys.models(name), keys.experiment(name)]
            named += [
                key
                for arm in of_surface
                for key in (keys.weights(name, arm), keys.models(name, arm))
            ]
        return [("HGETALL", key) for key in named]

    def _status(self) -> tuple[Command, ...]:
        now, live, standings = self._now(), self._keys.live, self._standings.current
        expiry = round(_STATUS_POLLS * self._poll_s * 1000)
        available = self._available()
        objectives = {
            name: available.suitable_objectives(one) for name, one in self._feature_sets.items()
        }
        text = status.encode(
            self._worker_id, now, expiry, self._pushes, standings, objectives, self._report()
        )
        return (
            ("SET", self._keys.status(self._worker_id), text, "PX", expiry),
            ("ZADD", live, now, self._worker_id),
            ("ZREMRANGEBYSCORE", live, "-inf", now - _FORGOTTEN_MS),
        )

    def _await_news(self, due: float) -> None:
        """Wait for a push that is of interest, or until it is time to speak."""
        while not self._stopping.is_set():
            pushed = self._link.pushed_keys(max(0.0, min(_SLICE_S, due - self._clock())))
            if surfaces := self._named(pushed):
                self._push = _Push(self._clock(), surfaces)
                return
            if self._clock() >= due:
                return
            if pushed:
                self._stopping.wait(_PACE_S)

    def _named(self, keys: Collection[bytes | None]) -> Collection[str]:
        """Those of our surfaces that the keys are documents of; all of them for None."""
        return (
            self._surfaces
            if None in keys
            else self._surfaces.keys() & {self._keys.surface_of(k) for k in keys if k}
        )

    def _hear(self, said: list[object], everything: bool) -> None:
        """The replies to the words: to tracking, where everything was read, then to status and
        history.
        """
        tracking, writes = (said[:2], said[2:]) if everything else ([], said)
        status_, history = writes[:3], writes[3:]
        self._note_server(writes)
        if tracking:
            self._pushes = not isinstance(tracking[1], ErrorReply)
            self._events.trouble("pushes_denied", _denial(tracking[1]))
        if history:
            self._unrecorded.answered(history)
        self._events.trouble("status_denied", _denial(*status_))
        self._events.trouble("history_denied", _denial(*history))

    def _note_server(self, writes: list[object]) -> None:
        """Log that Redis is reached, or why it takes no writes; decide when to look for another
        server.

        | Our writes are | the last ones were taken | the last ones were refused |
        |---|---|---|
        | taken | stay | stay, log `redis_connected` |
        | refused by the server | leave at once, log `redis_read_only` | leave in `_stay_s`, which doubles each time |
        | denied to our user | stay | as if they were refused: the server may be the same |
        """
        refusal = next(
            (reply.message for reply in writes if isinstance(reply, UnwritableReply)), None
        )
        is_taken = refusal is None and not all(isinstance(reply, ErrorReply) for reply in writes)
        if not self._connected or (is_taken and not self._writable):
            self._connected = True
            self._events.trouble("redis_lost", None)
            self._events.say("redis_connected", address=self._link.address)
            # A fail-over may have lost what the server before has recorded.
            self._unrecorded.offer_all()
            self._on_connected()

        if refusal is not None:
            self._events.trouble("redis_read_only", refusal)
        if refusal is not None and self._writable:
            self._writable = False
            self._leave_at = self._clock()
        elif is_taken:
            self._events.trouble("redis_read_only", None)
            self._writable = True
            self._stay_s = _FIRST_STAY_S
            self._leave_at = math.inf
        elif not self._writable and self._leave_at == math.inf:
            self._leave_at = self._clock() + self._stay_s
            self._stay_s = min(2 * self._stay_s, _LONGEST_STAY_S)


def _next_two(replies: Iterator[object]) -> ArmReplies:
    return ArmReplies(next(replies), next(replies))


def _named_versions(reply: object) -> list[tuple[str, int]]:
    try:
        return named_versions(texts_of(reply))
    except NoContent:
        return []


def _denial(*replies: object) -> str | None:
    """What is denied to our user, other than by a server that takes no writes from anybody."""
    denied = (
        reply
        for reply in replies
        if isinstance(reply, ErrorReply) and not isinstance(reply, UnwritableReply)
    )
    return next((reply.message for reply in denied), None)
