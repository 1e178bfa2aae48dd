"""The check that an idle partition is read to its end. The broker is asked, and the loop does not
wait for its answer.

The rules of closing by the idle clock:
- The broker is asked only about partitions on which a deadline has passed, and about each one at a
  time.
- It is asked for the high watermark. Behind the last stable offset, which is the end that the
  consumer sees, an undecided transaction may hold further parts of an open request.
- The answer counts for what was due when the request was made: a record may have been appended
  since.

| answer                                  | what is done                              |
|-----------------------------------------|-------------------------------------------|
| the log ends where we have read to      | what was due then closes                  |
| there is more to read                   | nothing closes; ask again after 0.25 s    |
| an error, or no answer in time          | nothing closes; ask again after 1 s, with |
|                                         |   a new client                            |
| the partition is not ours any more      | forgotten                                 |
"""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from workers.streaming.log_reader import SECONDS, ask_latest_of
from workers.streaming.partition import Due, Partition

_MORE_SECONDS = 0.25
_FAILED_SECONDS = 1.0
_OVERDUE_SECONDS = 2 * SECONDS
"""When a request counts as not answered. The client itself should report that after SECONDS."""


class _Request(NamedTuple):
    """It holds its client: a client that is collected answers nothing any more."""

    admin: AdminClient
    due: Due
    requested_at: float
    latest: "Future[Any]"


class EndCheck:
    """Closes requests by the idle clock, once the broker has confirmed that there is nothing more
    to read.
    """

    def __init__(self, new_admin: Callable[[], AdminClient], topic: str) -> None:
        self._new_admin = new_admin
        self._topic = topic
        self._admin: AdminClient | None = None
        self._requests: dict[Partition, _Request] = {}
        self._paused_until: dict[Partition, float] = {}  # monotonic seconds

    def close_idle(self, partitions: Collection[Partition], now: float) -> None:
        """Close what the answers that have come allow, and ask about what is due; `now` in
        monotonic seconds.

        Called once a step, with the partitions that are ours by now. Never waits.
        """
        if self._requests or self._paused_until:
            self._forget_lost(partitions)
            self._apply_answers(now)

        due: dict[Partition, Due] = {}
        for partition in partitions:
            deadline = partition.due_at_end()
            if deadline is None or partition in self._requests or partition in self._paused_until:
                continue
            due[partition] = deadline
        if due:
            self._ask(due, now)

    def _forget_lost(self, partitions: Collection[Partition]) -> None:
        ours = set(partitions)
        for partition in set(self._requests) - ours:
            del self._requests[partition]
        for partition in set(self._paused_until) - ours:
            del self._paused_until[partition]

    def _apply_answers(self, now: float) -> None:
        """Do what the table says, for the requests that are answered or overdue."""
        for partition, until in list(self._paused_until.items()):
            if now >= until:
                del self._paused_until[partition]

        for partition, request in list(self._requests.items()):
            if not request.latest.done() and now - request.requested_at < _OVERDUE_SECONDS:
                continue
            del self._requests[partition]
            latest: int | None = None
            if request.latest.done() and request.latest.exception() is None:
                latest = int(request.latest.result().offset)

            if latest is None:
                self._admin = None
                self._paused_until[partition] = now + _FAILED_SECONDS
            elif latest > request.due.end:
                self._paused_until[partition] = now + _MORE_SECONDS
            else:
                partition.close_idle(request.due)

    def _ask(self, due: Mapping[Partition, Due], now: float) -> None:
        places = {partition: TopicPartition(self._topic, partition.number) for partition in due}
        try:
            self._admin = self._admin or self._new_admin()
            latest = ask_latest_of(self._admin, list(places.values()))
        except KafkaException:
            self._admin = None
            for partition in due:
                self._paused_until[partition] = now + _FAILED_SECONDS
            return
        for partition, deadline in due.items():
            answer = latest[places[partition]]
            self._requests[partition] = _Request(self._admin, deadline, now, answer)
