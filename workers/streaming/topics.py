"""Topics: their names in a stage, and how they are created, described, configured and waited for.

Rules of creating:
- It is idempotent: a topic that exists with the partitions of its plan is fine.
- A topic with another partition count is an error, and then nothing is created.
- No count is ever changed: records that are there lie where the old count put them.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException

# The package exports these for use, only not in the form that strict typing asks for.
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    NewTopic,
)

from workers.errors import Failure
from workers.streaming.clients import Cluster

BROKERS_DEFAULT = -1
"""The replication factor of a new topic is the broker's own default."""

_NO_CONFIG: Mapping[str, str] = {}

# A broker that is just starting is asked again at once. A refused connection is not logged.
_EAGER = {"reconnect.backoff.ms": "20", "reconnect.backoff.max.ms": "200", "log_level": "0"}


class TopicError(Failure):
    """A topic is not as requested, or Kafka refused the request. The message names the topic."""


class BrokerUnreachable(Failure):
    """No broker answered in time."""


@dataclass(frozen=True)
class WorkerTopics:
    """The names of the topics that a worker reads and writes.

    `interactions` is None if no surface has outcomes. Then the worker writes no feed records.
    """

    candidates: str
    feeds: str
    dead_letters: str
    interactions: str | None = None

    @property
    def outputs(self) -> Mapping[str, str]:
        """The topics that a worker writes, by the kind of record."""
        outputs = {"feed": self.feeds, "dead_letter": self.dead_letters}
        if self.interactions is not None:
            outputs["feed_record"] = self.interactions
        return outputs


@dataclass(frozen=True)
class JoinTopics:
    """The names of the topics that the join of outcomes reads and writes.

    `dead_letters` is the topic of refused interactions.
    """

    interactions: str
    dead_letters: str
    request_outcomes: str
    feed_outcomes: str

    @property
    def outputs(self) -> Mapping[str, str]:
        """The topics that the join writes, by the kind of record."""
        return {
            "dead_letter": self.dead_letters,
            "request_outcome": self.request_outcomes,
            "feed_outcome": self.feed_outcomes,
        }


@dataclass(frozen=True)
class UsersTopics:
    """The names of the topics that the users stage reads and writes."""

    request_outcomes: str
    user_outcomes: str
    changelog: str


@dataclass(frozen=True)
class TopicPlan:
    """A topic that has to exist: its partition count, and its configuration if it is created."""

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
    """The names of the topics that were created, and of those that existed before."""

    created: tuple[str, ...]
    existing: tuple[str, ...]


@dataclass(frozen=True)
class ConfigChange:
    """One value of a topic's configuration, as it was and as it is now."""

    topic: str
    key: str
    before: str | None
    after: str


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
    replication_factor: int = BROKERS_DEFAULT,
) -> TopicsReady:
    """Create the topics that are missing. Return once every partition can be written and read.

    Raises TopicError if a topic has another partition count (then none is created) or Kafka refuses
    one, and BrokerUnreachable if no broker answers within `timeout` seconds.
    """
    admin = _admin(bootstrap, config)
    existing = _partition_counts(_metadata(admin, bootstrap, timeout))
    _check_partition_counts(plans, existing)
    missing = [plan for plan in plans if plan.name not in existing]
    created = _create(admin, missing, replication_factor, timeout)

    # A topic is known a moment before its partitions have leaders.
    deadline = time.monotonic() + timeout
    while True:
        metadata = _metadata(admin, bootstrap, timeout)
        if all(_has_leaders(metadata, plan.name) for plan in plans):
            break
        if time.monotonic() > deadline:
            names = ", ".join(plan.name for plan in plans)
            raise TopicError(
                f"topics {names}: created, but not every partition has a leader after {timeout:g} s"
            )
        admin.poll(0.02)
    _check_partition_counts(plans, _partition_counts(metadata))

    names_before = [plan.name for plan in plans if plan.name not in created]
    return TopicsReady(created=created, existing=tuple(names_before))


def describe_topics(
    bootstrap: str,
    names: Iterable[str],
    config: Mapping[str, str] = _NO_CONFIG,
    timeout: float = 15.0,
) -> dict[str, int]:
    """The partition count of each of the named topics that exists. Raises BrokerUnreachable."""
    counts = _partition_counts(_metadata(_admin(bootstrap, config), bootstrap, timeout))
    return {name: counts[name] for name in names if name in counts}


def describe_replicas(
    bootstrap: str,
    names: Iterable[str],
    config: Mapping[str, str] = _NO_CONFIG,
    timeout: float = 15.0,
) -> dict[str, int]:
    """How many replicas each of the named topics has, if it exists: those of the partition with the
    fewest. Raises BrokerUnreachable.
    """
    metadata = _metadata(_admin(bootstrap, config), bootstrap, timeout)
    replicas: dict[str, int] = {}
    for name in names:
        topic = metadata.topics.get(name)
        if topic is not None and topic.error is None and topic.partitions:
            counts = [len(partition.replicas) for partition in topic.partitions.values()]
            replicas[name] = min(counts)
    return replicas


def broker_addresses(
    bootstrap: str, config: Mapping[str, str] = _NO_CONFIG, timeout: float = 15.0
) -> list[str]:
    """The address under which each broker of the cluster says that it can be reached. Raises
    BrokerUnreachable.
    """
    metadata = _metadata(_admin(bootstrap, config), bootstrap, timeout)
    brokers = sorted(metadata.brokers.values(), key=lambda broker: broker.id)
    return [f"{broker.host}:{broker.port}" for broker in brokers]


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
    future: Future[dict[str, ConfigEntry]] = admin.describe_configs(
        [resource], request_timeout=timeout
    )[resource]
    try:
        entries = future.result()
    except KafkaException as refused:
        raise TopicError(f"topic {name!r}: {_reason(refused)}") from None
    return {key: entry.value for key, entry in entries.items() if entry.value is not None}


def update_topic_config(
    bootstrap: str,
    plan: TopicPlan,
    config: Mapping[str, str] = _NO_CONFIG,
    timeout: float = 15.0,
) -> tuple[ConfigChange, ...]:
    """Set what the plan says of a topic's configuration and is another value, and leave the rest as
    it is. Return what was changed. Raises TopicError and BrokerUnreachable.
    """
    current = topic_config(bootstrap, plan.name, config, timeout)
    changes: list[ConfigChange] = []
    entries: list[ConfigEntry] = []
    for key, value in plan.config.items():
        if current.get(key) == value:
            continue
        changes.append(ConfigChange(plan.name, key, before=current.get(key), after=value))
        entries.append(
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)  # others stay
        )
    if not changes:
        return ()

    resource = ConfigResource(ConfigResource.Type.TOPIC, plan.name, incremental_configs=entries)
    admin = _admin(bootstrap, config)  # held: a client that is collected answers nothing any more
    futures = admin.incremental_alter_configs([resource], request_timeout=timeout)
    try:
        futures[resource].result()
    except KafkaException as refused:
        raise TopicError(
            f"topic {plan.name!r}: its configuration cannot be changed: {_reason(refused)}"
        ) from None
    return tuple(changes)


def _admin(bootstrap: str, config: Mapping[str, str]) -> AdminClient:
    return Cluster(bootstrap, _EAGER | dict(config)).admin()


def _metadata(admin: AdminClient, bootstrap: str, timeout: float) -> ClusterMetadata:
    """The cluster's metadata, once a broker has registered: at its start it may be fenced."""
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


def _partition_counts(metadata: ClusterMetadata) -> dict[str, int]:
    """By name, the partition counts of the topics that exist."""
    counts: dict[str, int] = {}
    for name, topic in metadata.topics.items():
        if topic.error is None:
            counts[name] = len(topic.partitions)
    return counts


def _check_partition_counts(plans: Iterable[TopicPlan], existing: Mapping[str, int]) -> None:
    """Raises TopicError if a topic exists with another partition count than planned."""
    for plan in plans:
        count = existing.get(plan.name, plan.partitions)
        if count != plan.partitions:
            raise TopicError(
                f"topic {plan.name!r}: has {count} partitions, expected {plan.partitions}"
            )


def _has_leaders(metadata: ClusterMetadata, name: str) -> bool:
    """Whether a topic exists and every partition of it can be written and read."""
    topic = metadata.topics.get(name)
    if topic is None:
        return False
    return all(partition.leader >= 0 for partition in topic.partitions.values())


def _create(
    admin: AdminClient, plans: Sequence[TopicPlan], replication_factor: int, timeout: float
) -> tuple[str, ...]:
    """Create topics. Return the names of those that nobody else has created meanwhile."""
    if not plans:
        return ()
    new = []
    for plan in plans:
        new.append(
            NewTopic(plan.name, plan.partitions, replication_factor, config=dict(plan.config))
        )
    futures = admin.create_topics(new, operation_timeout=timeout, request_timeout=timeout)
    created: list[str] = []
    for name, future in futures.items():
        try:
            future.result()
        except KafkaException as refused:
            if refused.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                continue
            raise TopicError(f"topic {name!r}: cannot be created: {_reason(refused)}") from None
        created.append(name)
    return tuple(created)


def _reason(failed: KafkaException) -> str:
    return str(failed.args[0].str())
