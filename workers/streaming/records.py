"""Kafka messages: typed as what a consumer returns, and as plain values off the hot path.

Rule: everything that reads headers calls `read_headers`, and only once for each message.
"""

from collections.abc import Iterable
from operator import call
from typing import NamedTuple, Protocol, cast

from confluent_kafka import KafkaError, Message

from workers.log import log

Headers = list[tuple[str, bytes | None]]


class Fetched(Protocol):
    """A message as a consumer returns it: topic, partition and offset are never None. Its methods
    are the client's own.
    """

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Headers | None: ...
    def error(self) -> KafkaError | None: ...


def fetched(messages: Iterable[Message]) -> list[Fetched]:
    """Type what a consumer returned. Nothing is copied."""
    return cast(list[Fetched], messages)


class CountsHeaders(Protocol):
    """Counters that have one for records whose headers cannot be read."""

    unreadable_headers: int


def note_unreadable_headers(message: Fetched, counts: CountsHeaders) -> None:
    """Count a record whose headers cannot be read, and log the first."""
    counts.unreadable_headers += 1
    if counts.unreadable_headers == 1:
        log.warning(
            "headers_unreadable",
            partition=message.partition(),
            offset=message.offset(),
            error="got a header name that is not UTF-8, expected UTF-8",
            doing="reading the format from the bytes; counted from now on, and not logged again",
        )


def read_headers(message: Fetched) -> Headers | None:
    """The headers of a message, empty if it has none. None if they cannot be read, because a name
    is not UTF-8.

    The client (2.16) returns a list for such headers and leaves an exception behind. A call from
    Python bytecode does not check for that, so the exception would surface in a later, unrelated
    call. `operator.call` calls from C, which checks, and raises SystemError here. The list is
    damaged all the same, and the client keeps it: to read the headers of such a message a second
    time may crash the process. (A mended client would raise UnicodeDecodeError.)
    """
    try:
        return call(type(message).headers, message) or []
    except (SystemError, UnicodeDecodeError):
        return None


class Record(NamedTuple):
    """One record of a topic. `timestamp` in ms since the epoch; `headers` None if they cannot be
    read.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None


def read_record(message: Fetched) -> Record:
    """Copy a message out of the client."""
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        read_headers(message),
    )


_UNREADABLE = frozenset(
    {
        KafkaError._BAD_COMPRESSION,
        KafkaError._BAD_MSG,  # also a checksum that does not fit, if `check.crcs` is on
        KafkaError._NOT_IMPLEMENTED,
        KafkaError._UNDERFLOW,
        KafkaError.INVALID_MSG,  # the broker found it out
    }
)


def is_unreadable(error: KafkaError) -> bool:
    """Whether an error of a consumer means that it cannot read the records at its position: a batch
    that cannot be decompressed, that is damaged, or of an unknown format.

    The client repeats such an error, twice a second or as fast as it can, and goes no further. So
    its partition is not read meanwhile, and the others go on. It is tried again now and then, since
    another replica may have the records whole.
    """
    return error.code() in _UNREADABLE


def is_end(message: Fetched) -> bool:
    """Whether a message is not a record but the notice that its partition was read to its end."""
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF
