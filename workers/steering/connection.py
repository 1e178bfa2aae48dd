"""One connection to Redis, and the log events about it. The only module that knows the client
library.

Rules:
- RESP3 (Redis 6 and later): pushes come over the connection that asks, and tracking ends with it.
- No wait for the server is longer than its timeout, and nothing is retried. A connection with an
  error is closed. Its owner opens it again, and the address is then resolved again.
- An error reply belongs to one command. The others in the same round trip are good.

After a fail-over that has kept this connection, an error reply may mean that this is the wrong
server:

| Reply, by itself, from a script or from EXEC | What `execute` does |
|---|---|
| MASTERDOWN, LOADING, UNBLOCKED | raises `WrongServer` and closes: nothing can be read |
| READONLY, NOREPLICAS, MOVED, CLUSTERDOWN | returns `UnwritableReply`: reads beside it are good |
| any other error | returns `ErrorReply`: this server is the right one |

The log events of steering:

| Event | Fields, and when |
|---|---|
| weights_applied, weights_refused | surface, version; arm if it is that of an arm |
| models_applied, models_refused | surface; arm if it is that of an arm |
| experiment_applied, experiment_refused | surface |
| weights_fallback | at the start: weights that are not from Redis, because it has none |
| redis_connected, redis_lost | once for each connection, and each new reason |
| redis_read_only | the server takes no writes from anybody: we connect again until one does |
| pushes_denied | the worker sees changes only by its poll |
| status_denied | the status cannot be written |
| history_denied | changes made by hand cannot be recorded |
| last_good_ignored, last_good_unwritable | a file on the worker's disk |
| steering_failed | a thread has ended by an error of ours |
| lookups_lost, lookups_back | look-ups are not answered, and are answered again |
| lookup_denied, lookup_allowed | the same for one look-up |
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, Self

from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, parse_url
from redis.exceptions import BusyLoadingError, NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry

from workers.steering.redis_url import (
    MAX_SECONDS,
    Timeouts,
    UrlRefused,
    check_url,
    printable_url,
    timeouts_of,
)

TIMEOUT_S: Final = 1.0
"""For a connection, and for the first byte of a reply: a round trip around the world and a packet
that TCP repeats.
"""
_MAX_PUSHES: Final = 1000  # taken in at once
_MAX_SENT: Final = 65_536  # bytes at once: larger commands go in pieces, each within the timeout
_TLS_ROUND_TRIPS: Final = 3  # a handshake has one timeout for all of them

Command = tuple[str | bytes | int, ...]

_SERVER_STATE = re.compile(
    r"(?:EXECABORT Transaction discarded because of: -?|ERR Error running script .*: -)?"
    r"(?P<message>(?:(?P<unreadable>MASTERDOWN|LOADING|UNBLOCKED)"
    r"|READONLY|NOREPLICAS|MOVED|CLUSTERDOWN)\b.*?)\s*"
    r"(?: script: \w+, on @\w+:\d+\.?)?",
    re.DOTALL,
)
_PUSH: Final = object()
_options_of: Callable[[str], dict[str, Any]] = parse_url


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


class RedisLost(Exception):
    """The connection cannot be made, or is of no further use. The message says why and holds no
    password.
    """


class WrongServer(RedisLost):
    """The server answers that nothing can be read: it is a replica without its master, or it still
    loads.
    """


class RedisUse(NamedTuple):
    """How many round trips were made, and how often the connection could not be made or failed."""

    calls: int
    failures: int


@dataclass(frozen=True)
class ErrorReply:
    """Redis's error as the reply to one command, such as WRONGTYPE. The connection is good."""

    message: str


class UnwritableReply(ErrorReply):
    """The server takes no writes: it has become a replica, or is a master that is cut off. The
    master may be found by resolving the address again.

    The message begins with the code, such as READONLY, also if a script met it.
    """


_NO_SCRIPT = ErrorReply("NOSCRIPT: Redis has forgotten a script as soon as it had it")


class Script(str):
    """A Lua script as EVALSHA names it: by the SHA-1 of its text. `execute` loads it if Redis does
    not know it.
    """

    text: str

    def __new__(cls, text: str) -> Self:
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        script = super().__new__(cls, digest)
        script.text = text
        return script


class RedisLink:
    """One connection to the Redis of a redis://, rediss:// (TLS) or unix:// URL. `with` opens and
    closes it.

    The URL gives user, password, database, timeouts and the client's options. `timeout_s` is for a
    URL that gives no timeout. Raises ValueError for a URL or a timeout that cannot be right.
    Entering it and every method raise RedisLost. Then it is closed, and can be entered again.
    `calls` counts round trips, `failures` how often RedisLost was raised.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        if not 0 < timeout_s <= MAX_SECONDS:
            max_ms = round(MAX_SECONDS * 1000)
            raise ValueError(
                f"redis_timeout_ms: got {timeout_s * 1000:g}, expected above 0, {max_ms} at most"
            )

        url = url.strip()
        check_url(url)
        self.address = printable_url(url)
        self.timeouts = timeouts_of(url, timeout_s)

        try:
            self._connection = _connection(url, self.timeouts)
        except (ValueError, TypeError, RedisError):
            # The client's own message may quote a piece of the password.
            raise UrlRefused(url, "with a port or an option that is not valid") from None

        self.calls = 0
        self.failures = 0
        self._pushed: set[bytes | None] = set()
        # Without a handler the client reads pushes recursively: a thousand of them before a reply
        # end in RecursionError.
        self._connection._parser.set_invalidation_push_handler(self._take_push)

    def __enter__(self) -> Self:
        with self._closed_on_error():
            self._connection.connect()
        self._pushed = set()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.disconnect()

    def execute(self, *commands: Command) -> list[object]:
        """Send the commands in one round trip. Returns a reply for each, `ErrorReply` for an error.

        If Redis does not know a script, the script is loaded and its commands are sent again, after
        all the others. Raises WrongServer, beside RedisLost.
        """
        self.calls += 1
        with self._closed_on_error():
            replies = self._exchange(commands)
            again = [index for index, reply in enumerate(replies) if reply is _NO_SCRIPT]
            if again:
                for index, reply in self._load_and_repeat(commands, again):
                    replies[index] = reply
            return replies

    def pushed_keys(self, timeout_s: float) -> set[bytes | None]:
        """The keys that were pushed since the last call, None for all keys. Waits for the first one
        at most `timeout_s`.

        A push that came while commands were on their way may be older than their replies, or newer.
        So it counts.
        """
        with self._closed_on_error():
            for _ in range(_MAX_PUSHES):
                if not self._connection.can_read(0 if self._pushed else timeout_s):
                    break
                if self._connection.read_response(push_request=True) is not _PUSH:
                    raise ValueError("a reply to no command")

        pushed = self._pushed
        self._pushed = set()
        return pushed

    def _exchange(self, commands: Sequence[Command]) -> list[object]:
        pieces = list[bytes]()
        for chunk in self._connection.pack_commands(commands):
            for start in range(0, len(chunk), _MAX_SENT):
                pieces.append(chunk[start : start + _MAX_SENT])

        self._connection.send_packed_command(pieces, check_health=False)
        return [self._read_reply() for _ in commands]

    def _load_and_repeat(
        self, commands: Sequence[Command], again: Sequence[int]
    ) -> Iterator[tuple[int, object]]:
        """Load the scripts of the commands at these indexes, and send these commands again. Gives
        the new reply of each: the error, if a script could not be loaded.
        """
        scripts = set[Script]()
        for index in again:
            scripts |= {word for word in commands[index] if isinstance(word, Script)}
        loads: list[Command] = [("SCRIPT", "LOAD", script.text) for script in scripts]
        replies = self._exchange([*loads, *(commands[index] for index in again)])

        load_error = None
        for reply in replies[: len(loads)]:
            if isinstance(reply, ErrorReply):
                load_error = reply
                break

        for index, reply in zip(again, replies[len(loads) :], strict=True):
            yield index, load_error or reply

    def _read_reply(self) -> object:
        while True:
            try:
                reply = self._connection.read_response(push_request=True)
            except NoScriptError:
                return _NO_SCRIPT
            except ResponseError as error:
                return _error_reply(error)

            if reply is _PUSH:
                continue
            if isinstance(reply, list):
                # The reply of a transaction may have errors among its elements.
                return [_error_reply(one) if isinstance(one, RedisError) else one for one in reply]
            return reply

    def _take_push(self, push: Sequence[Any]) -> object:
        _, keys = push
        self._pushed |= {None} if keys is None else set(keys)
        return _PUSH

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # A peer that speaks another protocol shows as ValueError, AttributeError...: all of
            # them mean that the connection is of no use.
            self.failures += 1
            self._connection.disconnect()
            _forget_frames(error)

            if isinstance(error, WrongServer):
                raise WrongServer(str(error)) from None
            if isinstance(error, BusyLoadingError):
                raise WrongServer(f"LOADING {error}") from None
            if isinstance(error, RedisTimeout):
                connect_s, answer_s = self.timeouts
                limits = f"{connect_s:g} s to connect, {answer_s:g} s to answer"
                raise RedisLost(f"{error} (redis_timeout_ms: {limits})") from error
            raise RedisLost(str(error) or repr(error)) from error


def as_transaction(*commands: Command) -> tuple[Command, ...]:
    """The commands so that they see one instant; `transaction_replies` unwraps the replies."""
    return (("MULTI",), *commands, ("EXEC",))


def transaction_replies(replies: Sequence[object]) -> list[object] | None:
    """The replies to the commands of a transaction. For a user who must not MULTI, they are those
    of the commands one after the other.

    None if Redis has run none of the commands because it denies one of them. Then each has to be
    sent by itself.
    """
    multi, *single, executed = replies
    if isinstance(executed, list):
        return executed
    return single if isinstance(multi, ErrorReply) else None


def _error_reply(error: RedisError) -> ErrorReply:
    """What an error says about its command. Raises WrongServer for one that says that nothing can
    be read.
    """
    # The client has taken the code off the messages of the errors that it knows.
    message = f"{error.status_code} {error}" if error.status_code else str(error)
    server_state = _SERVER_STATE.fullmatch(message)
    if server_state is None:
        return ErrorReply(str(error))
    if server_state["unreadable"]:
        raise WrongServer(server_state["message"])
    return UnwritableReply(server_state["message"])


class _TlsConnection(SSLConnection):
    """The client's, with time for all round trips of a handshake: it has one timeout."""

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        timeout_s = sock.gettimeout()
        sock.settimeout(_TLS_ROUND_TRIPS * timeout_s)
        # The client has no types there.
        secure: Any = super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
        secure.settimeout(timeout_s)
        return secure


def _connection(url: str, timeouts: Timeouts) -> Any:
    options = _options_of(url) | {
        "socket_connect_timeout": timeouts.connect_s,
        "socket_timeout": timeouts.answer_s,
        # The client's default repeats a lost call for up to a minute.
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,
        # An error of another encoding would show a letter of the password.
        "encoding": "utf-8",
        "decode_responses": False,
        "protocol": 3,
        # It costs two round trips and, for a user with few rights, two entries in the ACL log.
        "driver_info": None,
    }
    connection_class = options.pop("connection_class", Connection)
    if connection_class is SSLConnection:
        connection_class = _TlsConnection
    return connection_class(**options)


def _forget_frames(error: BaseException | None) -> None:
    """Break the client's cycles of exceptions and frames: a worker runs without the cyclic garbage
    collector.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__context__
