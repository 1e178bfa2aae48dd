"""How large a record may be: the smallest of what its topic, the broker and our own producer allow.

Kafka's `max.message.bytes` is on a batch of records, which the client does not split. One batch too
large would abort its transaction for ever, so batches stay below the limits as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from workers.errors import Failure
from workers.log import log
from workers.streaming.clients import Cluster
from workers.streaming.topics import BrokerUnreachable, TopicError, topic_config

RECORD_OVERHEAD = 1024
"""Bytes beside a record's value: batch and record headers, the key (256 bytes at most) and the
content type.
"""
LEAST_BYTES = 4096
"""A topic that takes less than this takes neither every feed nor every dead letter."""

_BATCH_BYTES = 500_000
_MOST_MESSAGE_BYTES = 1_000_000_000  # librdkafka's own upper bound of message.max.bytes
_READ_SECONDS = 3.0


class LimitTooSmall(Failure):
    """A topic, or the producer, takes only records that are too small for any feed or dead letter."""


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
        for name, got in (("a feed", self.feed_bytes), ("a dead letter", self.letter_bytes)):
            least = LEAST_BYTES - RECORD_OVERHEAD
            if got < least:
                raise LimitTooSmall(
                    f"{name}: its topic and the producer take {got + RECORD_OVERHEAD} bytes, expected at least"
                    f" {LEAST_BYTES}: raise max.message.bytes of the topic, or message.max.bytes of the properties"
                )


def limits_of(feeds_bytes: int, letters_bytes: int, properties: Mapping[str, str]) -> RecordLimits:
    """The limits that follow from `max.message.bytes` of both topics and the producer's properties.

    Raises LimitTooSmall.
    """
    largest = min(max(feeds_bytes, letters_bytes), _MOST_MESSAGE_BYTES)
    message_bytes = int(properties.get("message.max.bytes", largest))
    # A record larger than the whole queue would wait for ever for its place in it.
    queue_bytes = 1024 * int(
        properties.get("queue.buffering.max.kbytes", _MOST_MESSAGE_BYTES // 1024)
    )
    own = min(message_bytes, queue_bytes)
    batch_bytes = min(
        int(properties.get("batch.size", _BATCH_BYTES)), feeds_bytes, letters_bytes, message_bytes
    )
    return RecordLimits(
        feed_bytes=min(feeds_bytes, own) - RECORD_OVERHEAD,
        letter_bytes=min(letters_bytes, own) - RECORD_OVERHEAD,
        batch_bytes=max(1, batch_bytes - RECORD_OVERHEAD),
        message_bytes=message_bytes,
    )


class OutputLimits:
    """The limits in force. `read_again` replaces them; what is encoded afterwards keeps to the new
    ones.
    """

    def __init__(
        self, cluster: Cluster, feeds: str, dead_letters: str, first: RecordLimits
    ) -> None:
        self._cluster = cluster
        self._feeds = feeds
        self._dead_letters = dead_letters
        self._now = first
        self._unknown = ""  # why the limits could not be read the last time

    @property
    def feed_bytes(self) -> int:
        """How many bytes the value of a feed may have."""
        return self._now.feed_bytes

    @property
    def letter_bytes(self) -> int:
        """How many bytes a whole dead letter may have: key, value and headers."""
        return self._now.letter_bytes

    @property
    def batch_bytes(self) -> int:
        """`batch.size` of the producer."""
        return self._now.batch_bytes

    @property
    def message_bytes(self) -> int:
        """`message.max.bytes` of the producer."""
        return self._now.message_bytes

    def read_again(self) -> bool:
        """Read the limits again, because a record was refused for its size. Return whether they are
        others now.

        If the broker still names the limits that we kept to, something else counts (a broker that
        names no other limit than it keeps to has not been seen): then the limits are halved, as far
        as that goes.
        """
        before = self._now
        try:
            found = read_limits(self._cluster, self._feeds, self._dead_letters, _READ_SECONDS)
        except (TopicError, BrokerUnreachable, LimitTooSmall) as error:
            # Asked again with each try of each partition that waits for other limits.
            if str(error) != self._unknown:
                self._unknown = str(error)
                log.warning("limits_unknown", error=self._unknown)
            return False
        self._unknown = ""
        if found.feed_bytes >= before.feed_bytes and found.letter_bytes >= before.letter_bytes:
            try:
                found = replace(
                    before,
                    feed_bytes=min(found.feed_bytes, before.feed_bytes // 2),
                    letter_bytes=min(found.letter_bytes, before.letter_bytes // 2),
                    batch_bytes=max(1, before.batch_bytes // 2),
                )
            except LimitTooSmall:
                return False
        self._now = found
        log.warning(
            "limits_changed", feed_bytes=found.feed_bytes, dead_letter_bytes=found.letter_bytes
        )
        return True


def read_limits(
    cluster: Cluster, feeds: str, dead_letters: str, timeout: float = 15.0
) -> RecordLimits:
    """Ask the broker for both topics' limits. Raises TopicError, BrokerUnreachable and
    LimitTooSmall.
    """
    found = [
        int(topic_config(cluster.bootstrap, name, cluster.properties, timeout)["max.message.bytes"])
        for name in (feeds, dead_letters)
    ]
    return limits_of(found[0], found[1], cluster.properties)
