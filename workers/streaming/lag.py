"""How far behind the log each partition is, for people to see; nothing is decided by it."""

from collections.abc import Collection, Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from workers.streaming.partition import Partition

_SECONDS: Final = 1.0


class Lag:
    """Records between what is out and the high watermark of each partition, as the loop saw them
    last.

    `records` and `ends`, the watermarks, are replaced whole: any thread reads them. A partition
    whose watermark is not known yet is not in them.
    """

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self.records: Mapping[int, int] = {}
        self.ends: Mapping[int, int] = {}
        self._consumer, self._topic = consumer, topic
        self._looked = float("-inf")

    def look(self, partitions: Collection[Partition], now: float) -> None:
        """Look where the last look is a second old; `now` in monotonic seconds. The loop's thread
        alone calls it.
        """
        if now - self._looked < _SECONDS:
            return
        self._looked = now
        ends = {partition: self._end(partition.number) for partition in partitions}
        self.ends = {partition.number: end for partition, end in ends.items() if end is not None}
        self.records = {
            # A seek leaves the watermark of the last fetch, which may be older than what is taken
            # in since.
            partition.number: max(0, end - partition.out_below)
            for partition, end in ends.items()
            if end is not None
        }

    def _end(self, number: int) -> int | None:
        """The high watermark that came with the client's last fetch: no question to the broker."""
        try:
            _, high = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, number), cached=True
            )
        except KafkaException:
            return None
        return high if high >= 0 else None
