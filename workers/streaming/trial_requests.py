"""What can only be known of a Kafka by a request: whether each listener answers, which requests the
brokers know, and the rights that nobody can be asked about. For `trimtab doctor`.

Rules:
- No record is written to a topic, no offset is committed, and no group is joined.
- No admin client asks about a group or a transactional id (librdkafka #5397).
- The right to Read a group is tried by committing for a topic that does not exist: the broker
  checks the group first, and then has nothing to commit.
- A transactional id can only be tried by taking it. The one that is taken ends in `-doctor`, so no
  worker is fenced. The broker forgets it after a week (`transactional.id.expiration.ms`).
"""

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
)

from workers.streaming.clients import Cluster
from workers.streaming.rights import Resource, denied_resource

_SECONDS = 5.0
_NO_TOPIC = "trimtab.doctor.no-such-topic"
_API = re.compile(r"ApiKey (\w+) \(-?\d+\) Versions -?\d+\.\.(-?\d+)")

TXN_OFFSET_COMMIT = "TxnOffsetCommit"
CONSUMER_GROUP_HEARTBEAT = "ConsumerGroupHeartbeat"


def listener_error(cluster: Cluster, address: str) -> str:
    """Why a listener does not answer. Empty if it does."""
    there = replace(cluster, bootstrap=address)
    try:
        there.admin().list_topics(timeout=_SECONDS)
    except KafkaException as failed:
        return there.connection_error() or str(failed.args[0].str())
    return ""


def known_requests(cluster: Cluster) -> Mapping[str, int]:
    """The requests that the brokers know, and the highest version of each. If brokers differ, the
    lowest of them. Empty if no broker says.

    The client gives this away only in its debug log.
    """
    lines: list[str] = []
    logger = logging.Logger(f"{__name__}.requests")
    logger.addHandler(_Lines(lines))
    properties: dict[str, Any] = {**cluster.properties, "debug": "feature", "log_level": "7"}
    properties |= {"bootstrap.servers": cluster.bootstrap, "logger": logger}
    client = AdminClient(properties)
    try:
        client.list_topics(timeout=_SECONDS)
    except KafkaException:
        return {}
    client.poll(0.2)

    versions: dict[str, int] = {}
    for line in lines:
        found = _API.search(line)
        if found:
            name, version = found[1], int(found[2])
            versions[name] = min(version, versions.get(name, version))
    return versions


class _Lines(logging.Handler):
    """Keeps the messages."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


def group_error(cluster: Cluster, group: str) -> KafkaError | None:
    """Why a consumer could not commit in this group. None if it could."""
    errors: list[KafkaError] = []
    consumer = cluster.member(
        group, "doctor", "range", errors.append
    )  # not subscribed: joins nothing
    offset = TopicPartition(_NO_TOPIC, 0, 0)
    try:
        # Finds the coordinator, with a time limit: a commit has none.
        consumer.committed([offset], timeout=_SECONDS)
        consumer.commit(offsets=[offset], asynchronous=False)
    except KafkaException as failed:
        errors.append(failed.args[0])
        # A client that may not find the coordinator tries again and again, and says why only here.
        event = consumer.poll(0.1)
        reason = None if event is None else event.error()
        if reason is not None:
            errors.append(reason)
    finally:
        consumer.close()

    for error in errors:
        if denied_resource(error) is Resource.GROUP:
            return error
    for error in errors:
        if error.code() == KafkaError._TIMED_OUT:
            return error
    return None


def transactional_error(cluster: Cluster, group: str) -> KafkaError | None:
    """Why a worker of this group could not take a transactional id. None if it could."""
    producer = cluster.transactional(f"{group}-doctor", batch_bytes=100_000)
    try:
        producer.init_transactions(_SECONDS)
    except KafkaException as failed:
        error: KafkaError = failed.args[0]
        return error
    return None


def has_records_after(cluster: Cluster, topic: str, partitions: int, at_ms: int) -> bool:
    """Whether a record of the topic has a later time. Raises KafkaException."""
    reader = cluster.reader()
    times = [TopicPartition(topic, number, at_ms) for number in range(partitions)]
    try:
        found = reader.offsets_for_times(times, timeout=_SECONDS)
    finally:
        reader.close()
    return any(partition.offset >= 0 for partition in found)


def broker_setting(cluster: Cluster, key: str) -> str | None:
    """A setting of a broker. None if this user may not see it."""
    admin = cluster.admin()
    brokers = admin.list_topics(timeout=_SECONDS).brokers
    resource = ConfigResource(ConfigResource.Type.BROKER, str(min(brokers)))
    future = admin.describe_configs([resource], request_timeout=_SECONDS)[resource]
    try:
        entry = future.result().get(key)
    except KafkaException:
        return None
    return None if entry is None else entry.value


def now_ms() -> int:
    """This machine's clock."""
    return time.time_ns() // 1_000_000
