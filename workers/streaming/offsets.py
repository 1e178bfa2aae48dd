"""Offsets as the broker knows them: what a group has committed, and where a partition begins and
ends.
"""

from collections.abc import Collection
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import closing
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaException,
    TopicPartition,
)

# The package exports this for use, only not in the form that strict typing asks for.
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from workers.errors import Failure
from workers.streaming.clients import Cluster
from workers.streaming.rights import (
    denials_named,
    denied_resource,
    offsets_rights,
    require_rights,
)
from workers.streaming.topics import BrokerUnreachable

T = TypeVar("T")
SECONDS = 5.0
"""How long the broker has to answer."""


class OffsetNotMoved(Failure):
    """The broker did not take the new offset."""


class Moved(NamedTuple):
    """A committed offset before and after."""

    before: int
    after: int


def skip_command(partition: int, offset: int) -> str:
    """What lets a partition go on behind a record that cannot be read, for people."""
    return f"stop the group's workers, then: trimtab offsets skip --partition {partition} --offset {offset}"


def committed_of(cluster: Cluster, group: str, where: TopicPartition) -> TopicPartition:
    """What the group has committed there, for tools; `error` says if a transaction on it is
    undecided. Raises KafkaException.

    A consumer is asked, and not an admin client: see restore.py.
    """
    with closing(cluster.reader(group)) as consumer:
        return consumer.committed([where], SECONDS)[0]


def answer_of(future: "Future[T]", seconds: float = SECONDS + 1.0) -> T:
    """Wait for what an admin client was asked. Raises what that raises, and BrokerUnreachable: it
    does not always keep its own limit.
    """
    try:
        return future.result(seconds)
    except FutureTimeout:
        raise BrokerUnreachable(f"Kafka gave no answer within {seconds:g} s") from None


def ask_earliest(admin: AdminClient, where: TopicPartition) -> "Future[Any]":
    """The first offset that is left."""
    return admin.list_offsets({where: _spec("earliest")}, request_timeout=SECONDS)[where]


def ask_latest(admin: AdminClient, where: TopicPartition) -> "Future[Any]":
    """The high watermark: under read_committed the broker would answer with the last stable offset."""
    return ask_latest_of(admin, [where])[where]


def ask_latest_of(
    admin: AdminClient, places: Collection[TopicPartition]
) -> "dict[TopicPartition, Future[Any]]":
    """The high watermarks of several partitions, in one request to each broker."""
    level = IsolationLevel.READ_UNCOMMITTED
    asked = {where: _spec("latest") for where in places}
    return dict(admin.list_offsets(asked, isolation_level=level, request_timeout=SECONDS))


def ask_stable(admin: AdminClient, where: TopicPartition) -> "Future[Any]":
    """The last stable offset: below it every transaction is decided."""
    level = IsolationLevel.READ_COMMITTED
    return admin.list_offsets(
        {where: _spec("latest")}, isolation_level=level, request_timeout=SECONDS
    )[where]


def ask_since(admin: AdminClient, where: TopicPartition, timestamp: int) -> "Future[Any]":
    """The first offset whose record is not older than `timestamp` (ms since the epoch); -1 where
    there is none.
    """
    level = IsolationLevel.READ_UNCOMMITTED
    spec = OffsetSpec.for_timestamp(timestamp)
    return admin.list_offsets({where: spec}, isolation_level=level, request_timeout=SECONDS)[where]


def _spec(which: str) -> Any:
    return getattr(OffsetSpec, which)()


def resume_from_earliest(cluster: Cluster, group: str, topic: str, partition: int) -> Moved:
    """Commit the earliest offset that is left, without a pointer: the next restore reads the whole
    output.

    Raises OffsetNotMoved where the group still has members, RightMissing, and BrokerUnreachable or
    KafkaException where the broker does not answer.
    """
    needed = offsets_rights(topic, group)
    require_rights(cluster, needed)
    admin, where = cluster.admin(), TopicPartition(topic, partition)
    with denials_named(cluster, needed):
        before = committed_of(cluster, group, where).offset
        earliest = answer_of(ask_earliest(admin, where)).offset
        move(admin, group, TopicPartition(topic, partition, earliest))
    return Moved(before, earliest)


def move(admin: AdminClient, group: str, to: TopicPartition) -> None:
    """Commit an offset and its metadata for a group. Raises OffsetNotMoved if the group still has
    members, BrokerUnreachable, and KafkaException if the broker denies it.
    """
    request = ConsumerGroupTopicPartitions(group, [to])
    moved = answer_of(admin.alter_consumer_group_offsets([request], request_timeout=SECONDS)[group])
    failure = moved.topic_partitions[0].error
    if failure is not None:
        if denied_resource(failure) is not None:
            raise KafkaException(failure)
        raise OffsetNotMoved(
            f"partition {to.partition}: {failure.str()}; are the group's workers stopped?"
        )
