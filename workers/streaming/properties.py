"""Whether each client that a command uses takes the properties of a file, found out before anything
is connected.

Each client is built from the properties, without an address, and closed again: the client library
itself is the judge. It names a property by another of its names, or several, or none. So the one of
the file that is at fault is looked for:

1. one that the library's message names, by any of its names;
2. else one whose value the message names;
3. else one without which the client is built;
4. else all of them.

Two things the library lets pass are refused as well: text after a number, of which it takes the
beginning ("30s" is 30), and what only a program can set.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException

from workers.streaming.clients import TRANSACTION_TIMEOUT_MS, Cluster, KafkaConfigError, canonical

_ERRORS = (KafkaException, KafkaConfigError, TypeError, AttributeError, ValueError)
_LARGEST = 2**31 - 1
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
_SECRET = re.compile(r"password|secret|token|\.pem$|jaas|oauthbearer\.config")
_SHORTEST_VALUE = 3  # of a value that is looked for in a message: a digit stands in any


class ClientKind(NamedTuple):
    """A client that a command uses, and how it is built on a cluster."""

    title: str
    build: Callable[[Cluster], Any]


ADMIN = ClientKind("admin client", Cluster.admin)
READER = ClientKind("consumer", Cluster.reader)
SENDER = ClientKind("producer", Cluster.producer)


def worker_clients(group: str, protocol: str) -> tuple[ClientKind, ...]:
    """The clients of a worker."""

    def nothing(_error: KafkaError) -> None:
        pass

    member = ClientKind(
        f"consumer of the group protocol {protocol!r}",
        lambda cluster: cluster.member(group, "check", protocol, nothing),
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
        refused = _refusal(client, properties)
        if refused is not None:
            raise KafkaConfigError(_complaint(client, properties, refused))


def _check_kind(key: str, value: str) -> None:
    """Refuse what the library lets pass."""
    if key.endswith("_cb") or key in _ONLY_FOR_PROGRAMS:
        raise KafkaConfigError(
            f"{key}: got {_shown(key, value)}, expected a property that a file can set"
        )
    if not re.match(r"[+-]?\.?\d", value):
        return
    number = r"-?\d+(\.\d+)?" if canonical(key) in _FRACTIONS else r"-?(0|[1-9]\d*)"
    is_sound = re.fullmatch(number, value) and abs(float(value)) <= _LARGEST
    if not is_sound and _is_number(key):
        raise KafkaConfigError(
            f"{key}: got {_shown(key, value)}, expected a number up to {_LARGEST} and no more text"
        )


def _is_number(key: str) -> bool:
    refused = _refusal(ADMIN, {key: "x"})
    return refused is not None and refused.startswith("Invalid value for configuration property")


def _refusal(client: ClientKind, properties: Mapping[str, str]) -> str | None:
    """Build a client without an address and close it; what the library says if it cannot be built."""
    try:
        built = client.build(Cluster("", properties))
    except _ERRORS as error:
        text = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        return str(text).strip()
    if isinstance(built, Consumer):
        built.close()
    return None


def _complaint(client: ClientKind, properties: Mapping[str, str], refused: str) -> str:
    guilty = _guilty(client, properties, refused)
    named = ", ".join(f"{key}: got {_shown(key, properties[key])}" for key in guilty)
    return f"{named}, expected {_expected(client, properties, guilty[0], refused)}"


def _guilty(client: ClientKind, properties: Mapping[str, str], refused: str) -> list[str]:
    """The properties at fault, by the rules at the head."""
    words = {canonical(word.rstrip(".")) for word in re.findall(r"[A-Za-z][\w.]*", refused)}
    by_name = [key for key in properties if canonical(key) in words or key in words]
    if by_name:
        return by_name
    by_value = [
        key
        for key, value in properties.items()
        if len(value) >= _SHORTEST_VALUE and value in refused
    ]
    if by_value:
        return by_value
    needed = [key for key in properties if _refusal(client, _without(properties, key)) is None]
    return needed or list(properties)


def _without(properties: Mapping[str, str], left_out: str) -> dict[str, str]:
    return {key: value for key, value in properties.items() if key != left_out}


def _expected(client: ClientKind, properties: Mapping[str, str], key: str, refused: str) -> str:
    """What the library expects, by its message."""
    timeout_ms = properties.get("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
    if refused.startswith("No such configuration property"):
        in_lower_case = f"; did you mean {key.lower()}?" if key != key.lower() else ""
        return f"a property of librdkafka{in_lower_case}"
    allowed = re.search(r"outside allowed range (-?\d+)\.\.(-?\d+)", refused)
    if allowed:
        return f"{allowed[1]} to {allowed[2]}"
    if refused.startswith("Expected bool value"):
        return "true or false"
    if refused.startswith(("Invalid value for", "Integer configuration property")):
        return "a number"
    if refused.startswith("Invalid value"):
        return "one of the values that librdkafka has for it"
    reason = re.sub(r"^Failed to create [a-z ]+: ", "", refused)
    reason = reason.replace("`transaction.timeout.ms`", f"`transaction.timeout.ms` ({timeout_ms})")
    return f"what the {client.title} takes: {reason}"


def _shown(key: str, value: str) -> str:
    return "a value that is not shown" if _SECRET.search(key) else repr(value)
