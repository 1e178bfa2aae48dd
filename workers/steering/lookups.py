"""Look-ups as commands for Redis, and its replies as answers: one SMISMEMBER a set, one MGET a
feature set.

Look-ups by id: a thread asks Redis, and the ranking loop waits for it no longer than its budget.

The client bounds each of its reads, but not all of them together, nor the resolving of a name: with
a thread between, the budget is kept whatever is slow. Each micro-batch has a place of its own for
its replies, so that those that come too late are nobody's answer. Until they have come, and for a
pause after each failure, nothing is asked: a Redis that does not answer costs a budget a second,
not one a micro-batch.
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
)
from workers.steering.keys import Keys


class Question(NamedTuple):
    """One command, about a set or (a string) about a feature set; its reply is in the order of
    `items`.
    """

    about: SetKey | str
    items: Sequence[str]
    command: Command

    @property
    def name(self) -> str:
        """What feeds call this look-up."""
        return FEATURES if isinstance(self.about, str) else self.about.name


def written(questions: LookupQuery, keys: Keys) -> list[Question]:
    """The commands that ask all of it."""
    asked = [_about_set(one, items, keys) for one, items in questions.sets.items()]
    return asked + [
        _about_features(name, items, keys) for name, items in questions.features.items()
    ]


def _about_set(one: SetKey, items: Sequence[str], keys: Keys) -> Question:
    return Question(one, items, ("SMISMEMBER", keys.drop_set(one.name, one.owner), *items))


def _about_features(name: str, items: Sequence[str], keys: Keys) -> Question:
    return Question(name, items, ("MGET", *[keys.features(name, item_id) for item_id in items]))


def read(asked: Sequence[Question], replies: Sequence[object]) -> LookupResult:
    """What the replies say; a question that Redis has denied has no answer."""
    held: dict[SetKey, frozenset[str]] = {}
    found: dict[str, dict[str, bytes]] = {}
    for (about, items, _), reply in zip(asked, replies, strict=True):
        if not isinstance(reply, list):
            continue
        pairs = zip(items, reply, strict=True)
        if isinstance(about, SetKey):
            held[about] = frozenset(item_id for item_id, there in pairs if there)
        else:
            found[about] = {item_id: value for item_id, value in pairs if isinstance(value, bytes)}
    return LookupResult(held, found)


_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0
_LEAVE_S: Final = 1.0

Replies = list[object] | RedisLost


class _Asked(NamedTuple):
    commands: list[Command]
    replies: "SimpleQueue[Replies]"


class Lookups:
    """Answers the questions of one caller; `with` starts and ends its thread.

    `timeout_s` is Redis's, which no caller waits for: it says after how long a connection is given
    up. Raises ValueError for a URL or a timeout that cannot be right.

    Events: `lookups_lost` and `lookups_back`, `lookup_denied` and `lookup_allowed`, each once a
    change.
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
        self._keys, self._budget_s, self._say = Keys(prefix), budget_s, on_event
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._moved = Event()
        self._thread = Thread(
            target=_serve, args=(self._link, self._asked, self._moved), name="lookups", daemon=True
        )
        self._late: SimpleQueue[Replies] | None = None
        self._lost = False
        self._pause_s, self._again = _FIRST_PAUSE_S, float("-inf")
        self._denied: dict[str, object] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._asked.put(None)
        self._thread.join(_LEAVE_S)

    def reconnect(self) -> None:
        """Ask over a new connection from now on; called from another thread, which knows that Redis
        may have moved.

        The old server may be a replica by now, or cut off: it would answer, and nothing says that
        it is behind.
        """
        self._moved.set()

    def __call__(self, questions: LookupQuery) -> LookupResult:
        """The answers that come within the budget; none where Redis is away, slow, or was so a
        moment ago.
        """
        now = time.monotonic()
        if self._is_busy() or now < self._again:
            return NO_RESULT
        asked = written(questions, self._keys)
        replies = self._ask([question.command for question in asked], now + self._budget_s)
        if isinstance(replies, RedisLost):
            self._note_failure(str(replies))
            return NO_RESULT
        self._note_success()
        for question, reply in zip(asked, replies, strict=True):
            self._note(question, reply)
        return read(asked, replies)

    def _is_busy(self) -> bool:
        """Whether replies that came too late are still awaited."""
        if self._late is not None and not self._late.empty():
            self._late = None
        return self._late is not None

    def _ask(self, commands: list[Command], until: float) -> Replies:
        place: SimpleQueue[Replies] = SimpleQueue()
        self._asked.put(_Asked(commands, place))
        try:
            return place.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            self._late = place
            return RedisLost(f"no answer within {self._budget_s * 1000:g} ms")

    def _note_failure(self, why: str) -> None:
        self._again = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        if not self._lost:
            self._lost = True
            self._say("lookups_lost", redis=self._link.address, error=why)

    def _note_success(self) -> None:
        self._pause_s = _FIRST_PAUSE_S
        if self._lost:
            self._lost = False
            self._say("lookups_back", redis=self._link.address)

    def _note(self, question: Question, reply: object) -> None:
        """Say once that a look-up is denied, until the same question is answered again."""
        if isinstance(reply, ErrorReply):
            if question.name not in self._denied:
                self._denied[question.name] = question.about
                self._say(
                    "lookup_denied",
                    lookup=question.name,
                    key=question.command[1],
                    error=reply.message,
                )
        elif self._denied.get(question.name) == question.about:
            del self._denied[question.name]
            self._say("lookup_allowed", lookup=question.name)


def _serve(link: RedisLink, questions: "SimpleQueue[_Asked | None]", moved: Event) -> None:
    """Answer what is asked, one after the other, over one connection as long as it lasts and Redis
    has not moved.
    """
    asked = questions.get()
    while asked is not None:
        fresh = True
        moved.clear()
        try:
            with link:
                while asked is not None and not moved.is_set():
                    asked.replies.put(link.execute(*asked.commands))
                    asked, fresh = questions.get(), False
        except RedisLost as lost:
            # One that stood idle may have been closed meanwhile: ask anew over another.
            if fresh and asked is not None:
                asked.replies.put(RedisLost(str(lost)))
                asked = questions.get()
