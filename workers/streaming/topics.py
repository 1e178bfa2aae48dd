"""Topics: created, described and waited for, here so that no other room needs a Kafka client.

Creating is idempotent: a topic that exists with the partitions of its plan is fine, one with
another count is refused before anything is created. Records already written lie where the old count
put them: no count is changed.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException

# The package exports these for use, only not in the form that strict typing asks for.
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    NewTopic,
)

from workers.errors import Failure
from workers.streaming.clients import Cluster

_NO_CONFIG: Mapping[str, str] = {}

# A broker that is just starting is asked again at once, and a refused connection is no news worth a
# log line.
_EAGER = {"reconnect.backoff.ms": "20", "reconnect.backoff.max.ms": "200", "log_level": "0"}


class TopicError(Failure):
    """A topic is not as it was asked for, or Kafka refused the request; the message names the
    topic.
    """


class BrokerUnreachable(Failure):
    """No broker answered in time."""


@dataclass(frozen=True)
class WorkerTopics:
    """The names of the topics that a worker reads and writes."""

    candidates: str
    feeds: str
    dead_letters: str


@dataclass(frozen=True)
class TopicPlan:
    """A topic that has to be there: its partitions, and its configuration where it is created."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name: got '', expected the name of a topic")
        if self.partitions < 1:
            raise ValueError(
                f"partitions of {self.name!r}: got {self.partitions}, expected at least 1"
            )


@dataclass(frozen=True)
class TopicsReady:
    """The names of the topics that were created, and of those that had been there."""

    created: tuple[str, ...]
    existing: tuple[str, ...]


def wait_until_answers(
    bootstrap: str, timeout: float, config: Mapping[str, str] = _NO_CONFIG
) -> None:
    """Return once a broker of the cluster takes requests. Raises BrokerUnreachable after `timeout`
    seconds.
    """
    _metadata(_admin(bootstrap, config), bootstrap, timeout)


def create_topics(
    bootstrap: str,
    plans: Sequence[TopicPlan],
    config: Mapping[str, str] = _NO_CONFIG,
    timeout: float = 15.0,
) -> TopicsReady:
    """Create the topics that are missing, replicated as the broker's default says.

    Raises TopicError where a topic has another number of partitions (then none is created) or Kafka
    refuses one, BrokerUnreachable where no broker answers within `timeout` seconds.
    """
    admin = _admin(bootstrap, config)
    existing = _partitions(_metadata(admin, bootstrap, timeout))
    _check_partitions(plans, existing)
    missing = [plan for plan in plans if plan.name not in existing]
    created = _create(admin, missing, timeout)
    _wait_until_led(admin, bootstrap, plans, timeout)
    return TopicsReady(created, tuple(plan.name for plan in plans if plan.name not in created))


def describe_topics(
    bootstrap: str,
    names: Iterable[str],
    config: Mapping[str, str] = _NO_CONFIG,
    timeout: float = 15.0,
) -> dict[str, int]:
    """The partitions of each of the named topics that exists. Raises BrokerUnreachable."""
    found = _partitions(_metadata(_admin(bootstrap, config), bootstrap, timeout))
    return {name: found[name] for name in names if name in found}


def topic_config(
    bootstrap: str,
    name: str,
    config: Mapping[str, str] = _NO_CONFIG,
    timeout: float = 15.0,
) -> dict[str, str]:
    """The whole configuration of a topic, defaults included. Raises TopicError and
    BrokerUnreachable.
    """
    admin = _admin(bootstrap, config)
    _metadata(admin, bootstrap, timeout)
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    answer: Future[dict[str, ConfigEntry]] = admin.describe_configs(
        [resource], request_timeout=timeout
    )[resource]
    try:
        return {
            key: entry.value for key, entry in answer.result().items() if entry.value is not None
        }
    except KafkaException as refused:
        raise TopicError(f"topic {name!r}: {_reason(refused)}") from None


def _admin(bootstrap: str, config: Mapping[str, str]) -> AdminClient:
    return Cluster(bootstrap, _EAGER | dict(config)).admin()


def _metadata(admin: AdminClient, bootstrap: str, timeout: float) -> ClusterMetadata:
    """What the cluster knows of itself, once it has a broker: one that has just started may still
    be fenced.
    """
    deadline = time.monotonic() + timeout
    reason = "no broker has registered"
    while (left := deadline - time.monotonic()) > 0:
        try:
            metadata = admin.list_topics(timeout=left)
            if metadata.brokers:
                return metadata
        except KafkaException as failed:
            reason = _reason(failed)
        admin.poll(0.02)
    raise BrokerUnreachable(f"no Kafka answers at {bootstrap} within {timeout:g} s: {reason}")


def _partitions(metadata: ClusterMetadata) -> dict[str, int]:
    return {
        name: len(topic.partitions)
        for name, topic in metadata.topics.items()
        if topic.error is None
    }


def _check_partitions(plans: Iterable[TopicPlan], existing: Mapping[str, int]) -> None:
    for plan in plans:
        count = existing.get(plan.name, plan.partitions)
        if count != plan.partitions:
            raise TopicError(
                f"topic {plan.name!r}: has {count} partitions, expected {plan.partitions}"
            )


def _create(admin: AdminClient, plans: Sequence[TopicPlan], timeout: float) -> tuple[str, ...]:
    if not plans:
        return ()
    wanted = [NewTopic(plan.name, plan.partitions, -1, config=dict(plan.config)) for plan in plans]
    futures = admin.create_topics(wanted, operation_timeout=timeout, request_timeout=timeout)
    return tuple(name for name, future in futures.items() if _was_created(name, future))


def _was_created(name: str, future: "Future[None]") -> bool:
    try:
        future.result()
    except KafkaException as refused:
        if refused.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise TopicError(f"topic {name!r}: cannot be created: {_reason(refused)}") from None
    return True


def _wait_until_led(
    admin: AdminClient, bootstrap: str, plans: Sequence[TopicPlan], timeout: float
) -> None:
    """Wait until every partition can be written and read: a topic is known a moment before it is
    led.
    """
    deadline = time.monotonic() + timeout
    while not _are_led(plans, metadata := _metadata(admin, bootstrap, timeout)):
        if time.monotonic() > deadline:
            names = ", ".join(plan.name for plan in plans)
            raise TopicError(
                f"topics {names}: created, but not every partition has a leader after {timeout:g} s"
            )
        admin.poll(0.02)
    _check_partitions(plans, _partitions(metadata))


def _are_led(plans: Iterable[TopicPlan], metadata: ClusterMetadata) -> bool:
    topics = [metadata.topics.get(plan.name) for plan in plans]
    return all(topic and all(p.leader >= 0 for p in topic.partitions.values()) for topic in topics)


def _reason(failed: KafkaException) -> str:
    return str(failed.args[0].str())
