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


class Lag:
    """Records between what is out and the high watermark of each partition, as the loop saw them
    last.

    `records` and `ends`, the watermarks, are replaced whole: any thread reads them. A partition
    whose watermark is not known yet is not in them.

    A watermark comes with the client's last fetch. Nothing is fetched of a partition that is paused,
    so the broker is asked about those for `records`, and nobody waits for its answer.
    """

    def __init__(
        self, consumer: Consumer, topic: str, new_admin: Callable[[], AdminClient]
    ) -> None:
        self.records: Mapping[int, int] = {}
        self.ends: Mapping[int, int] = {}
        self._consumer, self._topic = consumer, topic
        self._looked = float("-inf")
        self._new_admin = new_admin
        self._admin: AdminClient | None = None
        self._questions: Mapping[int, Future[Any]] = {}
        self._answers: dict[int, int] = {}

    def look(self, partitions: Collection[Partition], now: float) -> None:
        """Look where the last look is a second old; `now` in monotonic seconds. The loop's thread
        alone calls it.
        """
        if now - self._looked < _SECONDS:
            return
        self._looked = now
        ends = {partition: self._end(partition.number) for partition in partitions}
        self.ends = {partition.number: end for partition, end in ends.items() if end is not None}
        self._look_at_paused({partition.number for partition in partitions if partition.is_paused})
        self.records = {
            # A seek leaves the watermark of the last fetch, which may be older than what is taken
            # in since.
            partition.number: max(
                0, max(end, self._answers.get(partition.number, 0)) - partition.out_below
            )
            for partition, end in ends.items()
            if end is not None
        }

    def _look_at_paused(self, paused: Collection[int]) -> None:
        """Take the answers that have come, and ask again once all have."""
        if not all(question.done() for question in self._questions.values()):
            return
        for number, question in self._questions.items():
            if question.exception() is None:
                self._answers[number] = int(question.result().offset)
        self._questions = {}
        self._answers = {n: end for n, end in self._answers.items() if n in paused}
        if not paused:
            self._admin = None
            return

        places = {number: TopicPartition(self._topic, number) for number in paused}
        try:
            # Held until the answers: a client that is collected answers nothing any more.
            self._admin = self._admin or self._new_admin()
            asked = ask_latest_of(self._admin, list(places.values()))
        except KafkaException:
            self._admin = None
            return
        self._questions = {number: asked[where] for number, where in places.items()}

    def _end(self, number: int) -> int | None:
        """The high watermark that came with the client's last fetch: no question to the broker."""
        try:
            _, high = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, number), cached=True
            )
        except KafkaException:
            return None
        return high if high >= 0 else None


SILENT_SECONDS = 30.0
"""How long nothing may come of a partition that is not read to its end."""


class Silence:
    """Finds the partitions of which nothing comes although there is more to read.

    Of some damage the client says nothing: it asks for the same records again and again. An
    upstream transaction that is not decided is something else: there the client says that it is at
    the end.
    """

    def __init__(self) -> None:
        self._heard: dict[int, tuple[int, float]] = {}

    def look(
        self,
        partitions: Iterable[Partition],
        ends: Mapping[int, int],
        now: float,
        *,
        is_reachable: bool,
    ) -> list[Partition]:
        """The partitions that have been silent for too long; `now` in monotonic seconds.

        `ends` are the high watermarks. Nothing is silent while the broker does not answer, or
        denies something.
        """
        silent = []
        heard: dict[int, tuple[int, float]] = {}
        for partition in partitions:
            number, place = partition.number, partition.assembler.next
            has_more = ends.get(number, 0) > place
            is_read = not (partition.is_at_end or partition.is_paused or partition.unreadable)
            if not (is_reachable and is_read and has_more):
                continue
            before, since = self._heard.get(number, (place, now))
            if before != place:
                since = now
            heard[number] = place, since
            if now - since >= SILENT_SECONDS:
                silent.append(partition)
        self._heard = heard
        return silent
