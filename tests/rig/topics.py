"""Reading a topic from its first record, under read_committed.

A judge must not trust the code that it judges: this uses a plain consumer, and of the product only
the type of a message and the reading of its headers.
"""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.rig.process import pause
from workers.streaming.records import Fetched, Record, fetched, is_end, read_record

_ANSWER_SECONDS = 30.0
_BETWEEN_SECONDS = 0.1


class RecordReader:
    """Reads all partitions of a topic that is there, each from its first record."""

    def __init__(self, kafka: str, topic: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": "rig",  # never joined
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 10,  # an end is known, and the reader closed, that much later
                "log_level": 2,  # a broker that is killed is nothing to report
            }
        )
        metadata = self._consumer.list_topics(topic, timeout=_ANSWER_SECONDS)
        self._partitions = [TopicPartition(topic, p) for p in metadata.topics[topic].partitions]
        for partition in self._partitions:
            partition.offset = self._watermarks(partition)[0]
        self._next = {partition.partition: partition.offset for partition in self._partitions}
        self._consumer.assign(self._partitions)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._consumer.close()

    def poll(self, seconds: float) -> Fetched | None:
        """The next record. None if none comes within `seconds`, or if a partition has ended."""
        polled = self._consumer.poll(seconds)
        if polled is None:
            return None

        (message,) = fetched([polled])
        if message.error() is None:
            self._next[message.partition()] = message.offset() + 1
            return message
        if is_end(message):
            self._next[message.partition()] = message.offset()
        return None

    def ends(self) -> dict[int, int]:
        """The offset behind the last record that can be read now, by partition.

        The records of an open transaction are behind it, and so is all that follows them.
        """
        return {
            partition.partition: self._watermarks(partition)[1] for partition in self._partitions
        }

    def has_reached(self, ends: Mapping[int, int]) -> bool:
        """Whether all records below these offsets were read."""
        return all(self._next[partition] >= end for partition, end in ends.items())

    def _watermarks(self, partition: TopicPartition) -> tuple[int, int]:
        """The low and the high watermark. Asks again after any error: while a broker comes back, the
        client has a different one each time.
        """
        deadline = time.monotonic() + _ANSWER_SECONDS
        while True:
            try:
                low, high = self._consumer.get_watermark_offsets(partition, timeout=_ANSWER_SECONDS)
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                pause(_BETWEEN_SECONDS)
            else:
                return low, high


def read_to_end(kafka: str, topic: str) -> list[Fetched]:
    """Every record that can be read by now, however many more are coming."""
    records: list[Fetched] = []
    with RecordReader(kafka, topic) as reader:
        ends = reader.ends()
        while not reader.has_reached(ends):
            record = reader.poll(_BETWEEN_SECONDS)
            if record is not None:
                records.append(record)
    return records


def read_records(
    kafka: str, topic: str, count: int, patience: float, settle: float
) -> list[Record]:
    """`count` records, waited for, and whatever more comes until `settle` seconds are silent.

    Fewer if they do not come within `patience` seconds: the caller compares.
    """
    records: list[Record] = []
    with RecordReader(kafka, topic) as reader:
        deadline = time.monotonic() + patience
        while len(records) < count and time.monotonic() < deadline:
            record = reader.poll(_BETWEEN_SECONDS)
            if record is not None:
                records.append(read_record(record))

        silent_from = time.monotonic()
        while time.monotonic() - silent_from <= settle:
            record = reader.poll(_BETWEEN_SECONDS)
            if record is not None:
                records.append(read_record(record))
                silent_from = time.monotonic()
    return records
