"""The partitioner check: whether events come in the partition that murmur2 gives their key. If
producers differ in that, they split a request.

Rules:
- An event is judged when its request would open, so a request of many events is judged once.
  Whatever splits a request opens it in a second partition.
- `any`: such an event is counted, and the first one is logged. `murmur2`: it is also refused. So
  are all further events of its request, since that never opens.
- The judgement depends on the key, the partition and the partition count alone. So a replay judges
  as the first time.
- The count may grow while the worker runs, though it should not. So it is asked for again before an
  event is refused, but not more often than every 5 s. What was appended before was placed by the
  old count, so both are right from then on.
"""

import time
from collections.abc import Callable
from typing import Protocol

from confluent_kafka import Consumer, KafkaException

from workers.codec.judge import shown
from workers.codec.partitioner import partition_of
from workers.log import log
from workers.ranking.refusal import EventRefused, Reason

_ASK_SECONDS = 1.0
_AGAIN_SECONDS = 5.0


class CountsMisplaced(Protocol):
    """Counters that have one for records in another partition."""

    misplaced: int


class Placement:
    """Judges the partitions of one topic. `ask_count` asks the broker for the partition count, and
    returns None if that does not answer.
    """

    def __init__(
        self,
        count: int,
        is_required: bool,
        counts: CountsMisplaced,
        ask_count: Callable[[], int | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count = count
        self._past_counts: list[int] = []  # that the topic had while this worker ran
        self._is_required = is_required
        self._counts = counts
        self._ask_count = ask_count
        self._clock = clock
        self._asked_at = clock()

    def check(self, partition: int, request_id: str) -> None:
        """Judge where a request would open. Raises EventRefused, partition-mismatch, if murmur2 is
        required.
        """
        key = request_id.encode()
        if partition_of(key, self._count) == partition:
            return

        self._refresh_count()
        for count in (self._count, *self._past_counts):
            if partition_of(key, count) == partition:
                return

        self._counts.misplaced += 1
        count = self._count
        expected = partition_of(key, count)
        if self._counts.misplaced == 1:
            log.warning(
                "partitioner_differs",
                key=shown(request_id),
                partition=partition,
                expected=expected,
                partitions=count,
                risk="a request whose producers place it differently ends in two feeds",
                hint="set the partitioner of every producer to murmur2;"
                " counted from now on, and not logged again",
            )

        if self._is_required:
            raise EventRefused(
                Reason.PARTITION,
                f"partition: got {partition}, expected {expected} of {count} by murmur2 of the key"
                f" {shown(request_id)}; set the producer's partitioner to murmur2",
            )

    def _refresh_count(self) -> None:
        now = self._clock()
        if now - self._asked_at < _AGAIN_SECONDS:
            return
        self._asked_at = now

        count = self._ask_count()
        if count is None or count == self._count:
            return
        log.warning(
            "partitions_added",
            before=self._count,
            now=count,
            risk="keys move to other partitions",
        )
        self._past_counts.append(self._count)
        self._count = count


def ask_count(consumer: Consumer, topic: str) -> int | None:
    """The partition count of a topic by now. None if no broker answers within a second."""
    try:
        metadata = consumer.list_topics(topic, timeout=_ASK_SECONDS).topics[topic]
    except KafkaException:
        return None
    return len(metadata.partitions) or None
