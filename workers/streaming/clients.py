"""How every Kafka client of the project is configured."""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

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
    """The properties file sets something that the guarantees rest on, or that a client does not
    take.
    """


@dataclass(frozen=True)
class Cluster:
    """Where Kafka is, and the librdkafka properties that every client passes on (SASL, TLS,
    timeouts).

    Clients of a cluster without an address connect to nothing: they only show whether the
    properties are taken.
    """

    bootstrap: str
    properties: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, value in sorted(self.properties.items()):
            name = canonical(key)
            if name in OWNED:
                alias = "" if name == key else f"another name of {name}; "
                raise KafkaConfigError(
                    f"{key}: set by the worker itself, expected it not to be in the file ({alias}got {value!r})"
                )

    def admin(self) -> AdminClient:
        """A client for topics, offsets and configurations."""
        return AdminClient(self._with({}))

    def connection_error(self, seconds: float = 2.0) -> str:
        """What the client says of its connections once no broker has answered: a wrong password, a
        certificate, a port that nobody listens on. Empty if it says nothing.
        """
        errors: list[KafkaError] = []
        client = AdminClient(self._with({"error_cb": errors.append}))
        with suppress(KafkaException):
            client.list_topics(timeout=seconds)
        client.poll(0)
        said = (error.str() for error in errors if error.code() != KafkaError._ALL_BROKERS_DOWN)
        return next(said, "")

    def reader(self, group: str = "trimtab-reader") -> Consumer:
        """A consumer that reads committed records only, at offsets it is told.

        It never joins `group`, and can be asked what that has committed.
        """
        settings: dict[str, object] = {
            "group.id": group,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "queued.max.messages.kbytes": 4096,
            "fetch.queue.backoff.ms": 10,  # see member()
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
            # How long fetching pauses once so much is waiting; by the default of 1 s the queue runs
            # dry meanwhile.
            "fetch.queue.backoff.ms": 10,
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

        `batch_bytes` and `message_bytes` win over the properties, of which they were made
        (limits.py).
        """
        settings = {
            "transactional.id": transactional_id,
            # A dead worker's transaction holds back readers for this long at most.
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            # At the default of 100 ms back-to-back transactions wait out CONCURRENT_TRANSACTIONS.
            "retry.backoff.ms": 10,
            "linger.ms": 2,
        }
        sizes = {"batch.size": batch_bytes, "message.max.bytes": message_bytes}
        return Producer(self._with(settings) | sizes | self._unsaid())

    def producer(self) -> Producer:
        """The producer of `trimtab produce`: the partitioner that equals Java's default."""
        settings = {
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.max.bytes": 10_000_000,
        }
        return Producer(self._with(settings) | self._unsaid())

    def _unsaid(self) -> dict[str, Any]:
        """What is wrong with a producer is raised, and said once by whoever has it. The client's
        own lines, some of them for each try, are dropped, unless the properties file asks the
        client to talk.
        """
        return {} if "debug" in self.properties else {"logger": _SILENT}

    def _with(self, settings: Mapping[str, object]) -> dict[str, Any]:
        quiet: dict[str, Any] = {"log_level": 2}
        address = {"bootstrap.servers": self.bootstrap} if self.bootstrap else {}
        return quiet | dict(settings) | dict(self.properties) | address
