"""Properties of a file that one of a command's clients refuses: named with key, value and what was
expected.
"""

import pytest

from workers.streaming.clients import (
    ADMIN,
    READER,
    SENDER,
    Cluster,
    KafkaConfigError,
    check_properties,
    worker_clients,
)

CLASSIC = worker_clients("g", "cooperative-sticky")
KIP_848 = worker_clients("g", "consumer")


def check(properties: dict[str, str], clients: tuple[object, ...] = CLASSIC) -> None:
    """What a command does with a file of these properties."""
    cluster = Cluster("127.0.0.1:1", properties)
    check_properties(cluster.properties, clients)  # type: ignore[arg-type]


def complaint(properties: dict[str, str], clients: tuple[object, ...] = CLASSIC) -> str:
    with pytest.raises(KafkaConfigError) as refused:
        check(properties, clients)
    return str(refused.value)


TRANSACTIONAL = "expected what the transactional producer takes"
TOO_LONG = f"{TRANSACTIONAL}: `message.timeout.ms` must be set <= `transaction.timeout.ms` (10000)"
IN_FLIGHT = f"{TRANSACTIONAL}: `max.in.flight` must be set <= 5 when `enable.idempotence` is true"
TRIES = f"{TRANSACTIONAL}: `retries` must be set >= 1 when `enable.idempotence` is true"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("message.timeout.ms", "30000", TOO_LONG),
        ("delivery.timeout.ms", "30000", TOO_LONG),
        ("topic.message.timeout.ms", "30000", TOO_LONG),
        ("max.in.flight", "10", IN_FLIGHT),
        ("max.in.flight.requests.per.connection", "10", IN_FLIGHT),
        ("retries", "0", TRIES),
        ("message.send.max.retries", "0", TRIES),
        ("queuing.strategy", "lifo", f"{TRANSACTIONAL}: `queuing.strategy` must be set to `fifo`"),
        ("message.max.bytes", "1", "expected 1000 to 1000000000"),
        ("message.max.bytes", "-1", "expected 1000 to 1000000000"),
        ("message.max.bytes", "lots", "expected a number"),
        ("queue.buffering.max.messages", "", "expected a number"),
        ("linger.ms", "soon", "expected a number"),
        ("check.crcs", "yes", "expected true or false"),
        ("compression.type", "rar", "expected one of the values that librdkafka has for it"),
        (
            "sasl.mechanism",
            "PLAINER",
            "expected what the admin client takes: Unsupported SASL mechanism",
        ),
        (
            "max.poll.interval.ms",
            "1000",
            "expected what the consumer takes: `max.poll.interval.ms`must be >=",
        ),
        (
            "fetch.max.bytes",
            "100",
            "expected what the consumer takes: `fetch.max.bytes` must be >=",
        ),
    ],
)
def test_what_a_client_of_the_worker_refuses_is_named(key: str, value: str, expected: str) -> None:
    others = {"client.id": "me", "socket.keepalive.enable": "true"}
    if key.startswith("sasl"):
        others["security.protocol"] = "SASL_PLAINTEXT"
    message = complaint(others | {key: value})
    assert message.startswith(f"{key}: got {value!r}, {expected}")


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("nonsense", ""),
        ("Acks", "; did you mean acks?"),
        ("MESSAGE.TIMEOUT.MS", "; did you mean message.timeout.ms?"),
        ("key.serializer", ""),
        ("sasl.pasword", ""),
    ],
)
def test_a_name_that_no_client_knows_is_refused_without_its_value_which_may_be_a_password(
    key: str, hint: str
) -> None:
    message = complaint({"client.id": "me", key: "hunter2"})
    expected = f"expected a property of librdkafka{hint}"
    assert message == f"{key}: got a value that is not shown, {expected}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fetch.min.bytes", "1e3"),
        ("session.timeout.ms", "30s"),
        ("message.timeout.ms", "5000 # five seconds"),
        ("socket.timeout.ms", "010000"),
        ("statistics.interval.ms", "0x10"),
        ("retries", "99999999999"),
        ("linger.ms", "1.5s"),
    ],
)
def test_a_number_that_the_library_would_take_for_another_is_refused(key: str, value: str) -> None:
    assert (
        complaint({key: value})
        == f"{key}: got {value!r}, expected a number up to 2147483647 and no more text"
    )


@pytest.mark.parametrize(
    "properties",
    [
        {"linger.ms": "1.5"},
        {"client.id": "5x"},
        {"sasl.username": "1e3", "sasl.password": "07"},
        {"message.timeout.ms": "9000"},
        {"message.timeout.ms": "30000", "transaction.timeout.ms": "60000"},
        {"queue.buffering.max.messages": "0"},
        {"topic.metadata.refresh.interval.ms": "-1"},
        {"session.timeout.ms": "2000", "heartbeat.interval.ms": "500"},
    ],
)
def test_what_every_client_takes_is_taken(properties: dict[str, str]) -> None:
    check(properties)


@pytest.mark.parametrize(
    "key", ["error_cb", "stats_cb", "oauth_cb", "logger", "on_commit", "default.topic.config"]
)
def test_what_only_a_program_can_set_is_refused_and_ends_no_command_by_a_traceback(
    key: str,
) -> None:
    assert (
        complaint({key: "print"}) == f"{key}: got 'print', expected a property that a file can set"
    )
    assert complaint({"delivery.report.only.error": "true"}).startswith(
        "delivery.report.only.error: got 'true'"
    )


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("request.required.acks", "acks"),
        ("topic.acks", "acks"),
        ("topic.request.required.acks", "acks"),
        ("metadata.broker.list", "bootstrap.servers"),
        ("auto.commit.enable", "enable.auto.commit"),
        ("topic.auto.offset.reset", "auto.offset.reset"),
    ],
)
def test_what_the_worker_sets_itself_is_refused_under_its_other_names_too(
    key: str, name: str
) -> None:
    message = "set by the worker itself, expected it not to be in the file"
    assert complaint({key: "1"}) == f"{key}: {message} (another name of {name}; got '1')"


def test_two_properties_that_do_not_go_together_are_both_named() -> None:
    message = complaint(
        {"transaction.timeout.ms": "20000", "client.id": "me", "message.timeout.ms": "30000"}
    )
    both = "transaction.timeout.ms: got '20000', message.timeout.ms: got '30000', expected what the transactional"
    assert message.startswith(both)
    assert "`transaction.timeout.ms` (20000)" in message


def test_a_property_that_the_library_does_not_name_is_found_by_leaving_it_out() -> None:
    message = complaint(
        {"client.id": "me", "security.protocol": "SASL_PLAINTEXT", "sasl.mechanisms": "PLAIN"}
    )
    assert message.startswith(
        "security.protocol: got 'SASL_PLAINTEXT', expected what the admin client takes: sasl.username"
    )


def test_each_command_is_held_to_its_own_clients() -> None:
    check({"session.timeout.ms": "2000"}, CLASSIC)
    assert "is not supported for `group.protocol=consumer`" in complaint(
        {"session.timeout.ms": "2000"}, KIP_848
    )
    check({"message.timeout.ms": "30000"}, (ADMIN, SENDER))
    check({"retries": "0"}, (ADMIN, READER))
    assert "expected what the producer takes: `retries`" in complaint(
        {"retries": "0"}, (ADMIN, SENDER)
    )


def test_no_secret_is_shown() -> None:
    message = complaint({"sasl.jaas.config": "hunter2"})
    assert message.startswith(
        "sasl.jaas.config: got a value that is not shown, expected what the admin client takes"
    )
    message = complaint(
        {
            "ssl.key.password": "hunter2",
            "sasl.username": "hunter2",
            "security.protocol": "sasl_plaintext",
        }
    )
    assert "hunter2" not in message.replace("sasl.username: got 'hunter2'", "")
