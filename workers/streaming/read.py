"""Reading a topic as a downstream consumer would: committed records only."""

import time
from collections.abc import Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from workers.errors import Failure
from workers.streaming.clients import Cluster
from workers.streaming.records import Fetched, Record, fetched, is_end, read_record
from workers.streaming.rights import (
    Resource,
    RightMissing,
    denied_resource,
    denied_rights,
    hidden_hint,
    reader_rights,
    require_rights,
)
from workers.streaming.topics import BrokerUnreachable
from workers.streaming.unreadable import is_unreadable


class TopicMissing(Failure):
    """The topic is not there; the message names it and what to do."""


class RecordUnreadable(Failure):
    """What stands at an offset cannot be read, nor anything behind it; the message names the place."""


def partitions_of(client: Consumer | AdminClient, topic: str, cluster: Cluster) -> list[int]:
    """The partitions of a topic. Raises TopicMissing, RightMissing and BrokerUnreachable."""
    try:
        # All topics are asked for: where brokers create topics that are asked for by name, this one
        # stays missing.
        found = client.list_topics(timeout=10).topics.get(topic)
    except KafkaException as error:
        why = cluster.connection_error() or error.args[0].str()
        raise BrokerUnreachable(f"no Kafka answers at {cluster.bootstrap}: {why}") from None
    if found is None or not found.partitions:
        require_rights(cluster, reader_rights(topic))
        raise TopicMissing(
            f"topic {topic!r} is not there{hidden_hint(cluster)}, expected it to be created beforehand"
        )
    return sorted(found.partitions)


def check_denied(cluster: Cluster, error: KafkaError, topic: str) -> None:
    """Raises RightMissing if a reader's error says that the topic may not be read.

    That its group may not be used is no matter: it is never joined.
    """
    if denied_resource(error) is Resource.TOPIC:
        raise RightMissing(cluster, denied_rights(cluster, error, reader_rights(topic)))


def check_readable(message: Fetched, error: KafkaError) -> None:
    """Raises RecordUnreadable if a reader's error says that the records at its position cannot be
    read.
    """
    if is_unreadable(error):
        where = f"{message.topic()}/{message.partition()}@{message.offset()}"
        raise RecordUnreadable(f"{where}: cannot be read: {error.str()}")


class Reader:
    """Reads all partitions of a topic, from the beginning or from the end as it is at construction."""

    def __init__(self, cluster: Cluster, topic: str, from_beginning: bool) -> None:
        self._consumer = cluster.reader()
        self._topic, self._cluster = topic, cluster
        self._left = self._assign(from_beginning)

    def _assign(self, from_beginning: bool) -> set[int]:
        try:
            found = partitions_of(self._consumer, self._topic, self._cluster)
        except Failure:
            self._consumer.close()
            raise
        places = [TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in found]
        if not from_beginning:
            for place in places:
                place.offset = self._consumer.get_watermark_offsets(place, timeout=10)[1]
        self._consumer.assign(places)
        return set(found)

    def records(self, follow: bool, timeout: float | None = None) -> Iterator[Record]:
        """Records as they become readable; ends at the end of the topic, or after `timeout` seconds
        of silence.

        Raises RightMissing and RecordUnreadable.
        """
        heard = time.monotonic()
        while follow or self._left:
            messages = fetched(self._consumer.consume(1, 0.1))
            if not messages:
                if timeout is not None and time.monotonic() - heard > timeout:
                    return
                continue
            message = messages[0]
            error = message.error()
            if error is None:
                heard = time.monotonic()
                yield read_record(message)
            elif is_end(message):
                self._left.discard(message.partition())
            else:
                check_denied(self._cluster, error, self._topic)
                check_readable(message, error)
                if error.fatal():
                    raise KafkaException(error)

    def close(self) -> None:
        """Give the connection back."""
        self._consumer.close()
