"""How far each partition is behind the end of its log, and which partitions are stuck.

`Lag` is for people: nothing is decided by it. `Silence` finds partitions of which nothing comes
although there is more to read.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from workers.streaming.log_reader import ask_latest_of
from workers.streaming.partition import Partition

_SECONDS: Final = 1.0
SILENT_SECONDS = 30.0
"""How long nothing may come of a partition that is not read to its end."""


class Lag:
    """By partition, the records between what is out and the high watermark, as the loop saw them
    last: `records`. `ends` are the watermarks.

    Both are replaced whole, so any thread may read them. A partition whose watermark is not known
    yet is missing.

    A watermark comes with the client's last fetch. Nothing is fetched for a paused partition, so
    the broker is asked about those for `records`. The loop does not wait for its answer.
    """

    def __init__(
        self, consumer: Consumer, topic: str, new_admin: Callable[[], AdminClient]
    ) -> None:
        self.records: Mapping[int, int] = {}
        self.ends: Mapping[int, int] = {}
        self._consumer = consumer
        self._topic = topic
        self._new_admin = new_admin
        self._looked_at = float("-inf")
        self._admin: AdminClient | None = None
        self._requests: Mapping[int, Future[Any]] = {}
        self._paused_ends: dict[int, int] = {}

    def look(self, partitions: Collection[Partition], now: float) -> None:
        """Look if the last look is a second ago; `now` in monotonic seconds. Only the loop's thread
        calls this.
        """
        if now - self._looked_at < _SECONDS:
            return
        self._looked_at = now
        self._ask_about_paused([p.number for p in partitions if p.is_paused])

        ends: dict[int, int] = {}
        records: dict[int, int] = {}
        for partition in partitions:
            number = partition.number
            end = self._fetched_end(number)
            if end is None:
                continue
            ends[number] = end
            # A seek leaves the watermark of the last fetch, which may be older than what was taken
            # since.
            latest = max(end, self._paused_ends.get(number, 0))
            records[number] = max(0, latest - partition.out_below)
        self.ends = ends
        self.records = records

    def _fetched_end(self, number: int) -> int | None:
        """The high watermark that came with the client's last fetch. The broker is not asked."""
        try:
            _, end = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, number), cached=True
            )
        except KafkaException:
            return None
        return end if end >= 0 else None

    def _ask_about_paused(self, paused: Collection[int]) -> None:
        """Take the answers, and ask again once all of them have come."""
        if not all(request.done() for request in self._requests.values()):
            return
        for number, request in self._requests.items():
            if request.exception() is None:
                self._paused_ends[number] = int(request.result().offset)
        self._requests = {}
        for number in set(self._paused_ends) - set(paused):
            del self._paused_ends[number]
        if not paused:
            self._admin = None
            return

        places = {number: TopicPartition(self._topic, number) for number in paused}
        try:
            # Held until the answers: a client that is collected answers nothing any more.
            self._admin = self._admin or self._new_admin()
            requests = ask_latest_of(self._admin, list(places.values()))
        except KafkaException:
            self._admin = None
            return
        self._requests = {number: requests[where] for number, where in places.items()}


class Silence:
    """Finds the partitions of which nothing comes although there is more to read.

    Of some damage the client reports nothing: it asks for the same records again and again. (An
    undecided transaction of a producer is something else: then the client reports an end.)
    """

    def __init__(self) -> None:
        self._since: dict[int, tuple[int, float]] = {}  # the next offset, and since when it is that

    def look(
        self,
        partitions: Iterable[Partition],
        ends: Mapping[int, int],
        now: float,
        *,
        is_reachable: bool,
    ) -> list[Partition]:
        """The partitions that have been silent for SILENT_SECONDS; `now` in monotonic seconds.

        `ends` are the high watermarks. No partition counts as silent while the broker does not
        answer, or denies something.
        """
        silent = []
        since_by_partition: dict[int, tuple[int, float]] = {}
        for partition in partitions:
            number = partition.number
            offset = partition.next
            has_more = ends.get(number, 0) > offset
            is_read = not (partition.is_at_end or partition.is_paused or partition.unreadable)
            if not (is_reachable and is_read and has_more):
                continue

            last_offset, since = self._since.get(number, (offset, now))
            if last_offset != offset:
                since = now
            since_by_partition[number] = offset, since
            if now - since >= SILENT_SECONDS:
                silent.append(partition)
        self._since = since_by_partition
        return silent
