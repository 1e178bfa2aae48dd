"""Which properties of Kafka the users stage passes on."""

import ssl

import pytest
import trustme
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from workers.settings import ConfigurationError
from workers.users.app import credentials_of
from workers.users.kafka_access import KafkaAccess, Sasl, kafka_access


def test_without_properties_the_connection_is_in_clear() -> None:
    assert kafka_access("k:9092", {}) == KafkaAccess("k:9092")


@pytest.mark.parametrize("name", ["sasl.mechanism", "sasl.mechanisms"])
def test_name_and_password_are_passed_on(name: str) -> None:
    properties = {
        "security.protocol": "SASL_PLAINTEXT",
        name: "scram-sha-512",
        "sasl.username": "u",
        "sasl.password": "p",
    }
    access = kafka_access("k:9092", properties)
    assert access.sasl == Sasl("SCRAM-SHA-512", "u", "p")
    assert access.tls is None


def test_certificates_are_checked_unless_the_file_says_otherwise(tmp_path: object) -> None:
    authority = trustme.CA()
    with authority.cert_pem.tempfile() as file:
        properties = {"security.protocol": "ssl", "ssl.ca.location": file}
        strict = kafka_access("k:9092", properties).tls
        no_name = {"ssl.endpoint.identification.algorithm": "none"}
        without_name = kafka_access("k:9092", properties | no_name).tls
        unchecked = {"enable.ssl.certificate.verification": "false"}
        without = kafka_access("k:9092", properties | unchecked).tls
    assert strict is not None
    assert (strict.check_hostname, strict.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert without_name is not None
    assert (without_name.check_hostname, without_name.verify_mode) == (False, ssl.CERT_REQUIRED)
    assert without is not None
    assert (without.check_hostname, without.verify_mode) == (False, ssl.CERT_NONE)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_aiokafka_logs_in_as_the_properties_say(protocol: str, mechanism: str) -> None:
    properties = {
        "security.protocol": protocol,
        "sasl.mechanism": mechanism,
        "sasl.username": "u",
        "sasl.password": "p",
    }
    access = kafka_access("k:9092", properties)
    assert (access.tls is not None) == (protocol == "SASL_SSL")
    assert credentials_to_aiokafka_auth(credentials_of(access)) == {
        "security_protocol": protocol,
        "sasl_mechanism": mechanism,
        "sasl_plain_username": "u",
        "sasl_plain_password": "p",
        "ssl_context": access.tls,
    }


def test_aiokafka_connects_with_certificates_alone_or_in_clear() -> None:
    with_tls = kafka_access("k:9092", {"security.protocol": "ssl"})
    assert credentials_to_aiokafka_auth(credentials_of(with_tls)) == {
        "security_protocol": "SSL",
        "ssl_context": with_tls.tls,
    }
    in_clear = credentials_of(kafka_access("k:9092", {}))
    assert credentials_to_aiokafka_auth(in_clear) == {"security_protocol": "PLAINTEXT"}


def test_sessions_are_in_seconds() -> None:
    properties = {"session.timeout.ms": "2000", "heartbeat.interval.ms": "500"}
    access = kafka_access("k:9092", properties)
    assert (access.session_seconds, access.heartbeat_seconds) == (2.0, 0.5)


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"fetch.min.bytes": "1"}, "fetch.min.bytes: the users stage cannot pass it on"),
        ({"security.protocol": "tls"}, "security.protocol: got 'tls', expected one"),
        ({"security.protocol": "sasl_ssl"}, "sasl.mechanisms: got 'GSSAPI'"),
        (
            {"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN"},
            "sasl.username: not set",
        ),
        ({"security.protocol": "ssl", "ssl.ca.location": "/nowhere"}, "cannot be read"),
        ({"session.timeout.ms": "2s"}, "session.timeout.ms: got '2s'"),
    ],
)
def test_what_cannot_be_passed_on_is_refused_by_name(
    properties: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        kafka_access("k:9092", properties)
