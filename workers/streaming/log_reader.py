"""Reading a topic: where its partitions begin and end, and its committed records.

Three levels, the lowest first:

- `ask_earliest`, `ask_latest` and so on ask the broker for offsets and do not wait. `answer_of`
  waits for the answer.
- `LogReader` reads partitions from an offset up to another and never waits longer than its caller
  allows. The restore, `Recent` and `trimtab offsets skip` are built on it.
- `TopicReader` reads all partitions of a topic to their end, or follows them. `read_topic` does it
  in one call. Tests use these two:

      records = read_topic(Cluster(kafka), "ranked-feeds")

      with closing(TopicReader(Cluster(kafka), "ranked-feeds", from_beginning=True)) as reader:
          for record in reader.records(follow=True, timeout=5.0): ...

Rules:
- Only committed records are read. Behind an undecided transaction nothing can be read.
- A consumer is assigned at a number and never at a logical offset ("beginning", "end"): librdkafka
  looks a logical offset up later and may then jump past unread records.
- Transaction markers and records of aborted transactions take offsets and are not seen. So a
  partition is read up to `stop` if a record or an end at `stop` or past it was seen.
- Behind records that cannot be read the client may go on at random. So nothing more of such a
  partition is returned until it is started again.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition

# The package exports this for use, only not in the form that strict typing asks for.
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from workers.errors import Failure
from workers.streaming.clients import Cluster
from workers.streaming.records import Record, fetched, is_end, is_unreadable, read_record
from workers.streaming.rights import (
    Resource,
    RightMissing,
    denials_named,
    denied_resource,
    denied_rights,
    hidden_hint,
    reader_rights,
    require_rights,
)
from workers.streaming.topics import BrokerUnreachable

T = TypeVar("T")

SECONDS = 5.0
"""How long the broker has to answer a request for offsets."""
_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_METADATA_SECONDS = 10.0
# Errors of a broker that has just started, woken up, or given a partition to another one.
_LEADER_MOVES = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
    }
)
_BATCH = 5000


class TopicMissing(Failure):
    """The topic does not exist. The message names it and says what to do."""


class TopicSilent(Failure):
    """The end of the topic was not reached in time. The message names what was left to read."""


class RecordUnreadable(Failure):
    """The records at an offset cannot be read, nor anything behind them. The message names the
    place.
    """


# Offsets as the broker knows them


class Watermarks(NamedTuple):
    """The first offset of a partition, and the one after its last record."""

    earliest: int
    latest: int


def ask_earliest(admin: AdminClient, where: TopicPartition) -> "Future[Any]":
    """The first offset that is left."""
    return admin.list_offsets({where: _EARLIEST}, request_timeout=SECONDS)[where]


def ask_latest(admin: AdminClient, where: TopicPartition) -> "Future[Any]":
    """The high watermark, and not the last stable offset as under read_committed."""
    return ask_latest_of(admin, [where])[where]


def ask_latest_of(
    admin: AdminClient, partitions: Collection[TopicPartition]
) -> "dict[TopicPartition, Future[Any]]":
    """The high watermarks of several partitions, in one request to each broker."""
    requests = dict.fromkeys(partitions, _LATEST)
    answers = admin.list_offsets(
        requests, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=SECONDS
    )
    return dict(answers)


def ask_stable(admin: AdminClient, where: TopicPartition) -> "Future[Any]":
    """The last stable offset: every transaction below it is decided."""
    answers = admin.list_offsets(
        {where: _LATEST},
        isolation_level=IsolationLevel.READ_COMMITTED,
        request_timeout=SECONDS,
    )
    return answers[where]


def ask_since(admin: AdminClient, where: TopicPartition, timestamp: int) -> "Future[Any]":
    """The first offset whose record is not older than `timestamp` (ms since the epoch); -1 if there
    is no such record.
    """
    answers = admin.list_offsets(
        {where: OffsetSpec.for_timestamp(timestamp)},
        isolation_level=IsolationLevel.READ_UNCOMMITTED,
        request_timeout=SECONDS,
    )
    return answers[where]


def answer_of(future: "Future[T]", seconds: float = SECONDS + 1.0) -> T:
    """Wait for the answer to a request of an admin client, which does not always keep its own
    limit.

    Raises what the request raises, and BrokerUnreachable after `seconds`.
    """
    try:
        return future.result(seconds)
    except FutureTimeout:
        raise BrokerUnreachable(f"Kafka gave no answer within {seconds:g} s") from None


def partitions_of(client: Consumer | AdminClient, topic: str, cluster: Cluster) -> list[int]:
    """The partitions of a topic. Raises TopicMissing, RightMissing and BrokerUnreachable."""
    try:
        # All topics are asked for: if brokers create topics that are asked for by name, this one
        # stays missing.
        metadata = client.list_topics(timeout=_METADATA_SECONDS).topics.get(topic)
    except KafkaException as error:
        why = cluster.connection_error() or error.args[0].str()
        raise BrokerUnreachable(f"no Kafka answers at {cluster.bootstrap}: {why}") from None

    if metadata is None or not metadata.partitions:
        require_rights(cluster, reader_rights(topic))
        raise TopicMissing(
            f"topic {topic!r} is not there{hidden_hint(cluster)}, expected it to be created"
            " beforehand"
        )
    return sorted(metadata.partitions)


def ask_each(
    admin: AdminClient,
    topic: str,
    partitions: Collection[int],
    ask: "Callable[[AdminClient, TopicPartition], Future[Any]]",
    seconds: float = 30.0,
) -> dict[int, int]:
    """Ask for an offset of each partition, and wait for the answers. Ask again while the leader of
    a partition moves, for `seconds` at most.

    Raises BrokerUnreachable, and KafkaException if the broker refuses.
    """
    began = time.monotonic()
    while True:
        futures = {
            partition: ask(admin, TopicPartition(topic, partition)) for partition in partitions
        }
        try:
            return {partition: answer_of(future).offset for partition, future in futures.items()}
        except KafkaException as error:
            is_over = time.monotonic() - began > seconds
            if is_over or error.args[0].code() not in _LEADER_MOVES:
                raise
        admin.poll(0.02)


# Partitions from an offset up to another


class ReadEnd(NamedTuple):
    """Everything below `offset` of a partition was read. Under read_committed that is the last
    stable offset, so more records may follow.
    """

    topic: str
    partition: int
    offset: int


class ReadError(NamedTuple):
    """An error of the client. `offset` is where it was met, if the client names a place.

    `is_unreadable`: the records at this place cannot be read, and the partition was stopped.
    """

    topic: str
    partition: int
    offset: int
    error: KafkaError
    is_unreadable: bool


ReadEvent = Record | ReadEnd | ReadError


@dataclass
class _PartitionRead:
    """How far a partition is read. `stop` None: without an end."""

    position: int
    stop: int | None
    is_unreadable: bool = False

    @property
    def is_complete(self) -> bool:
        return self.stop is not None and self.position >= self.stop


class LogReader:
    """Reads committed records of several partitions, each in the order of its offsets.

    Not thread-safe. A partition leaves the reader by itself once it is read up to its `stop`.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._consumer = cluster.reader()
        self._reading: dict[tuple[str, int], _PartitionRead] = {}

    @property
    def is_reading(self) -> bool:
        """Whether a partition is not read up to its `stop`. Always if one has none."""
        return bool(self._reading)

    def is_reading_partition(self, topic: str, partition: int) -> bool:
        """Whether a partition was started and is not read up to its `stop`."""
        return (topic, partition) in self._reading

    def start(self, topic: str, partition: int, offset: int, stop: int | None = None) -> None:
        """Begin to read a partition at `offset`, up to but not including `stop`."""
        reading = _PartitionRead(offset, stop)
        if reading.is_complete:
            return
        self._reading[topic, partition] = reading
        self._consumer.incremental_assign([TopicPartition(topic, partition, offset)])

    def drop(self, topic: str, partition: int) -> None:
        """Read no further in a partition; nothing happens if it is not being read."""
        if self._reading.pop((topic, partition), None) is not None:
            self._consumer.incremental_unassign([TopicPartition(topic, partition)])

    def poll(self, seconds: float = 0.0) -> list[ReadEvent]:
        """Return what has come. Waits for a first message, at most `seconds`."""
        messages = fetched(self._consumer.consume(1, seconds)) if seconds else []
        messages += fetched(self._consumer.consume(_BATCH, 0))

        events: list[ReadEvent] = []
        for message in messages:
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            error = message.error()
            reading = self._reading.get((topic, partition))

            if error is not None and not is_end(message):
                if reading is not None and reading.is_unreadable:
                    continue
                cannot_read = is_unreadable(error)
                events.append(ReadError(topic, partition, offset, error, cannot_read))
                if reading is not None:
                    reading.is_unreadable = cannot_read
                continue

            if reading is None or reading.is_unreadable:
                continue
            if error is None:
                if reading.stop is None or offset < reading.stop:
                    events.append(read_record(message))
                reading.position = offset + 1
            else:
                events.append(ReadEnd(topic, partition, offset))
                reading.position = max(reading.position, offset)
            if reading.is_complete:
                self.drop(topic, partition)
        return events

    def close(self) -> None:
        """Give the connection back."""
        self._consumer.close()


def raise_if_final(cluster: Cluster, topic: str, event: ReadError) -> None:
    """Raises what a tool ends with if it is of no use to read on; returns if the client tries
    again. `topic` is what the tool reads.

    - RightMissing: the topic may not be read. (That the reader's group may not be used does not
      matter: it is never joined.)
    - RecordUnreadable: the records at this place cannot be read.
    - KafkaException: the error is fatal.
    """
    error = event.error
    if denied_resource(error) is Resource.TOPIC:
        raise RightMissing(cluster, denied_rights(cluster, error, reader_rights(topic)))
    if event.is_unreadable:
        where = f"{event.topic}/{event.partition}@{event.offset}"
        raise RecordUnreadable(f"{where}: cannot be read: {error.str()}")
    if error.fatal():
        raise KafkaException(error)


def describe_silence(topic: str, seconds: float, unread: Mapping[int, int]) -> str:
    """What was not read within `seconds`: partitions, each with the offset that was to be reached."""
    places = [f"{partition} to offset {end}" for partition, end in sorted(unread.items())]
    return (
        f"topic {topic!r}: nothing came for {seconds:g} s, expected to read on in"
        f" partition {', '.join(places)}; is a transaction undecided there?"
    )


# Whole topics


class TopicReader:
    """Reads all partitions of a topic, from the beginning or from the end at construction.

    The constructor raises TopicMissing, RightMissing, BrokerUnreachable, and KafkaException if the
    broker does not answer where a partition begins.
    """

    def __init__(self, cluster: Cluster, topic: str, from_beginning: bool) -> None:
        self._cluster = cluster
        self._topic = topic
        self._reader = LogReader(cluster)
        self._events: deque[ReadEvent] = deque()
        try:
            admin = cluster.admin()
            partitions = partitions_of(admin, topic, cluster)
            with denials_named(cluster, reader_rights(topic)):
                ask = ask_earliest if from_beginning else ask_stable
                starts = ask_each(admin, topic, partitions, ask)
        except Exception:
            self._reader.close()
            raise

        self._admin = admin
        self._positions = starts
        self._before_end = set(starts)
        for partition, offset in starts.items():
            self._reader.start(topic, partition, offset)

    def records(self, follow: bool, timeout: float | None = None) -> Iterator[Record]:
        """Records as they become readable, without end if `follow`, else up to the end of each
        partition. Ends after `timeout` seconds without a record.

        May be called again, and goes on then. Raises RightMissing, RecordUnreadable and
        KafkaException.
        """
        last_record_at = time.monotonic()
        while follow or self._before_end:
            if not self._events:
                self._events.extend(self._reader.poll(0.1))
            if not self._events:
                if timeout is not None and time.monotonic() - last_record_at > timeout:
                    return
                continue

            record = self._note(self._events.popleft())
            if record is not None:
                last_record_at = time.monotonic()
                yield record

    @property
    def partitions(self) -> list[int]:
        """The partitions of the topic."""
        return sorted(self._positions)

    def take(self, seconds: float = 0.0) -> list[Record]:
        """Return the records that have come. Waits for a first one at most `seconds`.

        Raises RightMissing, RecordUnreadable and KafkaException.
        """
        if not self._events:
            self._events.extend(self._reader.poll(seconds))

        records = []
        while self._events:
            record = self._note(self._events.popleft())
            if record is not None:
                records.append(record)
        return records

    def records_to_end(self, silence: float = 30.0) -> Iterator[Record]:
        """Records up to the high watermarks as they are now, and perhaps further. Unlike `records`
        this waits until transactions that are undecided now are decided.

        Raises TopicSilent after `silence` seconds without progress, BrokerUnreachable, and what
        `records` raises.
        """
        ends = ask_each(self._admin, self._topic, self._positions, ask_latest, silence)
        progress_at = time.monotonic()
        unread = self._unread(ends)
        while unread:
            before = dict(self._positions)
            yield from self.take(0.1)

            unread = self._unread(ends)
            if self._positions != before:
                progress_at = time.monotonic()
            elif unread and time.monotonic() - progress_at > silence:
                raise TopicSilent(describe_silence(self._topic, silence, unread))

    def _unread(self, ends: Mapping[int, int]) -> dict[int, int]:
        """The partitions that are not read up to these ends, each with its end."""
        return {
            partition: end for partition, end in ends.items() if self._positions[partition] < end
        }

    def _note(self, event: ReadEvent) -> Record | None:
        """Note how far an event brings its partition. Return the record if it is one."""
        if isinstance(event, Record):
            self._positions[event.partition] = event.offset + 1
            return event
        if isinstance(event, ReadEnd):
            known = self._positions[event.partition]
            self._positions[event.partition] = max(known, event.offset)
            self._before_end.discard(event.partition)
            return None
        raise_if_final(self._cluster, self._topic, event)
        return None

    def close(self) -> None:
        """Give the connection back."""
        self._reader.close()


def read_topic(cluster: Cluster, topic: str) -> list[Record]:
    """The committed records of a topic to its end. Raises what TopicReader raises."""
    with closing(TopicReader(cluster, topic, from_beginning=True)) as reader:
        return list(reader.records(follow=False))
