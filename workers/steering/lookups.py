"""Look-ups by id in Redis: one SMISMEMBER for each set, one MGET for each feature set.

Rules:
- A micro-batch waits for its look-ups no longer than the budget. A thread talks to Redis, and the
  ranking loop waits for a queue. So the budget holds whatever is slow: the client bounds each of
  its reads, but not all of them together, nor the resolving of a name.
- Each micro-batch has a queue of its own for its replies. Replies that come too late are read by
  nobody.
- While late replies are awaited, and for a pause of 0.1 to 1 s after each failure, nothing is
  looked up. So a Redis that does not answer costs one budget a second, not one a micro-batch.
- What is not looked up is skipped. Look-ups that Redis denies are skipped by themselves.
"""

import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Final, NamedTuple, Self

from workers.ranking.lookup import NO_RESULT, LookupQuery, LookupResult, SetKey
from workers.ranking.surface import FEATURES
from workers.steering.connection import (
    TIMEOUT_S,
    Command,
    ErrorReply,
    OnEvent,
    RedisLink,
    RedisLost,
    RedisUse,
)
from workers.steering.keys import Keys

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0
_JOIN_S: Final = 1.0

_Replies = list[object] | RedisLost


class _Lookup(NamedTuple):
    """One command: which of the items a set holds, or (by its name) what a feature set has for
    them. The reply is in the order of `items`.
    """

    target: SetKey | str
    items: Sequence[str]
    command: Command

    @property
    def name(self) -> str:
        """What feeds call this look-up."""
        return FEATURES if isinstance(self.target, str) else self.target.name


class _Request(NamedTuple):
    """Commands for the thread, and the queue that takes their replies."""

    commands: list[Command]
    replies: "SimpleQueue[_Replies]"


class Lookups:
    """Makes the look-ups of one caller. `with` starts and ends its thread.

    `budget_s` bounds each call. `timeout_s` is Redis's: after that long a connection is given up,
    but no caller waits for it. Raises ValueError for a URL or a timeout that cannot be right.

    Log events, each once a change: `lookups_lost`, `lookups_back`, `lookup_denied`,
    `lookup_allowed`.
    """

    def __init__(
        self,
        redis_url: str,
        prefix: str,
        budget_s: float,
        on_event: OnEvent,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._link = RedisLink(redis_url, timeout_s)
        self._keys = Keys(prefix)
        self._budget_s = budget_s
        self._emit = on_event

        self._requests: SimpleQueue[_Request | None] = SimpleQueue()
        self._reconnect = Event()
        self._thread = Thread(
            target=_serve,
            args=(self._link, self._requests, self._reconnect),
            name="lookups",
            daemon=True,
        )

        self._late: SimpleQueue[_Replies] | None = None  # replies that missed their budget
        self._is_lost = False
        self._pause_s = _FIRST_PAUSE_S
        self._paused_until = float("-inf")
        self._denied: dict[str, object] = {}  # name to the target that was denied

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.put(None)
        self._thread.join(_JOIN_S)

    @property
    def redis(self) -> RedisUse:
        """What the connection was used for so far. For any thread."""
        return RedisUse(self._link.calls, self._link.failures)

    def reconnect(self) -> None:
        """Use a new connection from now on. Called by another thread, which knows that Redis may
        have moved.

        The old server may be a replica by now, or cut off. It would answer, and nothing in its
        answers says that they are out of date.
        """
        self._reconnect.set()

    def __call__(self, query: LookupQuery) -> LookupResult:
        """The results that come within the budget.

        | Redis                                   | the result  |
        |-----------------------------------------|-------------|
        | has not answered an earlier query yet   | NO_RESULT   |
        | failed a moment ago: a pause            | NO_RESULT   |
        | is lost, or does not answer in time     | NO_RESULT   |
        | denies a look-up                        | without it  |
        | answers                                 | all of them |
        """
        now = time.monotonic()
        if self._late is not None and not self._late.empty():
            self._late = None
        if self._late is not None or now < self._paused_until:
            return NO_RESULT

        lookups = _lookups_of(query, self._keys)
        replies = self._ask([lookup.command for lookup in lookups], until=now + self._budget_s)
        if isinstance(replies, RedisLost):
            self._note_failure(str(replies))
            return NO_RESULT

        self._note_success()
        for lookup, reply in zip(lookups, replies, strict=True):
            self._note_denial(lookup, reply)

        return _result_of(lookups, replies)

    def _ask(self, commands: list[Command], until: float) -> _Replies:
        """The replies of the thread, or RedisLost at the time `until` (monotonic seconds)."""
        replies: SimpleQueue[_Replies] = SimpleQueue()
        self._requests.put(_Request(commands, replies))
        try:
            return replies.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            self._late = replies
            return RedisLost(f"no answer within {self._budget_s * 1000:g} ms")

    def _note_failure(self, reason: str) -> None:
        self._paused_until = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        if not self._is_lost:
            self._is_lost = True
            self._emit("lookups_lost", redis=self._link.address, error=reason)

    def _note_success(self) -> None:
        self._pause_s = _FIRST_PAUSE_S
        if self._is_lost:
            self._is_lost = False
            self._emit("lookups_back", redis=self._link.address)

    def _note_denial(self, lookup: _Lookup, reply: object) -> None:
        """Log once that a look-up is denied, until the same one is answered again."""
        name = lookup.name
        if isinstance(reply, ErrorReply):
            if name not in self._denied:
                self._denied[name] = lookup.target
                key = lookup.command[1]
                self._emit("lookup_denied", lookup=name, key=key, error=reply.message)

        elif self._denied.get(name) == lookup.target:
            del self._denied[name]
            self._emit("lookup_allowed", lookup=name)


def _lookups_of(query: LookupQuery, keys: Keys) -> list[_Lookup]:
    lookups = list[_Lookup]()
    for set_key, items in query.sets.items():
        key = keys.drop_set(set_key.name, set_key.owner)
        lookups.append(_Lookup(set_key, items, ("SMISMEMBER", key, *items)))

    for feature_set, items in query.features.items():
        item_keys = [keys.features(feature_set, item_id) for item_id in items]
        lookups.append(_Lookup(feature_set, items, ("MGET", *item_keys)))

    return lookups


def _result_of(lookups: Sequence[_Lookup], replies: Sequence[object]) -> LookupResult:
    members: dict[SetKey, frozenset[str]] = {}
    features: dict[str, dict[str, bytes]] = {}
    for (target, items, _), reply in zip(lookups, replies, strict=True):
        if not isinstance(reply, list):
            continue

        replied = zip(items, reply, strict=True)
        if isinstance(target, SetKey):
            members[target] = frozenset(item_id for item_id, is_member in replied if is_member)
        else:
            features[target] = {item: value for item, value in replied if isinstance(value, bytes)}

    return LookupResult(members, features)


def _serve(link: RedisLink, requests: "SimpleQueue[_Request | None]", reconnect: Event) -> None:
    """Answer the requests, one after the other, until None comes. One connection is used as long as
    it lasts and nobody wants a new one.
    """
    request = requests.get()
    while request is not None:
        is_first = True  # over this connection
        reconnect.clear()

        try:
            with link:
                while request is not None and not reconnect.is_set():
                    request.replies.put(link.execute(*request.commands))
                    is_first = False
                    request = requests.get()
        except RedisLost as lost:
            # A connection that was idle may have been closed by Redis: try again over a new one.
            if is_first and request is not None:
                request.replies.put(RedisLost(str(lost)))
                request = requests.get()
