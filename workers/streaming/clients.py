"""How every Kafka client of the project is configured, and whether it takes the properties of a
file.

The second is checked before anything is connected. Each client is built from the properties,
without an address, and closed again: librdkafka itself is the judge. Its message may name the
property by another name, or name several, or none. So the property at fault is searched for:

1. one that the message names, by any of its names;
2. else one whose value the message names;
3. else one without which the client can be built;
4. else all of them.

Two things that librdkafka accepts are refused as well: text after a number, of which it takes the
beginning ("30s" is 30), and what only a program can set.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

__all__ = ["OWNED", "Cluster", "KafkaConfigError", "KafkaException"]

_SILENT = logging.getLogger(f"{__name__}.silent")
_SILENT.disabled = True

OWNED = frozenset(
    {
        "bootstrap.servers",
        "group.id",
        "group.protocol",
        "group.instance.id",
        "transactional.id",
        "enable.idempotence",
        "enable.auto.commit",
        "enable.partition.eof",
        "isolation.level",
        "auto.offset.reset",
        "partition.assignment.strategy",
        "acks",
        "partitioner",
    }
)
"""Properties that the guarantees rest on: a properties file may not set them."""

TRANSACTION_TIMEOUT_MS = 10_000
"""How long a transaction may take, if the properties file does not say."""

_OTHER_NAMES = {
    "metadata.broker.list": "bootstrap.servers",
    "request.required.acks": "acks",
    "auto.commit.enable": "enable.auto.commit",
    "max.in.flight.requests.per.connection": "max.in.flight",
    "delivery.timeout.ms": "message.timeout.ms",
    "message.send.max.retries": "retries",
    "linger.ms": "queue.buffering.max.ms",
    "compression.type": "compression.codec",
    "sasl.mechanism": "sasl.mechanisms",
    "max.partition.fetch.bytes": "fetch.message.max.bytes",
}


def canonical(key: str) -> str:
    """The one name of a property that librdkafka knows by several, such as
    `topic.request.required.acks`.
    """
    name = key.removeprefix("topic.")
    return _OTHER_NAMES.get(name, name)


class KafkaConfigError(ValueError):
    """The properties file sets something that the guarantees rest on, or that a client refuses."""


@dataclass(frozen=True)
class Cluster:
    """Where Kafka is, and the librdkafka properties that every client passes on (SASL, TLS,
    timeouts).

    Clients of a cluster without an address connect to nothing: they only show whether the
    properties are taken.
    """

    bootstrap: str
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for key, value in sorted(self.properties.items()):
            name = canonical(key)
            if name in OWNED:
                alias = "" if name == key else f"another name of {name}; "
                raise KafkaConfigError(
                    f"{key}: set by the worker itself, expected it not to be in the file"
                    f" ({alias}got {value!r})"
                )

    def admin(self) -> AdminClient:
        """A client for topics, offsets and configurations."""
        return AdminClient(self._with({}))

    def connection_error(self, seconds: float = 2.0) -> str:
        """Why no broker has answered, as the client reports it: a wrong password, a certificate, a
        port that nobody listens on. Empty if it reports nothing.
        """
        errors: list[KafkaError] = []
        client = AdminClient(self._with({"error_cb": errors.append}))
        with suppress(KafkaException):
            client.list_topics(timeout=seconds)
        client.poll(0)
        for error in errors:
            if error.code() != KafkaError._ALL_BROKERS_DOWN:
                return error.str()
        return ""

    def reader(self, group: str = "trimtab-reader") -> Consumer:
        """A consumer that reads committed records only, from the offsets it is assigned at.

        It never joins `group`, and can be asked what that has committed.
        """
        settings: dict[str, object] = {
            "group.id": group,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "queued.max.messages.kbytes": 4096,
            # see member()
            "fetch.queue.backoff.ms": 10,
            "fetch.wait.max.ms": 100,
        }
        return Consumer(self._with(settings))

    def member(
        self, group: str, worker: str, protocol: str, on_error: Callable[[KafkaError], None]
    ) -> Consumer:
        """The worker's consumer: a member of `group` that never commits by itself. Raises
        KafkaConfigError.

        It goes by the worker's id, so that tools know which worker a member of the group is.
        """
        settings: dict[str, object] = {
            "group.id": group,
            "client.id": worker,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            # An offset that is gone stops its partition, loudly: nothing is skipped.
            "auto.offset.reset": "error",
            # What is fetched ahead counts towards the worker's memory.
            "queued.max.messages.kbytes": 4096,
            # How long fetching pauses once that much is waiting. With the default of 1 s the queue
            # runs dry meanwhile.
            "fetch.queue.backoff.ms": 10,
            # How long the broker may keep a request that finds nothing. The client learns only then
            # that it is at the end of a partition, and can be closed only then.
            "fetch.wait.max.ms": 100,
            "error_cb": on_error,
        }
        if protocol == "consumer":
            settings["group.protocol"] = "consumer"
        else:
            # A killed worker's partitions move on after this long; the broker's default is 45 s.
            classic: dict[str, object] = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 1500}
            settings |= classic | {"partition.assignment.strategy": protocol}
        try:
            return Consumer(self._with(settings))
        except KafkaException as error:
            raise KafkaConfigError(error.args[0].str()) from None

    def transactional(
        self, transactional_id: str, batch_bytes: int, message_bytes: int = 10_000_000
    ) -> Producer:
        """The worker's producer: everything it writes belongs to a transaction.

        `batch_bytes` and `message_bytes` win over the properties, from which they were computed
        (limits.py).
        """
        settings = {
            "transactional.id": transactional_id,
            # A dead worker's transaction holds back readers for this long at most.
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            # How long back-to-back transactions wait out CONCURRENT_TRANSACTIONS the first time. It
            # doubles with each try, so this does not flood a broker that is in trouble.
            "retry.backoff.ms": 1,
            "linger.ms": 2,
        }
        sizes = {"batch.size": batch_bytes, "message.max.bytes": message_bytes}
        return Producer(self._with(settings) | sizes | self._without_log())

    def producer(self) -> Producer:
        """The producer of `trimtab produce`: the partitioner that equals Java's default."""
        settings = {
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.max.bytes": 10_000_000,
        }
        return Producer(self._with(settings) | self._without_log())

    def _without_log(self) -> dict[str, Any]:
        """A producer's errors are raised, and logged once by the caller. The client's own lines,
        some of them for each try, are dropped, unless the properties file asks for them.
        """
        return {} if "debug" in self.properties else {"logger": _SILENT}

    def _with(self, settings: Mapping[str, object]) -> dict[str, Any]:
        quiet: dict[str, Any] = {"log_level": 2}
        address = {"bootstrap.servers": self.bootstrap} if self.bootstrap else {}
        return quiet | dict(settings) | dict(self.properties) | address


# Whether a client takes the properties of a file


_BUILD_ERRORS = (KafkaException, KafkaConfigError, TypeError, AttributeError, ValueError)
_UNKNOWN_NAME = "No such configuration property"
_LARGEST_NUMBER = 2**31 - 1
_ONLY_FOR_PROGRAMS = frozenset(
    {
        "logger",
        "opaque",
        "on_commit",
        "on_delivery",
        "default.topic.config",
        "delivery.report.only.error",
    }
)
_FRACTIONS = frozenset({"queue.buffering.max.ms"})
_SECRET_NAMES = re.compile(
    r"pass|secret|token|\.pem$|jaas|oauthbearer\.(config|extensions)|assertion|kinit", re.IGNORECASE
)
_SECRET_VALUES = re.compile(r"PRIVATE KEY|password", re.IGNORECASE)
"""A key in the place of its file, or what Java's clients take for `sasl.jaas.config`."""
_SHORTEST_VALUE = 3
"""Of a value that is searched for in a message: a single digit is in almost any."""


class ClientKind(NamedTuple):
    """A client that a command uses, and how it is built on a cluster."""

    title: str
    build: Callable[[Cluster], Any]


ADMIN = ClientKind("admin client", Cluster.admin)
READER = ClientKind("consumer", Cluster.reader)
SENDER = ClientKind("producer", Cluster.producer)


def worker_clients(group: str, protocol: str) -> tuple[ClientKind, ...]:
    """The clients of a worker."""

    def ignore(_error: KafkaError) -> None:
        pass

    member = ClientKind(
        f"consumer of the group protocol {protocol!r}",
        lambda cluster: cluster.member(group, "check", protocol, ignore),
    )
    producer = ClientKind(
        "transactional producer", lambda cluster: cluster.transactional("check", 100_000)
    )
    return ADMIN, READER, member, producer


def check_properties(properties: Mapping[str, str], clients: Sequence[ClientKind]) -> None:
    """Raises KafkaConfigError that names key, value and what was expected."""
    for key, value in properties.items():
        _check_kind(key, value)
    for client in clients:
        message = _build_error(client, properties)
        if message is not None:
            guilty = _find_guilty(client, properties, message)
            # A name that the library does not know may be that of a password, misspelt.
            show = _shown if not message.startswith(_UNKNOWN_NAME) else _hidden
            got = ", ".join(f"{key}: got {show(key, properties[key])}" for key in guilty)
            expected = _expected(client, properties, guilty[0], message)
            raise KafkaConfigError(f"{got}, expected {expected}")


def _check_kind(key: str, value: str) -> None:
    """Refuse what librdkafka accepts although it is wrong."""
    if key.endswith("_cb") or key in _ONLY_FOR_PROGRAMS:
        raise KafkaConfigError(
            f"{key}: got {_shown(key, value)}, expected a property that a file can set"
        )

    starts_as_number = re.match(r"[+-]?\.?\d", value)
    if not starts_as_number:
        return
    number = r"-?\d+(\.\d+)?" if canonical(key) in _FRACTIONS else r"-?(0|[1-9]\d*)"
    if re.fullmatch(number, value) and abs(float(value)) <= _LARGEST_NUMBER:
        return
    # Is the property one of numbers? Then the library refuses a letter.
    message = _build_error(ADMIN, {key: "x"})
    if message is not None and message.startswith("Invalid value for configuration property"):
        raise KafkaConfigError(
            f"{key}: got {_shown(key, value)}, expected a number up to {_LARGEST_NUMBER} and no"
            " more text"
        )


def _build_error(client: ClientKind, properties: Mapping[str, str]) -> str | None:
    """Build a client without an address, and close it. Return librdkafka's message if it cannot be
    built.
    """
    try:
        built = client.build(Cluster("", properties))
    except _BUILD_ERRORS as error:
        text = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        return str(text).strip()
    if isinstance(built, Consumer):
        built.close()
    return None


def _find_guilty(client: ClientKind, properties: Mapping[str, str], message: str) -> list[str]:
    """The properties at fault, by the rules at the head."""
    words = {canonical(word.rstrip(".")) for word in re.findall(r"[A-Za-z][\w.]*", message)}
    by_name = [key for key in properties if canonical(key) in words or key in words]
    if by_name:
        return by_name

    by_value: list[str] = []
    for key, value in properties.items():
        if len(value) >= _SHORTEST_VALUE and value in message:
            by_value.append(key)
    if by_value:
        return by_value

    by_trial: list[str] = []
    for key in properties:
        others = dict(properties)
        del others[key]
        if _build_error(client, others) is None:
            by_trial.append(key)
    return by_trial or list(properties)


def _expected(client: ClientKind, properties: Mapping[str, str], key: str, message: str) -> str:
    """What librdkafka expects, by its message."""
    if message.startswith(_UNKNOWN_NAME):
        hint = f"; did you mean {key.lower()}?" if key != key.lower() else ""
        return f"a property of librdkafka{hint}"
    allowed = re.search(r"outside allowed range (-?\d+)\.\.(-?\d+)", message)
    if allowed:
        return f"{allowed[1]} to {allowed[2]}"
    if message.startswith("Expected bool value"):
        return "true or false"
    if message.startswith(("Invalid value for", "Integer configuration property")):
        return "a number"
    if message.startswith("Invalid value"):
        return "one of the values that librdkafka has for it"

    timeout_ms = properties.get("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
    reason = re.sub(r"^Failed to create [a-z ]+: ", "", message)
    reason = reason.replace("`transaction.timeout.ms`", f"`transaction.timeout.ms` ({timeout_ms})")
    return f"what the {client.title} takes: {reason}"


def _shown(key: str, value: str) -> str:
    is_secret = _SECRET_NAMES.search(key) or _SECRET_VALUES.search(value)
    return _hidden(key, value) if is_secret else repr(value)


def _hidden(_key: str, _value: str) -> str:
    return "a value that is not shown"
