"""How large a record may be: the smallest of what its topic, the broker and our own producer allow.

Rules:
- Every record that a stage writes is made so small that its topic takes it.
- Kafka's `max.message.bytes` bounds a batch of records, which the client does not split. One batch
  that is too large would abort its transaction for ever. So batches stay below the limits of all
  topics that the stage writes.
- If a record is refused for its size all the same, the limits are read again. If the broker still
  names the same ones, they are halved.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from workers.errors import Failure
from workers.log import log
from workers.streaming.clients import Cluster
from workers.streaming.topics import (
    BrokerUnreachable,
    JoinTopics,
    TopicError,
    WorkerTopics,
    topic_config,
)

RECORD_OVERHEAD = 1024
"""Bytes that a record takes beside its value: batch and record headers, the key (256 bytes at most),
the content type, and the trace context of a traced request (600 bytes at most).
"""
LEAST_BYTES = 4096
"""A topic that takes less than this takes neither every feed nor every dead letter."""

# Large enough for what one transaction writes to a partition. While a full batch waits until a request
# of the producer is answered, the client's thread polls without a pause (decision 16).
_BATCH_BYTES = 1_000_000
_MAX_MESSAGE_BYTES = 1_000_000_000  # librdkafka's own upper bound of message.max.bytes
_READ_SECONDS = 3.0


class LimitTooSmall(Failure):
    """A topic or the producer takes only records that are too small for what a stage writes."""


@dataclass(frozen=True)
class RecordLimits:
    """In bytes: a record for each topic, a batch of the producer, and `message.max.bytes` of it.

    `record_bytes` bounds the value of a record. Of a dead letter it bounds key, value and headers
    together. Raises LimitTooSmall.
    """

    record_bytes: Mapping[str, int]
    batch_bytes: int
    message_bytes: int

    def __post_init__(self) -> None:
        for topic, limit in self.record_bytes.items():
            taken = limit + RECORD_OVERHEAD
            if taken < LEAST_BYTES:
                raise LimitTooSmall(
                    f"topic {topic!r}: it and the producer take {taken} bytes, expected at least"
                    f" {LEAST_BYTES}: raise max.message.bytes of the topic, or message.max.bytes"
                    " of the properties"
                )


def limits_of(topic_bytes: Mapping[str, int], properties: Mapping[str, str]) -> RecordLimits:
    """The limits that follow from `max.message.bytes` of each topic and the producer's properties.

    Raises LimitTooSmall.
    """
    largest = min(max(topic_bytes.values()), _MAX_MESSAGE_BYTES)
    message_bytes = int(properties.get("message.max.bytes", largest))

    # A record larger than the whole queue would wait for ever for its place in it.
    queue_bytes = 1024 * int(
        properties.get("queue.buffering.max.kbytes", _MAX_MESSAGE_BYTES // 1024)
    )
    producer_bytes = min(message_bytes, queue_bytes)

    record_bytes: dict[str, int] = {}
    for topic, limit in topic_bytes.items():
        record_bytes[topic] = min(limit, producer_bytes) - RECORD_OVERHEAD

    batch_bytes = min(
        int(properties.get("batch.size", _BATCH_BYTES)), message_bytes, *topic_bytes.values()
    )
    return RecordLimits(
        record_bytes=record_bytes,
        batch_bytes=max(1, batch_bytes - RECORD_OVERHEAD),
        message_bytes=message_bytes,
    )


class OutputLimits:
    """The limits in force. `read_again` replaces them; what is encoded afterwards keeps to the new
    ones.
    """

    def __init__(
        self, cluster: Cluster, topics: WorkerTopics | JoinTopics, first: RecordLimits
    ) -> None:
        self._cluster = cluster
        self._topics = topics
        self._current = first
        self._logged_error = ""  # why the limits could not be read the last time

    def record_bytes(self, topic: str) -> int:
        """How many bytes the value of a record for this topic may have. Of a dead letter: key,
        value and headers together.
        """
        return self._current.record_bytes[topic]

    @property
    def batch_bytes(self) -> int:
        """`batch.size` of the producer."""
        return self._current.batch_bytes

    @property
    def message_bytes(self) -> int:
        """`message.max.bytes` of the producer."""
        return self._current.message_bytes

    def read_again(self) -> bool:
        """Read the limits again, because a record was refused for its size. Return whether they
        have changed.

        If the broker still names the limits that we kept to, they are halved, as far as that goes:
        then something else bounds a record. (Such a broker has not been seen.)
        """
        before = self._current
        try:
            limits = read_limits(self._cluster, self._topics, _READ_SECONDS)
        except (TopicError, BrokerUnreachable, LimitTooSmall) as error:
            # Every retry of every partition comes here while a record is too large.
            if str(error) != self._logged_error:
                self._logged_error = str(error)
                log.warning("limits_unknown", error=self._logged_error)
            return False
        self._logged_error = ""

        if not _is_smaller(limits, before):
            try:
                limits = _halved(before, limits)
            except LimitTooSmall:
                return False

        self._current = limits
        fields: dict[str, int] = {}
        for kind, topic in self._topics.outputs.items():
            fields[f"{kind}_bytes"] = limits.record_bytes[topic]
        log.warning("limits_changed", **fields)
        return True


def _is_smaller(limits: RecordLimits, before: RecordLimits) -> bool:
    """Whether some topic takes less than before."""
    return any(limits.record_bytes[topic] < kept for topic, kept in before.record_bytes.items())


def _halved(before: RecordLimits, limits: RecordLimits) -> RecordLimits:
    """Half of the limits before, or less if the broker names less. Raises LimitTooSmall."""
    record_bytes: dict[str, int] = {}
    for topic, kept in before.record_bytes.items():
        record_bytes[topic] = min(limits.record_bytes[topic], kept // 2)
    return RecordLimits(
        record_bytes=record_bytes,
        batch_bytes=max(1, before.batch_bytes // 2),
        message_bytes=before.message_bytes,
    )


def read_limits(
    cluster: Cluster, topics: WorkerTopics | JoinTopics, timeout: float = 15.0
) -> RecordLimits:
    """Ask the broker for the limits of every topic that the stage writes. Raises TopicError,
    BrokerUnreachable and LimitTooSmall.
    """
    topic_bytes: dict[str, int] = {}
    for topic in topics.outputs.values():
        config = topic_config(cluster.bootstrap, topic, cluster.properties, timeout)
        topic_bytes[topic] = int(config["max.message.bytes"])
    return limits_of(topic_bytes, cluster.properties)
