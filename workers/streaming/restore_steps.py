"""The steps of which a restore is made: ask the broker, and read a log, without waiting.

Each step is a generator. It yields while it waits, and returns its result with `yield from`. So one
thread runs the restores of many partitions side by side (restore.py).

Rules:
- A step never gives up by itself. If the broker is away, an offset is undecided or a right is
  missing, it says in `waits_for` what it waits for, logs that once, and tries again after a pause.
- Committed offsets are asked of a consumer that never joins the group, on a thread of its own. An
  admin client that is asked about a group ends the process by an assertion if the coordinator goes
  away meanwhile (librdkafka 2.16, see its #5397).
- A client that did not answer is given up, and the next request goes to a new one. After a broker's
  crash a client may wait for its coordinator for ever (seen on librdkafka 2.16).
"""

import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from workers.log import log
from workers.streaming.clients import Cluster
from workers.streaming.hanging_calls import CallThread
from workers.streaming.log_reader import (
    SECONDS,
    LogReader,
    ReadError,
    ReadEvent,
    Watermarks,
    ask_earliest,
    ask_latest,
)
from workers.streaming.reachability import BrokerReachability
from workers.streaming.records import Record
from workers.streaming.rights import denied_resource

T = TypeVar("T")
Step = Generator[None, None, T]

_RETRY_SECONDS = 0.25
_GRACE_SECONDS = 2.0
"""How much longer an answer is waited for than the client waits for the broker."""
_METADATA_SECONDS = 1.0
_UNREADABLE_SECONDS = 10.0


class RestoreSteps:
    """The steps for the partitions of one group. `poll` must be called once a turn: it fetches for
    all `read_log` steps together.

    `waits_for`: by partition, what its restore waits for, for people.
    """

    def __init__(self, cluster: Cluster, group: str, reachability: BrokerReachability) -> None:
        self.waits_for: dict[int, str] = {}
        self._cluster = cluster
        self._group = group
        self._reachability = reachability
        self._admin: AdminClient | None = None
        self._away_until = 0.0  # monotonic seconds; the broker has just not answered
        self._group_reader: Consumer | None = None
        self._log_reader: LogReader | None = None
        self._inboxes: dict[tuple[str, int], deque[ReadEvent]] = {}

    def poll(self) -> None:
        """Fetch what has come for the logs that are being read. Does not wait."""
        if self._log_reader is None:
            return
        for event in self._log_reader.poll():
            inbox = self._inboxes.get((event.topic, event.partition))
            if inbox is not None:
                inbox.append(event)

    def forget(self, partition: int) -> None:
        """Drop what a restore that ended, or was cancelled, has left."""
        self.waits_for.pop(partition, None)
        for topic, number in list(self._inboxes):
            if number == partition:
                self._stop_reading(TopicPartition(topic, number))

    def close(self) -> None:
        """Give the connections back. Steps that are used later open new ones."""
        self._admin = None
        # Not closed: another thread may still ask it something, and then holds it.
        self._group_reader = None
        self._inboxes.clear()
        if self._log_reader is not None:
            self._log_reader.close()
            self._log_reader = None

    # Asking the broker

    def committed(self, source: TopicPartition) -> Step[TopicPartition]:
        """What the group has committed, once no undecided transaction touches it.

        The call blocks, so each partition asks on a thread of its own: an undecided transaction on
        one does not hold up the others.
        """
        partition = source.partition
        request = f"asks for the committed offset of group {self._group!r}"
        self.waits_for[partition] = request
        is_logged = False
        while True:
            answer = self._ask_committed(source)
            yield from _until_done(answer)

            if not answer.done():
                error = _overdue()
                self._group_reader = None
            else:
                try:
                    position = answer.result()[0]
                except KafkaException as failed:
                    error = self._reachability.explain(failed.args[0])
                else:
                    if position.error is None:
                        return position
                    error = self._reachability.explain(position.error)

            self.waits_for[partition] = f"{request}: {error}"
            if not is_logged:
                log.warning("restore_waits", partition=partition, error=error)
                is_logged = True
            yield from _pause(_RETRY_SECONDS)

    def _ask_committed(self, source: TopicPartition) -> "Future[list[TopicPartition]]":
        if self._group_reader is None:
            self._group_reader = self._cluster.reader(self._group)
        calls = CallThread("committed offset")
        answer = calls.submit(partial(self._group_reader.committed, [source], SECONDS))
        calls.end()
        return answer

    def watermarks(self, where: TopicPartition) -> Step[Watermarks]:
        """The first offset of a partition, and its high watermark."""
        self.waits_for[where.partition] = f"asks where {where.topic} begins and ends"
        earliest = yield from self._ask_admin(where, ask_earliest)
        latest = yield from self._ask_admin(where, ask_latest)
        return Watermarks(earliest, latest)

    def _ask_admin(
        self,
        where: TopicPartition,
        ask: "Callable[[AdminClient, TopicPartition], Future[Any]]",
    ) -> Step[int]:
        """Ask for an offset, again and again after errors."""
        is_logged = False
        while True:
            while time.monotonic() < self._away_until:
                yield

            admin: AdminClient | None = None
            try:
                # Held until the answer: a client that is collected answers nothing any more.
                admin = self._admin = self._admin or self._new_admin()
                answer = ask(admin, where)
                yield from _until_done(answer)
                if answer.done():
                    return int(answer.result().offset)
                error = _overdue()
            except KafkaException as failed:
                error = self._reachability.explain(failed.args[0])

            self.waits_for[where.partition] = error
            if not is_logged:
                log.warning("restore_waits", partition=where.partition, error=error)
                is_logged = True
            if self._admin is admin:
                self._admin = None
            yield from _pause(_RETRY_SECONDS)

    def _new_admin(self) -> AdminClient:
        admin = self._cluster.admin()
        try:
            # Without metadata its first request for offsets now and then takes 1 or 3 s
            # (librdkafka 2.16).
            admin.list_topics(timeout=_METADATA_SECONDS)
        except KafkaException:
            # This call waits. So only one restore finds out for all of them.
            self._away_until = time.monotonic() + _RETRY_SECONDS
            raise
        return admin

    # Reading a log

    def read_log(
        self,
        where: TopicPartition,
        start: int,
        stop: int,
        take: Callable[[Record], None],
        *,
        gives_up: bool = False,
    ) -> Step[KafkaError | None]:
        """Hand every committed record from `start` up to but not including `stop` to `take`.

        | what the client reports   | if `gives_up`    | otherwise                        |
        |---------------------------|------------------|----------------------------------|
        | the topic may not be read | return the error | log it and wait                  |
        | a record cannot be read   | return the error | log it, and try it again in 10 s |
        | another error             | log it and wait  | log it and wait                  |
        """
        if start >= stop:
            return None
        partition = where.partition
        reader, inbox = self._start_reading(where, start, stop)
        position = start
        logged_error = ""

        while inbox or reader.is_reading_partition(where.topic, partition):
            if not inbox:
                yield
                continue
            event = inbox.popleft()
            if isinstance(event, Record):
                position = event.offset + 1
                take(event)
                continue
            if not isinstance(event, ReadError):
                position = max(position, event.offset)
                continue

            is_denied = denied_resource(event.error) is not None
            if gives_up and (is_denied or event.is_unreadable):
                self._stop_reading(where)
                return event.error

            error = self._reachability.explain(event.error)
            if error != logged_error:
                logged_error = error
                self.waits_for[partition] = f"reads {where.topic} from offset {position}: {error}"
                log.warning("restore_waits", partition=partition, topic=where.topic, error=error)
            if event.is_unreadable:
                self._stop_reading(where)
                yield from _pause(_UNREADABLE_SECONDS)
                reader, inbox = self._start_reading(where, position, stop)

        self._stop_reading(where)
        return None

    def _start_reading(
        self, where: TopicPartition, start: int, stop: int
    ) -> tuple[LogReader, deque[ReadEvent]]:
        if self._log_reader is None:
            self._log_reader = LogReader(self._cluster)
        inbox: deque[ReadEvent] = deque()
        self._inboxes[where.topic, where.partition] = inbox
        self._log_reader.start(where.topic, where.partition, start, stop)
        return self._log_reader, inbox

    def _stop_reading(self, where: TopicPartition) -> None:
        self._inboxes.pop((where.topic, where.partition), None)
        if self._log_reader is not None:
            self._log_reader.drop(where.topic, where.partition)


def _until_done(answer: "Future[Any]") -> Step[None]:
    """Wait for an answer, a little longer than the client itself waits for the broker."""
    overdue = time.monotonic() + SECONDS + _GRACE_SECONDS
    while not answer.done() and time.monotonic() < overdue:
        yield


def _overdue() -> str:
    return f"no answer within {SECONDS + _GRACE_SECONDS:g} s"


def _pause(seconds: float) -> Step[None]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield
