"""How the users stage reaches Kafka: librdkafka properties as aiokafka takes them.

Every command reads the same file of librdkafka properties. The users stage has another client, so
it takes those that say who it is and how to connect. A property that it cannot pass on is refused
by name, because what it was meant for would silently not hold.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from workers.settings import ConfigurationError
from workers.streaming.clients import canonical

_PROTOCOLS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_TAKEN = (
    "security.protocol",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.endpoint.identification.algorithm",
    "enable.ssl.certificate.verification",
    "session.timeout.ms",
    "heartbeat.interval.ms",
)
_IGNORED = frozenset({"client.id", "debug", "log_level", "socket.keepalive.enable"})
"""They change what is logged or how a broken connection is noticed, and nothing that is promised."""


@dataclass(frozen=True)
class Sasl:
    """Name and password of the stage on Kafka."""

    mechanism: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class KafkaAccess:
    """Where Kafka is, and how to connect. `tls` is None for a connection in clear.

    The group takes the partitions of a process from it after `session_seconds` without a heartbeat.
    """

    bootstrap: str
    session_seconds: float = 6.0
    heartbeat_seconds: float = 1.5
    tls: ssl.SSLContext | None = None
    sasl: Sasl | None = None


def kafka_access(bootstrap: str, properties: Mapping[str, str]) -> KafkaAccess:
    """Read the properties. Raises ConfigurationError that names the property."""
    given: dict[str, str] = {}
    for key, value in properties.items():
        name = canonical(key)
        if name in _IGNORED:
            continue
        if name not in _TAKEN:
            raise ConfigurationError(
                f"{key}: the users stage cannot pass it on to its client, expected only"
                f" {', '.join(_TAKEN)}. Give the stage a file of its own with --kafka-config"
            )
        given[name] = value

    protocol = _choice(given, "security.protocol", _PROTOCOLS, "plaintext")
    return KafkaAccess(
        bootstrap=bootstrap,
        session_seconds=_milliseconds(given, "session.timeout.ms", 6000) / 1000,
        heartbeat_seconds=_milliseconds(given, "heartbeat.interval.ms", 1500) / 1000,
        tls=_tls(given) if protocol.endswith("ssl") else None,
        sasl=_sasl(given) if protocol.startswith("sasl") else None,
    )


def _milliseconds(given: Mapping[str, str], name: str, default: int) -> int:
    value = given.get(name, str(default))
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise ConfigurationError(f"{name}: got {value!r}, expected milliseconds above 0")
    return int(value)


def _choice(given: Mapping[str, str], name: str, choices: tuple[str, ...], default: str) -> str:
    value = given.get(name, default)
    for choice in choices:
        if value.lower() == choice.lower():
            return choice
    raise ConfigurationError(
        f"{name}: got {value!r}, expected one that the users stage knows: {', '.join(choices)}"
    )


def _sasl(given: Mapping[str, str]) -> Sasl:
    mechanism = _choice(given, "sasl.mechanisms", _MECHANISMS, "GSSAPI")
    for name in ("sasl.username", "sasl.password"):
        if not given.get(name):
            raise ConfigurationError(f"{name}: not set, expected it with {mechanism}")
    return Sasl(mechanism, given["sasl.username"], given["sasl.password"])


def _tls(given: Mapping[str, str]) -> ssl.SSLContext:
    """What librdkafka does with the same properties: it checks the broker's certificate and name."""
    try:
        context = ssl.create_default_context(cafile=given.get("ssl.ca.location"))
        if "ssl.certificate.location" in given:
            context.load_cert_chain(
                given["ssl.certificate.location"],
                keyfile=given.get("ssl.key.location"),
                # Without one, OpenSSL would ask the terminal for it.
                password=given.get("ssl.key.password", ""),
            )
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"ssl.ca.location, ssl.certificate.location: cannot be read: {error}"
        ) from None

    algorithm = "ssl.endpoint.identification.algorithm"
    if _choice(given, algorithm, ("https", "none"), "https") == "none":
        context.check_hostname = False
    verification = "enable.ssl.certificate.verification"
    if _choice(given, verification, ("true", "false"), "true") == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
