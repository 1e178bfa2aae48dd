"""Rights: what a command must be allowed to do where the broker has an authorizer, and which of it
is missing.

Rules:
- A denial names the right that is missing: its operation, its resource, and the line of
  kafka-acls.sh that grants it.
- The broker is asked which operations it allows. Nothing is tried out, and nothing is written.
- A broker that does not tell counts as allowing: what it then denies is named when it is denied.
- A topic that the broker hides allows nothing at all: Read and Write imply Describe.
- Only topics are asked about. Whether a transactional id or the cluster allows something cannot be
  asked; and an admin client that asks about a group crashes the process if the group's coordinator
  goes away meanwhile (librdkafka 2.16, see its #5397). These are named when they are denied.
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from enum import Enum
from itertools import groupby
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from workers.errors import Failure
from workers.log import log
from workers.streaming.clients import Cluster

_SECONDS = 5.0
"""How long the broker has to say what it allows."""
_LOOK_SECONDS = 2.0
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
    """One operation on one resource, as kafka-acls.sh names them; granted by a `prefix` of the name
    if there is one.
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
    """The broker's authorizer denies what the command needs; the message names the rights and how
    to grant them.
    """

    def __init__(self, cluster: Cluster, missing: Sequence[Right]) -> None:
        super().__init__(describe_missing(cluster, missing))
        self.missing = tuple(missing)


def worker_rights(
    *, candidates: str, feeds: str, dead_letters: str, group: str, transactional_id: str
) -> tuple[Right, ...]:
    """What a worker cannot do without.

    After a change of rules it also reads the dead letters; without the right to it goes on, and
    says so.
    """
    topics = {
        candidates: ("Describe", "DescribeConfigs", "Read"),
        feeds: ("Describe", "DescribeConfigs", "Read", "Write"),
        dead_letters: ("Describe", "DescribeConfigs", "Write"),
    }
    rights = [
        Right(operation, Resource.TOPIC, name)
        for name, operations in topics.items()
        for operation in operations
    ]
    rights.append(Right("Read", Resource.GROUP, group))
    rights.append(Right("Write", Resource.TRANSACTIONAL_ID, transactional_id, prefix=f"{group}-"))
    return tuple(rights)


def reader_rights(topic: str) -> tuple[Right, ...]:
    """What a tool needs that reads a topic: it joins no group."""
    return (Right("Describe", Resource.TOPIC, topic), Right("Read", Resource.TOPIC, topic))


def sender_rights(topic: str) -> tuple[Right, ...]:
    """What `trimtab produce` needs; brokers before Kafka 3.0 ask for the last of them too."""
    return (
        Right("Describe", Resource.TOPIC, topic),
        Right("Write", Resource.TOPIC, topic),
        Right("IdempotentWrite", Resource.CLUSTER, "kafka-cluster"),
    )


@contextmanager
def denials_named(cluster: Cluster, needed: Sequence[Right]) -> Iterator[None]:
    """Raises RightMissing in the place of a KafkaException that is a denial."""
    try:
        yield
    except KafkaException as error:
        missing = denied_rights(cluster, error.args[0], needed)
        if missing:
            raise RightMissing(cluster, missing) from None
        raise


def group_rights(groups: Iterable[str]) -> tuple[Right, ...]:
    """What a tool needs that asks who is in a group."""
    return tuple(Right("Describe", Resource.GROUP, group) for group in groups)


def offsets_rights(topic: str, group: str) -> tuple[Right, ...]:
    """What `trimtab offsets` needs: the broker asks for Read on both to let a group's offsets be
    changed.
    """
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
    """What is to be added where a topic is said not to be there: some authorizers hide what may not
    be described.
    """
    plain = cluster.properties.get("security.protocol", "").lower() in _PLAIN
    return "" if plain else ", or this user may not Describe it"


# Asking


def denied_resource(error: KafkaError) -> Resource | None:
    """What an error denies; None if it is no denial."""
    return _DENIALS.get(error.code())


def denied_rights(cluster: Cluster, error: KafkaError, needed: Sequence[Right]) -> list[Right]:
    """Which of the needed rights an error says are missing; none if it is no denial.

    The error names no right, and often no topic either, so the broker is asked. If it cannot say,
    all needed rights on that kind of resource are named. IdempotentWrite is named only if Write is
    there: from Kafka 3.0 on, whoever may write to a topic has it.
    """
    resource = denied_resource(error)
    if resource is None:
        return []
    concerned = [right for right in needed if right.resource is resource]
    asked = _Asked(cluster.admin(), needed if resource is Resource.CLUSTER else concerned)
    asked.wait()
    missing, granted = asked.answer()
    return missing or [right for right in concerned if right not in granted]


def require_rights(cluster: Cluster, needed: Sequence[Right]) -> None:
    """Ask the broker for all rights that it can be asked for. Raises RightMissing."""
    asked = _Asked(cluster.admin(), needed)
    asked.wait()
    missing = asked.answer().missing
    if missing:
        raise RightMissing(cluster, missing)


class _Answer(NamedTuple):
    """The rights that are missing, and those that the broker said are there. It says nothing of the
    others.
    """

    missing: list[Right]
    granted: list[Right]


class _Asked:
    """A question under way: what the broker allows on each topic of these rights."""

    def __init__(self, admin: AdminClient, needed: Sequence[Right]) -> None:
        self._admin = admin  # a client that is collected answers nothing any more
        self._needed = needed
        self._futures: dict[str, Future[Any]] = {}
        topics = [right.name for right in needed if right.resource is Resource.TOPIC]
        if topics:
            # Asked for by name: what may not be described is denied then, and only missing from a
            # list of all.
            self._futures = admin.describe_topics(
                TopicCollection(list(dict.fromkeys(topics))),
                include_authorized_operations=True,
                request_timeout=_SECONDS,
            )

    def is_done(self) -> bool:
        return all(future.done() for future in self._futures.values())

    def wait(self) -> None:
        """Wait for the answer, a little longer than the client waits for the broker."""
        wait(self._futures.values(), timeout=_SECONDS + 1.0)

    def answer(self) -> _Answer:
        """Sort the rights by what the broker has answered."""
        answer = _Answer([], [])
        for right in self._needed:
            allowed = self._allowed(right)
            if allowed is not None:
                (answer.granted if allowed else answer.missing).append(right)
        return answer

    def _allowed(self, right: Right) -> bool | None:
        if right.resource is not Resource.TOPIC:
            return None
        future = self._futures.get(right.name)
        if future is None or not future.done() or right.operation not in _OPERATIONS:
            return None
        error = future.exception()
        if isinstance(error, KafkaException):
            return False if denied_resource(error.args[0]) is right.resource else None
        if error is not None:
            raise error
        operations = future.result().authorized_operations
        if not operations:
            return None  # to be told nothing takes the right to be told: the broker does not know the question
        return _OPERATIONS[right.operation] in {operation.name for operation in operations}


# While a worker runs


class Denials:
    """Says once that a right is missing, and once that it is back; `missing` are those known to be.

    A denial is repeated by the client as long as it goes on trying. So while something is known to
    be missing, the broker is asked every two seconds what it allows, by `look`, and denials are not
    looked into one by one.
    """

    def __init__(self, cluster: Cluster, needed: Sequence[Right]) -> None:
        self._cluster = cluster
        self._needed = needed
        self.missing: list[Right] = []
        self._asked: _Asked | None = None
        self._looked = 0.0

    def note(self, error: KafkaError) -> bool:
        """Take an error; return whether a right that is known to be missing explains it.

        A denial of a kind that is not known yet is looked into.
        """
        resource = denied_resource(error)
        if resource is None:
            return False
        if not any(right.resource is resource for right in self.missing):
            self._asked = None  # what is asked by now may be answered by what was allowed before
            self._lost(denied_rights(self._cluster, error, self._needed), error.str())
        return any(right.resource is resource for right in self.missing)

    def explain(self, error: KafkaError) -> str:
        """The error's text; if it is a denial, with the rights that are missing."""
        if not self.note(error):
            return error.str()
        resource = denied_resource(error)
        names = ", ".join(str(right) for right in self.missing if right.resource is resource)
        return f"{error.str()} (missing: {names})"

    def refuse(self, error: KafkaError) -> None:
        """Raises RightMissing if an error is a denial: for what is denied before there is anything
        to lose.
        """
        missing = denied_rights(self._cluster, error, self._needed)
        if missing:
            raise RightMissing(self._cluster, missing)

    def granted(self, resource: Resource) -> None:
        """Something went through that takes the rights on this resource."""
        self._back([right for right in self.missing if right.resource is resource])

    def look(self, now: float) -> None:
        """Look whether missing rights are back, and whether others are missing; `now` in monotonic
        seconds.

        Never waits.
        """
        if self._asked is not None:
            if self._asked.is_done():
                answer = self._asked.answer()
                self._asked = None
                self._back([right for right in answer.granted if right in self.missing])
                self._lost([right for right in answer.missing if right not in self.missing], "")
        elif self.missing and now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._asked = _Asked(self._cluster.admin(), self._needed)

    def _lost(self, rights: Sequence[Right], error: str) -> None:
        if not rights:
            return
        self.missing += rights
        names = ", ".join(str(right) for right in rights)
        grant = grant_commands(self._cluster, rights)
        log.error(
            "right_missing",
            right=names,
            grant=grant,
            error=error,
            doing="trying again until it is there",
        )

    def _back(self, rights: Sequence[Right]) -> None:
        if not rights:
            return
        self.missing = [right for right in self.missing if right not in rights]
        log.info("right_back", right=", ".join(str(right) for right in rights))
