"""How large a record may be: the smallest of what its topic, the broker and our own producer allow.

Rules:
- Feeds and dead letters are made so small that their topics take them.
- Kafka's `max.message.bytes` bounds a batch of records, which the client does not split. One batch
  that is too large would abort its transaction for ever. So batches stay below the limits as well.
- If a record is refused for its size all the same, the limits are read again. If the broker still
  names the same ones, they are halved.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from workers.errors import Failure
from workers.log import log
from workers.streaming.clients import Cluster
from workers.streaming.topics import BrokerUnreachable, TopicError, WorkerTopics, topic_config

RECORD_OVERHEAD = 1024
"""Bytes that a record takes beside its value: batch and record headers, the key (256 bytes at most)
and the content type.
"""
LEAST_BYTES = 4096
"""A topic that takes less than this takes neither every feed nor every dead letter."""

_BATCH_BYTES = 500_000
_MAX_MESSAGE_BYTES = 1_000_000_000  # librdkafka's own upper bound of message.max.bytes
_READ_SECONDS = 3.0


class LimitTooSmall(Failure):
    """A topic or the producer takes only records too small for any feed or dead letter."""


@dataclass(frozen=True)
class RecordLimits:
    """In bytes: a feed's value, a whole dead letter, a batch of the producer, and
    `message.max.bytes` of it.

    Raises LimitTooSmall.
    """

    feed_bytes: int
    letter_bytes: int
    batch_bytes: int
    message_bytes: int

    def __post_init__(self) -> None:
        for name, limit in (("a feed", self.feed_bytes), ("a dead letter", self.letter_bytes)):
            record_bytes = limit + RECORD_OVERHEAD
            if record_bytes < LEAST_BYTES:
                raise LimitTooSmall(
                    f"{name}: its topic and the producer take {record_bytes} bytes, expected at"
                    f" least {LEAST_BYTES}: raise max.message.bytes of the topic, or"
                    " message.max.bytes of the properties"
                )


def limits_of(feeds_bytes: int, letters_bytes: int, properties: Mapping[str, str]) -> RecordLimits:
    """The limits that follow from `max.message.bytes` of both topics and the producer's properties.

    Raises LimitTooSmall.
    """
    largest = min(max(feeds_bytes, letters_bytes), _MAX_MESSAGE_BYTES)
    message_bytes = int(properties.get("message.max.bytes", largest))

    # A record larger than the whole queue would wait for ever for its place in it.
    queue_bytes = 1024 * int(
        properties.get("queue.buffering.max.kbytes", _MAX_MESSAGE_BYTES // 1024)
    )
    producer_bytes = min(message_bytes, queue_bytes)

    batch_bytes = min(
        int(properties.get("batch.size", _BATCH_BYTES)), feeds_bytes, letters_bytes, message_bytes
    )
    return RecordLimits(
        feed_bytes=min(feeds_bytes, producer_bytes) - RECORD_OVERHEAD,
        letter_bytes=min(letters_bytes, producer_bytes) - RECORD_OVERHEAD,
        batch_bytes=max(1, batch_bytes - RECORD_OVERHEAD),
        message_bytes=message_bytes,
    )


class OutputLimits:
    """The limits in force. `read_again` replaces them; what is encoded afterwards keeps to the new
    ones.
    """

    def __init__(self, cluster: Cluster, topics: WorkerTopics, first: RecordLimits) -> None:
        self._cluster = cluster
        self._topics = topics
        self._current = first
        self._logged_error = ""  # why the limits could not be read the last time

    @property
    def feed_bytes(self) -> int:
        """How many bytes the value of a feed may have."""
        return self._current.feed_bytes

    @property
    def letter_bytes(self) -> int:
        """How many bytes a whole dead letter may have: key, value and headers."""
        return self._current.letter_bytes

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

        if limits.feed_bytes >= before.feed_bytes and limits.letter_bytes >= before.letter_bytes:
            try:
                limits = replace(
                    before,
                    feed_bytes=min(limits.feed_bytes, before.feed_bytes // 2),
                    letter_bytes=min(limits.letter_bytes, before.letter_bytes // 2),
                    batch_bytes=max(1, before.batch_bytes // 2),
                )
            except LimitTooSmall:
                return False

        self._current = limits
        log.warning(
            "limits_changed", feed_bytes=limits.feed_bytes, dead_letter_bytes=limits.letter_bytes
        )
        return True


def read_limits(cluster: Cluster, topics: WorkerTopics, timeout: float = 15.0) -> RecordLimits:
    """Ask the broker for the limits of both output topics. Raises TopicError, BrokerUnreachable and
    LimitTooSmall.
    """

    def limit_of(topic: str) -> int:
        config = topic_config(cluster.bootstrap, topic, cluster.properties, timeout)
        return int(config["max.message.bytes"])

    return limits_of(limit_of(topics.feeds), limit_of(topics.dead_letters), cluster.properties)
