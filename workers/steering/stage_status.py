"""The status of the stages of outcomes, `join` and `users`: written by each of their processes, read
by `trimtab status`.

Rules:
- The stage does not need Redis. A thread of its own writes, so nothing waits for Redis. While Redis
  is away, that is logged once, and the thread tries again each second.
- A status expires. A process that has ended well deletes it, and its id. The id of one that has
  crashed, was killed or ended with an error stays for a day, so that it is missed.
- Redis holds the ids of the processes in a sorted set, because nobody may list keys.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Self

import msgspec

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
)
from workers.steering.keys import Keys
from workers.steering.status import PartitionStatus

_EVERY_S: Final = 1.0
_EXPIRY_MS: Final = 10_000
_FORGET_AFTER_MS: Final = 86_400_000  # the id of a process that died is dropped after a day
_JOIN_S: Final = 1.0
_LATEST_MS: Final = 253_402_300_799_000.0  # the end of the year 9999


class StageReport(msgspec.Struct, frozen=True):
    """What a process says of itself, each second.

    - `partitions`: those that it reads. `lag`: records still to be read of each, if known.
    - `partition_states`: what it does with each, for how long, and why.
    - `closed_until`: the time (ms) before which everything is counted, in all of its partitions of
      which that is known. None if it is known of none.
    - `waiting_for`: what it waits for before it goes on, for people. None: it works.
    - `failing`: what is wrong until somebody acts, for people. None: nothing is.
    - `counts`: what it has counted since it started.
    """

    partitions: tuple[int, ...] = ()
    lag: Mapping[int, int] = {}
    partition_states: Mapping[int, PartitionStatus] = {}
    closed_until: int | None = None
    waiting_for: str | None = None
    failing: str | None = None
    counts: Mapping[str, int] = {}


class StageStatus(msgspec.Struct, frozen=True):
    """The whole status of a process.

    - `stage`: `join` or `users`. `process`: its id in the stage.
    - `at`: milliseconds since the epoch, by the process's clock. `since`: when it started.
    - `expiry_ms`: after this time Redis drops the status.
    - `version`: that of the program.
    """

    stage: str
    process: str
    at: int
    since: int
    expiry_ms: int
    version: str
    report: StageReport


class StageProcess(NamedTuple):
    """A process of a stage.

    | `status` | `unreadable` | `gone_since` |                                                   |
    |----------|--------------|--------------|---------------------------------------------------|
    | its own  | None         | None         | it lives                                          |
    | None     | why          | None         | it lives, and its status cannot be read           |
    | None     | None         | a time       | it has not ended well, and its status has expired |

    `age_ms`: milliseconds by Redis's clock since the status was written; None if it never expires.
    `gone_since`: when it last wrote, in ms since the epoch, by its own clock.
    """

    stage: str
    process: str
    status: StageStatus | None
    age_ms: int | None = None
    unreadable: str | None = None
    gone_since: int | None = None


class Stages(NamedTuple):
    """The processes that live or are missed, by stage and id. `denied` is what Redis says if it does
    not let us read them.
    """

    processes: list[StageProcess]
    denied: str | None = None

    def without_process(self) -> list[str]:
        """The stages of which processes are missed and none lives."""
        missed = {each.stage for each in self.processes if each.gone_since is not None}
        living = {each.stage for each in self.processes if each.gone_since is None}
        return sorted(missed - living)


def read_stages(link: RedisLink, keys: Keys) -> Stages:
    """Read all statuses, in two round trips. Raises RedisLost."""
    (ids,) = link.execute(("ZRANGE", keys.live_stages, 0, -1, "WITHSCORES"))
    if not isinstance(ids, list):
        return Stages([], ids.message if isinstance(ids, ErrorReply) else repr(ids))

    written_at: dict[tuple[str, str], int] = {}
    for raw, score in ids:
        stage, _, process = raw.decode("utf-8", "replace").partition(":")
        written_at[stage, process] = round(min(max(0.0, score), _LATEST_MS))
    if not written_at:
        return Stages([])

    names = sorted(written_at)
    commands: list[Command] = []
    for stage, process in names:
        key = keys.stage_status(stage, process)
        commands += [("GET", key), ("PTTL", key)]
    replies = link.execute(*commands)

    processes = list[StageProcess]()
    for (stage, process), text, ttl_ms in zip(names, replies[::2], replies[1::2], strict=True):
        if text is None:
            gone_since = written_at[stage, process]
            processes.append(StageProcess(stage, process, None, gone_since=gone_since))
        else:
            processes.append(_living(stage, process, text, ttl_ms))
    return Stages(processes)


def _living(stage: str, process: str, text: object, ttl_ms: object) -> StageProcess:
    if not isinstance(text, bytes):
        got = text.message if isinstance(text, ErrorReply) else repr(text)
        unreadable = f"Redis answers {got!r}, expected a string"
        return StageProcess(stage, process, None, unreadable=unreadable)
    try:
        status = msgspec.json.decode(text, type=StageStatus)
    except (msgspec.MsgspecError, RecursionError) as error:
        return StageProcess(stage, process, None, unreadable=str(error))

    age_ms = None
    if isinstance(ttl_ms, int) and ttl_ms >= 0:
        age_ms = max(0, status.expiry_ms - ttl_ms)
    return StageProcess(stage, process, status, age_ms)


class StageStatusWriter:
    """Writes the status of this process each second, in a thread, while its block runs.

    - `process`: the id of this process in its stage, for instance host and slot.
    - `report`: called in the thread. It must neither block nor raise.
    - `now`: milliseconds since the epoch.

    Log events: `redis_connected`, `redis_lost`, `redis_read_only`, `status_denied`, each once for
    each new reason, and `steering_failed` if the thread has ended by an error of ours. Raises
    ValueError for a URL or a timeout that cannot be right.
    """

    def __init__(
        self,
        redis_url: str,
        prefix: str,
        on_event: OnEvent,
        *,
        stage: str,
        process: str,
        version: str,
        report: Callable[[], StageReport],
        timeout_s: float = TIMEOUT_S,
        every_s: float = _EVERY_S,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._link = RedisLink(redis_url, timeout_s)
        self._keys = Keys(prefix)
        self._events = Events(on_event)
        self._stage = stage
        self._process = process
        self._version = version
        self._report = report
        self._every_s = every_s
        self._now = now
        self._since = now()
        self._is_connected = False
        self._written_at = float("-inf")
        self._is_missed = False

        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stage-status", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object
    ) -> None:
        """Delete the status, unless the block has failed. Returns after a second at the latest, or two
        round trips if Redis is far away.
        """
        self._is_missed = self._is_missed or error is not None
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(max(_JOIN_S, 2 * max(self._link.timeouts)))

    def ends_with(self, exit_code: int) -> None:
        """The process ends with this code. If that is an error, it is to be missed."""
        self._is_missed = exit_code != 0

    @property
    def redis(self) -> RedisUse:
        """What the connection was used for so far. For any thread."""
        return RedisUse(self._link.calls, self._link.failures)

    @property
    def is_in_touch(self) -> bool:
        """Whether Redis has answered in the last three writes, or within its timeout. For any
        thread.
        """
        age = time.monotonic() - self._written_at
        return age < max(3 * self._every_s, 2 * max(self._link.timeouts))

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._connect_and_write()
                self._stopping.wait(self._every_s)
        except BaseException as error:
            self._events.emit("steering_failed", error=repr(error))
            raise

    def _connect_and_write(self) -> None:
        """Write until stopped, until the connection is lost, or until the server takes no writes:
        its address may lead to another one by now.
        """
        try:
            with self._link:
                while self._write():
                    if self._stopping.wait(self._every_s):
                        if self._is_missed:
                            return
                        self._link.execute(
                            ("DEL", self._keys.stage_status(self._stage, self._process)),
                            ("ZREM", self._keys.live_stages, self._member),
                        )
                        return
        except RedisLost as lost:
            self._is_connected = False
            self._events.emit_if_new("redis_lost", str(lost))

    def _write(self) -> bool:
        """Write the status once. False if this server takes no writes."""
        now = self._now()
        status = StageStatus(
            stage=self._stage,
            process=self._process,
            at=now,
            since=self._since,
            expiry_ms=_EXPIRY_MS,
            version=self._version,
            report=self._report(),
        )
        text = msgspec.json.encode(status)
        replies = self._link.execute(
            ("SET", self._keys.stage_status(self._stage, self._process), text, "PX", _EXPIRY_MS),
            ("ZADD", self._keys.live_stages, now, self._member),
            ("ZREMRANGEBYSCORE", self._keys.live_stages, "-inf", now - _FORGET_AFTER_MS),
        )
        self._written_at = time.monotonic()
        self._events.emit_if_new("redis_lost", None)

        refusal = next((reply for reply in replies if isinstance(reply, ErrorReply)), None)
        if isinstance(refusal, UnwritableReply):
            self._events.emit_if_new("redis_read_only", refusal.message)
            return False

        self._events.emit_if_new("redis_read_only", None)
        self._events.emit_if_new("status_denied", None if refusal is None else refusal.message)
        if not self._is_connected:
            self._is_connected = True
            self._events.emit("redis_connected", address=self._link.address)
        return True

    @property
    def _member(self) -> str:
        return f"{self._stage}:{self._process}"
