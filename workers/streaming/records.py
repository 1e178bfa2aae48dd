"""Kafka messages as plain values, for everything that is not the hot path."""

from typing import NamedTuple

from confluent_kafka import TIMESTAMP_CREATE_TIME, KafkaError, Message

Headers = list[tuple[str, bytes | None]]


class Record(NamedTuple):
    """One record of a topic; `timestamp` in ms since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def read_record(message: Message) -> Record:
    """Copy a message out of the client."""
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        message.headers() or [],
    )


def is_end(message: Message) -> bool:
    """Whether this says that the partition is read to its end."""
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF


def is_create_time(message: Message) -> bool:
    """Whether the producer, not the broker, set the timestamp."""
    return bool(message.timestamp()[0] == TIMESTAMP_CREATE_TIME)
