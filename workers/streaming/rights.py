"""Rights: what a command must be allowed to do if the broker has an authorizer, and which of these
rights are missing.

Rules:
- An error names the right that is missing: its operation, its resource, and the line of
  kafka-acls.sh that grants it.
- The broker is asked which operations it allows. Nothing is tried out, and nothing is written.
- A broker that does not answer that counts as allowing. What it then denies is named when it is
  denied.
- A topic that the broker hides allows nothing at all: Read and Write imply Describe.
- The broker is asked about topics only. It cannot be asked about a transactional id or the cluster.
  An admin client that asks about a group crashes the process if the group's coordinator goes away
  meanwhile (librdkafka 2.16, see its #5397). These rights are named when they are denied.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from enum import Enum
from itertools import groupby
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from workers.errors import Failure
from workers.streaming.clients import Cluster

_SECONDS = 5.0
"""How long the broker has to answer what it allows."""
_PLAIN = frozenset({"", "plaintext"})


class Resource(Enum):
    """What a right is on; the value is the option of kafka-acls.sh."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_ID = "transactional-id"
    CLUSTER = "cluster"


_DENIALS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: Resource.TOPIC,
    KafkaError.GROUP_AUTHORIZATION_FAILED: Resource.GROUP,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Resource.TRANSACTIONAL_ID,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: Resource.CLUSTER,
}
_OPERATIONS = {
    "Describe": "DESCRIBE",
    "DescribeConfigs": "DESCRIBE_CONFIGS",
    "Read": "READ",
    "Write": "WRITE",
}


class Right(NamedTuple):
    """One operation on one resource, as kafka-acls.sh names them. If there is a `prefix`, it is
    granted on all names that begin so.
    """

    operation: str
    resource: Resource
    name: str
    prefix: str = ""

    def __str__(self) -> str:
        if self.resource is Resource.CLUSTER:
            return f"{self.operation} on the cluster"
        return f"{self.operation} on {self.resource.value.replace('-', ' ')} {self.name!r}"


class RightMissing(Failure):
    """The broker's authorizer denies what the command needs. The message names the rights, and how
    to grant them.
    """

    def __init__(self, cluster: Cluster, missing: Sequence[Right]) -> None:
        super().__init__(describe_missing(cluster, missing))
        self.missing = tuple(missing)


# What is needed


_INPUT_OPERATIONS = ("Describe", "DescribeConfigs", "Read")
_OUTPUT_OPERATIONS = ("Describe", "DescribeConfigs", "Write")
_RESTORED_OPERATIONS = ("Describe", "DescribeConfigs", "Read", "Write")
"""On a topic that is written, and read again by a restore."""


def worker_rights(
    *,
    candidates: str,
    feeds: str,
    dead_letters: str,
    group: str,
    transactional_id: str,
    interactions: str | None = None,
) -> tuple[Right, ...]:
    """What a worker cannot do without. `interactions` is None if no surface has outcomes.

    After a change of rules it also reads the dead letters. Without the right to do that it goes on,
    and logs it.
    """
    operations_on = {
        candidates: _INPUT_OPERATIONS,
        feeds: _RESTORED_OPERATIONS,
        dead_letters: _OUTPUT_OPERATIONS,
    }
    if interactions is not None:
        operations_on[interactions] = _OUTPUT_OPERATIONS
    return (*_topic_rights(operations_on), *_member_rights(group, transactional_id))


def join_rights(
    *,
    interactions: str,
    dead_letters: str,
    request_outcomes: str,
    feed_outcomes: str,
    group: str,
    transactional_id: str,
) -> tuple[Right, ...]:
    """What the join of outcomes cannot do without. A restore reads the sums."""
    operations_on = {
        interactions: _INPUT_OPERATIONS,
        dead_letters: _OUTPUT_OPERATIONS,
        request_outcomes: _OUTPUT_OPERATIONS,
        feed_outcomes: _RESTORED_OPERATIONS,
    }
    return (*_topic_rights(operations_on), *_member_rights(group, transactional_id))


def users_rights(
    *, request_outcomes: str, user_outcomes: str, changelog: str, group: str
) -> tuple[Right, ...]:
    """What the users stage cannot do without. A restore reads the changelog."""
    operations_on = {
        request_outcomes: _INPUT_OPERATIONS,
        user_outcomes: _OUTPUT_OPERATIONS,
        changelog: _RESTORED_OPERATIONS,
    }
    return (*_topic_rights(operations_on), Right("Read", Resource.GROUP, group))


def _topic_rights(operations_on: Mapping[str, Sequence[str]]) -> Iterator[Right]:
    for topic, operations in operations_on.items():
        for operation in operations:
            yield Right(operation, Resource.TOPIC, topic)


def _member_rights(group: str, transactional_id: str) -> tuple[Right, ...]:
    """What a member of a group needs that commits in transactions."""
    return (
        Right("Read", Resource.GROUP, group),
        Right("Write", Resource.TRANSACTIONAL_ID, transactional_id, prefix=f"{group}-"),
    )


def reader_rights(topic: str) -> tuple[Right, ...]:
    """What a tool needs to read a topic. It joins no group."""
    return (Right("Describe", Resource.TOPIC, topic), Right("Read", Resource.TOPIC, topic))


def sender_rights(topic: str) -> tuple[Right, ...]:
    """What `trimtab produce` needs. Brokers before Kafka 3.0 require the last of them too."""
    return (
        Right("Describe", Resource.TOPIC, topic),
        Right("Write", Resource.TOPIC, topic),
        Right("IdempotentWrite", Resource.CLUSTER, "kafka-cluster"),
    )


def group_rights(groups: Iterable[str]) -> tuple[Right, ...]:
    """What a tool needs to see the members of groups."""
    return tuple(Right("Describe", Resource.GROUP, group) for group in groups)


def offsets_rights(topic: str, group: str) -> tuple[Right, ...]:
    """What `trimtab offsets` needs. To change a group's offsets takes Read on both."""
    return (*reader_rights(topic), Right("Read", Resource.GROUP, group))


# Naming


def describe_missing(cluster: Cluster, missing: Sequence[Right]) -> str:
    """The missing rights, and the commands that grant them."""
    names = ", ".join(str(right) for right in missing)
    return (
        f"missing on the broker's authorizer: {names}; grant it: {grant_commands(cluster, missing)}"
    )


def grant_commands(cluster: Cluster, rights: Iterable[Right]) -> str:
    """The lines of kafka-acls.sh that grant these rights, one for each resource."""
    user = cluster.properties.get("sasl.username", "NAME")
    commands = []
    for (resource, name, prefix), group in groupby(rights, key=lambda right: right[1:]):
        words = ["kafka-acls.sh", "--bootstrap-server", cluster.bootstrap, "--add"]
        words += ["--allow-principal", f"User:{user}"]
        for right in group:
            words += ["--operation", right.operation]
        words.append(f"--{resource.value}")
        if resource is not Resource.CLUSTER:
            words.append(prefix or name)
        if prefix:
            words += ["--resource-pattern-type", "prefixed"]
        commands.append(shlex.join(words))
    return " && ".join(commands)


def hidden_hint(cluster: Cluster) -> str:
    """What has to be added to "the topic is not there": some authorizers hide what may not be
    described. Empty if the broker is used without an identity.
    """
    is_plain = cluster.properties.get("security.protocol", "").lower() in _PLAIN
    return "" if is_plain else ", or this user may not Describe it"


# Asking the broker


def denied_resource(error: KafkaError) -> Resource | None:
    """What an error denies. None if it is not a denial."""
    return _DENIALS.get(error.code())


def denied_rights(cluster: Cluster, error: KafkaError, needed: Sequence[Right]) -> list[Right]:
    """The needed rights that an error says are missing. Empty if it is not a denial.

    The error names no right, and often no topic either, so the broker is asked. If it does not
    answer, all needed rights on that kind of resource are named. IdempotentWrite is named only if
    Write is there: from Kafka 3.0 on, whoever may write to a topic has it.
    """
    resource = denied_resource(error)
    if resource is None:
        return []

    concerned = [right for right in needed if right.resource is resource]
    request = RightsRequest(cluster.admin(), needed if resource is Resource.CLUSTER else concerned)
    request.wait()
    missing, granted = request.answer()
    return missing or [right for right in concerned if right not in granted]


def require_rights(cluster: Cluster, needed: Sequence[Right]) -> None:
    """Ask the broker for all rights that it can be asked for. Raises RightMissing."""
    request = RightsRequest(cluster.admin(), needed)
    request.wait()
    missing = request.answer().missing
    if missing:
        raise RightMissing(cluster, missing)


@contextmanager
def denials_named(cluster: Cluster, needed: Sequence[Right]) -> Iterator[None]:
    """Within `with`: a KafkaException that is a denial becomes RightMissing."""
    try:
        yield
    except KafkaException as error:
        missing = denied_rights(cluster, error.args[0], needed)
        if missing:
            raise RightMissing(cluster, missing) from None
        raise


class RightsAnswer(NamedTuple):
    """The rights that are missing, and those that the broker confirmed. The others are unknown."""

    missing: list[Right]
    granted: list[Right]


class RightsRequest:
    """A request under way: what the broker allows on each topic of these rights."""

    def __init__(self, admin: AdminClient, needed: Sequence[Right]) -> None:
        self._admin = admin  # held: a client that is collected answers nothing any more
        self._needed = needed
        self._futures: dict[str, Future[Any]] = {}
        topics = [right.name for right in needed if right.resource is Resource.TOPIC]
        if topics:
            # Asked for by name: what may not be described is denied then. In a list of all topics
            # it would just be missing.
            self._futures = admin.describe_topics(
                TopicCollection(list(dict.fromkeys(topics))),
                include_authorized_operations=True,
                request_timeout=_SECONDS,
            )

    def is_done(self) -> bool:
        """Whether the whole answer has come."""
        return all(future.done() for future in self._futures.values())

    def wait(self) -> None:
        """Wait for the answer, a little longer than the client waits for the broker."""
        wait(self._futures.values(), timeout=_SECONDS + 1.0)

    def answer(self) -> RightsAnswer:
        """Sort the rights by what the broker has answered so far."""
        answer = RightsAnswer([], [])
        for right in self._needed:
            is_allowed = self._is_allowed(right)
            if is_allowed:
                answer.granted.append(right)
            elif is_allowed is not None:
                answer.missing.append(right)
        return answer

    def _is_allowed(self, right: Right) -> bool | None:
        """None if the broker cannot be asked, or has not answered."""
        if right.resource is not Resource.TOPIC or right.operation not in _OPERATIONS:
            return None
        future = self._futures.get(right.name)
        if future is None or not future.done():
            return None

        error = future.exception()
        if isinstance(error, KafkaException):
            return False if denied_resource(error.args[0]) is right.resource else None
        if error is not None:
            raise error

        operations = future.result().authorized_operations
        if not operations:
            # To be told that nothing is allowed takes the right to Describe. So this broker does
            # not know the question.
            return None
        return _OPERATIONS[right.operation] in {operation.name for operation in operations}
