"""What steering says, as structured log events: each state once, not each second.

weights_applied, weights_refused (surface, version, and arm where it is an arm's set),
experiment_applied, experiment_refused, weights_fallback (at start: what a surface stands on that
Redis has nothing for), redis_connected, redis_lost, redis_read_only (the server takes no writes
from anybody: the address is connected to again, until one does), pushes_denied (the poll goes on
alone), status_denied, history_denied (changes by hand are not recorded), last_good_ignored,
last_good_unwritable, steering_failed (a bug: a thread has ended).

Look-ups say lookups_lost and lookups_back, lookup_denied and lookup_allowed (one of them by
itself).

One connection to Redis; the only place that knows the client library.

RESP3 (Redis 6 and later), so that pushes come on the connection that asks and tracking lives and
dies with it. No wait for the server is longer than the timeout and nothing is retried: what is lost
is closed, its owner opens it again, and the address is then resolved again.

What the server says of itself may mean that it is the wrong one, after a fail-over that has kept
this connection:

| Reply, by itself, from a script or from EXEC | What `execute` makes of it |
|---|---|
| MASTERDOWN, LOADING, UNBLOCKED | `WrongServer`: there is nothing to be read here, the connection is closed |
| READONLY, NOREPLICAS, MOVED, CLUSTERDOWN | `UnwritableReply` as the reply: what was read beside it is sound |
| any other error | `ErrorReply` as the reply: this server is the right one |
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, parse_url
from redis.exceptions import BusyLoadingError, NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry

from workers.steering.redis_url import (
    MOST_SECONDS,
    Timeouts,
    UrlRefused,
    check_url,
    shown,
    timeouts_of,
)


class OnEvent(Protocol):
    """Takes one log event by name with its fields, as structlog's `log.info` does; called from
    several threads.
    """

    def __call__(self, event: str, /, **fields: object) -> None: ...


class Events:
    """Emits log events. A problem that lasts is emitted once, not each second."""

    def __init__(self, on_event: OnEvent) -> None:
        self.emit = on_event
        self._last_reasons: dict[str, str | None] = {}

    def emit_if_new(self, event: str, reason: str | None) -> None:
        """Emit `event` if its reason differs from the last one. None: the problem is over."""
        if reason is not None and reason != self._last_reasons.get(event):
            self.emit(event, reason=reason)
        self._last_reasons[event] = reason


TIMEOUT_S: Final = 1.0
"""For the first byte of a reply, and for a connection: a round trip around the world and a packet
that TCP repeats.
"""
_MOST_PUSHES = 1000  # taken in at once
_MOST_SENT = 65_536  # bytes at once: what is larger is sent in pieces, each within the timeout
_TLS_ROUND_TRIPS = 3  # a handshake has one timeout for all of them
Command = tuple[str | bytes | int, ...]

_WRONG_SERVER = re.compile(
    r"(?:EXECABORT Transaction discarded because of: -?|ERR Error running script .*: -)?"
    r"(?P<said>(?:(?P<unreadable>MASTERDOWN|LOADING|UNBLOCKED)|READONLY|NOREPLICAS|MOVED|CLUSTERDOWN)\b.*?)\s*"
    r"(?: script: \w+, on @\w+:\d+\.?)?",
    re.DOTALL,
)
_PUSH = object()
_options_of: Callable[[str], dict[str, Any]] = parse_url


class RedisLost(Exception):
    """The connection cannot be made or is of no further use; the message says why and holds no
    password.
    """


class WrongServer(RedisLost):
    """The server answers that nothing is to be read here: a replica without its master, or one that
    still loads.
    """


@dataclass(frozen=True)
class ErrorReply:
    """Redis's own error as the reply to one command, such as WRONGTYPE; the connection is sound."""

    message: str


class UnwritableReply(ErrorReply):
    """The server takes no write: it is a replica by now, or a master that is cut off. Its address
    may lead elsewhere.

    The message begins with the code, such as READONLY, also if a script met it.
    """


_NO_SCRIPT = ErrorReply("NOSCRIPT: Redis has forgotten a script as soon as it had it")


class Script(str):
    """A Lua script as EVALSHA names it, by the SHA-1 of its text: `execute` loads it where Redis does
    not know it.
    """

    text: str

    def __new__(cls, text: str) -> Self:
        script = super().__new__(
            cls, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        )
        script.text = text
        return script


class RedisLink:
    """One connection to the Redis of a redis://, rediss:// (TLS) or unix:// URL; `with` opens and
    closes it.

    The URL gives user, password, database, timeouts and the client's options; `timeout_s` is for a
    URL that gives no timeout. Retries stay as they are here. Raises ValueError for a URL or a
    timeout that cannot be right; entering and every method raise RedisLost, then it is closed.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        if not 0 < timeout_s <= MOST_SECONDS:
            most_ms = round(MOST_SECONDS * 1000)
            raise ValueError(
                f"redis_timeout_ms: got {timeout_s * 1000:g}, expected above 0, {most_ms} at most"
            )
        url = url.strip()
        check_url(url)
        self.address = shown(url)
        self.timeouts = timeouts_of(url, timeout_s)
        try:
            self._connection = _connection(url, self.timeouts)
        except (ValueError, TypeError, RedisError):
            # The client's own message may quote a piece of the password.
            raise UrlRefused(url, "with a port or an option that is not right") from None
        self._pushed: set[bytes | None] = set()
        # Without it the client reads pushes recursively: a thousand of them before a reply end in
        # RecursionError.
        self._connection._parser.set_invalidation_push_handler(self._take_push)

    def __enter__(self) -> Self:
        with self._lost_on_error():
            self._connection.connect()
        self._pushed = set()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.disconnect()

    def execute(self, *commands: Command) -> list[object]:
        """Send the commands in one round trip; one reply each, an error being an `ErrorReply`. Raises
        WrongServer.

        Those whose script Redis does not know are given again, after the script and after all the
        others.
        """
        with self._lost_on_error():
            replies = self._exchange(commands)
            again = [place for place, reply in enumerate(replies) if reply is _NO_SCRIPT]
            if again:
                named = {
                    word for place in again for word in commands[place] if isinstance(word, Script)
                }
                loads = [("SCRIPT", "LOAD", script.text) for script in named]
                found = self._exchange([*loads, *(commands[place] for place in again)])
                denied = next(
                    (reply for reply in found[: len(loads)] if isinstance(reply, ErrorReply)), None
                )
                for place, reply in zip(again, found[len(loads) :], strict=True):
                    replies[place] = denied or reply
            return replies

    def pushed_keys(self, timeout_s: float) -> set[bytes | None]:
        """The keys that were pushed since the last call, None for all keys; waits for the first at
        most `timeout_s`.

        What was pushed while commands were on their way may be older than their replies, or newer:
        it is news.
        """
        with self._lost_on_error():
            for _ in range(_MOST_PUSHES):
                if not self._connection.can_read(0 if self._pushed else timeout_s):
                    break
                if self._connection.read_response(push_request=True) is not _PUSH:
                    raise ValueError("a reply to no command")
        news, self._pushed = self._pushed, set()
        return news

    def _exchange(self, commands: Sequence[Command]) -> list[object]:
        packed = self._connection.pack_commands(commands)
        pieces = [
            chunk[at : at + _MOST_SENT]
            for chunk in packed
            for at in range(0, len(chunk), _MOST_SENT)
        ]
        self._connection.send_packed_command(pieces, check_health=False)
        return [self._reply() for _ in commands]

    def _reply(self) -> object:
        while True:
            try:
                reply = self._connection.read_response(push_request=True)
            except NoScriptError:
                return _NO_SCRIPT
            except ResponseError as error:
                return _denial(error)
            if reply is not _PUSH:
                return _with_denials(reply)

    def _take_push(self, push: Sequence[Any]) -> object:
        _, keys = push
        self._pushed |= {None} if keys is None else set(keys)
        return _PUSH

    @contextmanager
    def _lost_on_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # A server that speaks another protocol shows as ValueError, AttributeError...: all mean
            # the same here.
            self._connection.disconnect()
            _forget_frames(error)
            if isinstance(error, WrongServer):
                raise WrongServer(str(error)) from None
            if isinstance(error, BusyLoadingError):
                raise WrongServer(f"LOADING {error}") from None
            if isinstance(error, RedisTimeout):
                limits = f"{self.timeouts.connect_s:g} s to connect, {self.timeouts.answer_s:g} s to answer"
                raise RedisLost(f"{error} (redis_timeout_ms: {limits})") from error
            raise RedisLost(str(error) or repr(error)) from error


def as_transaction(*commands: Command) -> tuple[Command, ...]:
    """The commands so that they see one instant; `transaction_replies` unwraps the replies."""
    return (("MULTI",), *commands, ("EXEC",))


def transaction_replies(replies: Sequence[object]) -> list[object] | None:
    """The replies to the commands; for a user who may not MULTI, they were given one after the
    other.

    None where Redis has refused to run any, since it denies one of them: ask for each by itself.
    """
    allowed, *single, executed = replies
    if isinstance(executed, list):
        return executed
    return single if isinstance(allowed, ErrorReply) else None


def _with_denials(reply: object) -> object:
    """A transaction's reply has errors among its elements."""
    if not isinstance(reply, list):
        return reply
    return [_denial(one) if isinstance(one, RedisError) else one for one in reply]


def _denial(error: RedisError) -> ErrorReply:
    """What an error says of its command. Raises WrongServer for what it says of the server."""
    # The client has taken the code off the messages of the errors that it knows.
    message = f"{error.status_code} {error}" if error.status_code else str(error)
    found = _WRONG_SERVER.fullmatch(message)
    if found is None:
        return ErrorReply(str(error))
    if found["unreadable"]:
        raise WrongServer(found["said"])
    return UnwritableReply(found["said"])


class _TlsConnection(SSLConnection):
    """The client's, with time for all round trips of a handshake: Python bounds them together."""

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        timeout_s = sock.gettimeout()
        sock.settimeout(_TLS_ROUND_TRIPS * timeout_s)
        secure: Any = super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]  # typed so by the client
        secure.settimeout(timeout_s)
        return secure


def _connection(url: str, timeouts: Timeouts) -> Any:
    options = (
        _options_of(url)
        | {
            "socket_connect_timeout": timeouts.connect_s,
            "socket_timeout": timeouts.answer_s,
            "retry": Retry(
                NoBackoff(), 0
            ),  # the client's own default repeats a lost call for up to a minute
            "retry_on_timeout": False,
            "retry_on_error": [],
            "health_check_interval": 0,
            "encoding": "utf-8",  # an error of another one would show a letter of the password
            "decode_responses": False,
            "protocol": 3,
            "driver_info": None,  # two round trips and, for a user with few rights, two entries in the ACL log
        }
    )
    kind = options.pop("connection_class", Connection)
    return _TlsConnection(**options) if kind is SSLConnection else kind(**options)


def _forget_frames(error: BaseException | None) -> None:
    """Break the client's cycles of exceptions and frames: a worker runs without the cyclic garbage
    collector.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__context__
