"""Kafka messages as plain values, for everything that is not the hot path."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol, cast

from confluent_kafka import KafkaError, Message

Headers = list[tuple[str, bytes | None]]


class Fetched(Protocol):
    """A message as a consumer gets it: all of its places are known. Its methods are the client's own."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Headers | None: ...
    def error(self) -> KafkaError | None: ...


def fetched(messages: Iterable[Message]) -> list[Fetched]:
    """What a consumer returned, typed as what it is."""
    return cast(list[Fetched], messages)


class Record(NamedTuple):
    """One record of a topic; `timestamp` in ms since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def read_record(message: Fetched) -> Record:
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


def is_end(message: Fetched) -> bool:
    """Whether this says that the partition is read to its end."""
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF
