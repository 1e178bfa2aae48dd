"""What each failure of a transaction means, row by row of the table at the head of publisher.py.

The producer is a stand-in: when a call fails or hangs cannot be chosen with a real one. Real
brokers that are killed and frozen are in tests/integration/test_faults.py.
"""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.streaming.standins import (
    CONSUMER,
    Delivered,
    StandInProducer,
    fails_with,
    never_returns,
    publisher_of,
)
from workers.streaming.publisher import (
    Fenced,
    Output,
    ProducerLost,
    Publisher,
    TransactionAborted,
    TransactionFailed,
)
from workers.streaming.rights import Resource

FEED = Output("feeds", 2, b"r", b"{}", [])
LETTER = Output("letters", 1, b"k", b"x", [])
OFFSETS = [TopicPartition("candidates", 2, 7)]
SHORT = 0.02


def publish(publisher: Publisher, *outputs: Output) -> None:
    publisher.publish(outputs, OFFSETS, CONSUMER)


def failure_of(producer: StandInProducer, *outputs: Output) -> TransactionFailed:
    publisher = publisher_of(producer)
    assert publisher.start()
    with pytest.raises(TransactionFailed) as raised:
        publish(publisher, *outputs)
    return raised.value


def test_what_goes_through_is_committed_once_and_says_where_the_feeds_end() -> None:
    producer = StandInProducer()
    publisher = publisher_of(producer)
    assert publisher.start()
    publish(publisher, FEED, LETTER, FEED)
    assert producer.calls == ["init", "begin", "offsets", "commit"]
    assert producer.committed == [("feeds", 2), ("letters", 1), ("feeds", 2)]
    assert publisher.ends == {2: 3}


@pytest.mark.parametrize(
    "call",
    ["begin_transaction", "send_offsets_to_transaction", "commit_transaction", "abort_transaction"],
)
def test_a_call_that_never_returns_is_given_up_with_its_producer_and_the_next_goes_on(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, sound = StandInProducer(), StandInProducer()
    monkeypatch.setattr(stuck, call, never_returns)
    if call == "abort_transaction":
        monkeypatch.setattr(
            stuck, "commit_transaction", fails_with(KafkaError.INVALID_RECORD, abortable=True)
        )
    publisher = publisher_of(stuck, sound, call_seconds=SHORT)
    assert publisher.start()
    with pytest.raises(ProducerLost, match=f"{call}: no return within"):
        publish(publisher, FEED)
    assert publisher.start()
    publish(publisher, FEED)
    assert stuck.committed == []
    assert sound.committed == [("feeds", 2)]


def test_a_start_that_never_returns_is_tried_again_with_another_producer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stuck, sound = StandInProducer(), StandInProducer()
    monkeypatch.setattr(stuck, "init_transactions", never_returns)
    publisher = publisher_of(stuck, sound, call_seconds=SHORT)
    assert not publisher.start()
    with pytest.raises(ProducerLost, match="there is no producer"):
        publish(publisher, FEED)
    assert publisher.start()
    publish(publisher, FEED)
    assert sound.committed == [("feeds", 2)]


@pytest.mark.parametrize("code", [KafkaError._TIMED_OUT, KafkaError.COORDINATOR_LOAD_IN_PROGRESS])
def test_a_start_that_the_broker_does_not_answer_is_none(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = StandInProducer()
    monkeypatch.setattr(producer, "init_transactions", fails_with(code, retriable=True))
    assert not publisher_of(producer).start()


def test_a_start_that_the_broker_refuses_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = StandInProducer()
    refused = fails_with(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    monkeypatch.setattr(producer, "init_transactions", refused)
    with pytest.raises(KafkaException):
        publisher_of(producer).start()


def test_a_failure_that_can_be_undone_is_undone_and_the_same_producer_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer = StandInProducer()
    publisher = publisher_of(producer)
    assert publisher.start()
    with monkeypatch.context() as patch:
        patch.setattr(
            producer,
            "send_offsets_to_transaction",
            fails_with(KafkaError.ILLEGAL_GENERATION, abortable=True),
        )
        with pytest.raises(TransactionAborted) as raised:
            publish(publisher, FEED)
    assert not raised.value.blames_records, "a rebalance says nothing of the records"
    assert producer.calls[-1] == "abort"
    publish(publisher, FEED)
    assert producer.committed == [("feeds", 2)]


@pytest.mark.parametrize(
    "failing",
    [
        fails_with(KafkaError._TIMED_OUT, retriable=True),
        fails_with(KafkaError.INVALID_TXN_STATE, fatal=True),
        fails_with(KafkaError._STATE),
    ],
)
def test_a_failure_after_which_nobody_knows_the_outcome_costs_the_producer(
    failing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = StandInProducer()
    monkeypatch.setattr(producer, "commit_transaction", failing)
    assert isinstance(failure_of(producer, FEED), ProducerLost)


def test_a_failure_that_cannot_be_undone_costs_the_producer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer = StandInProducer()
    monkeypatch.setattr(
        producer, "commit_transaction", fails_with(KafkaError.INVALID_RECORD, abortable=True)
    )
    monkeypatch.setattr(producer, "abort_transaction", fails_with(KafkaError._TIMED_OUT))
    assert isinstance(failure_of(producer, FEED), ProducerLost)


@pytest.mark.parametrize("code", [KafkaError._FENCED, KafkaError.PRODUCER_FENCED])
def test_whoever_is_fenced_is_told_so(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    producer = StandInProducer()
    monkeypatch.setattr(producer, "commit_transaction", fails_with(code, fatal=True))
    publisher = publisher_of(producer)
    assert publisher.start()
    with pytest.raises(Fenced):
        publish(publisher, FEED)
    with pytest.raises(ProducerLost, match="there is no producer"):
        publish(publisher, FEED)


def test_a_transaction_that_the_broker_aborted_since_it_took_too_long_is_no_other_workers_doing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process or a machine that was paused comes back to a producer that is fenced."""
    producer = StandInProducer()
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)

    def pause(_seconds: float) -> None:
        clock.now += 12.0
        fails_with(KafkaError._FENCED, fatal=True)()

    monkeypatch.setattr(producer, "commit_transaction", pause)
    assert isinstance(failure_of(producer, FEED), ProducerLost)


def test_a_record_that_the_client_does_not_take_undoes_the_transaction_and_names_its_partition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer = StandInProducer()
    monkeypatch.setattr(
        producer, "produce", lambda *_, **__: fails_with(KafkaError.MSG_SIZE_TOO_LARGE)()
    )
    failure = failure_of(producer, LETTER)
    assert isinstance(failure, TransactionAborted)
    assert (set(failure.partitions), failure.blames_records, failure.too_large) == ({1}, True, True)
    assert producer.calls[-1] == "abort"


def test_a_record_that_comes_after_one_that_the_broker_refused_is_not_blamed_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client takes no further record by then, and says what had failed only while the
    transaction is undone.
    """
    producer = StandInProducer()
    taken: list[Any] = []

    def produce(
        topic: str, _value: bytes, _key: bytes, partition: int, on_delivery: Any, headers: Any
    ) -> None:
        if taken:
            fails_with(KafkaError._STATE)()
        taken.append(
            lambda: on_delivery(
                KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), Delivered(topic, partition, 0)
            )
        )

    monkeypatch.setattr(producer, "produce", produce)
    monkeypatch.setattr(producer, "abort_transaction", lambda _: taken.pop()())
    failure = failure_of(producer, LETTER, FEED)
    assert isinstance(failure, TransactionAborted)
    assert (failure.cause, set(failure.partitions), failure.too_large) == (
        "MSG_SIZE_TOO_LARGE",
        {1},
        True,
    )


def test_a_transaction_that_has_failed_already_for_reasons_unknown_blames_no_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer = StandInProducer()
    monkeypatch.setattr(producer, "produce", lambda *_, **__: fails_with(KafkaError._STATE)())
    failure = failure_of(producer, FEED)
    assert isinstance(failure, TransactionAborted)
    assert (set(failure.partitions), failure.blames_records) == (set(), False)


@pytest.mark.parametrize("code", [KafkaError._FATAL, KafkaError._STATE])
def test_whoever_is_fenced_while_records_are_queued_is_told_so(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = StandInProducer()
    monkeypatch.setattr(producer, "produce", lambda *_, **__: fails_with(code)())
    monkeypatch.setattr(producer, "abort_transaction", fails_with(KafkaError._FENCED, fatal=True))
    publisher = publisher_of(producer)
    assert publisher.start()
    with pytest.raises(Fenced):
        publish(publisher, FEED)


@pytest.mark.parametrize(
    "error", [TypeError("headers"), ValueError("key"), UnicodeEncodeError("utf-8", "x", 0, 1, "y")]
)
def test_a_record_that_the_binding_cannot_convert_is_one_records_fault(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    producer = StandInProducer()
    monkeypatch.setattr(producer, "produce", refuse)
    failure = failure_of(producer, FEED)
    assert (set(failure.partitions), failure.blames_records) == ({2}, True)


def test_a_record_that_never_finds_room_in_the_clients_queue_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def is_full(*_: object, **__: object) -> None:
        raise BufferError("Local: Queue full")

    producer = StandInProducer()
    monkeypatch.setattr(producer, "produce", is_full)
    assert failure_of(producer, FEED).partitions == {2}


def test_a_delivery_that_the_broker_refuses_names_the_partition_and_the_cause() -> None:
    def refuses(topic: str, _partition: int) -> int | None:
        return KafkaError.MSG_SIZE_TOO_LARGE if topic == "letters" else None

    failure = failure_of(StandInProducer(refuses), FEED, LETTER)
    assert isinstance(failure, TransactionAborted)
    assert (failure.cause, set(failure.partitions)) == ("MSG_SIZE_TOO_LARGE", {1})
    assert failure.too_large


OUTCOME = Output("request-outcomes", 0, b"u", b"x", [], input_partition=3)


def test_a_refused_record_that_comes_from_another_partition_blames_the_one_it_comes_from() -> None:
    def refuses(topic: str, _partition: int) -> int | None:
        return KafkaError.MSG_SIZE_TOO_LARGE if topic == "request-outcomes" else None

    failure = failure_of(StandInProducer(refuses), FEED, OUTCOME, LETTER)
    assert isinstance(failure, TransactionAborted)
    assert (set(failure.partitions), failure.blames_records) == ({3}, True)


def test_a_record_that_the_client_does_not_take_blames_the_partition_it_comes_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer = StandInProducer()
    monkeypatch.setattr(
        producer, "produce", lambda *_, **__: fails_with(KafkaError.MSG_SIZE_TOO_LARGE)()
    )
    assert failure_of(producer, OUTCOME).partitions == {3}


def test_records_that_were_purged_with_a_transaction_are_not_taken_for_its_cause() -> None:
    def purged(_topic: str, _partition: int) -> int:
        return KafkaError._PURGE_QUEUE

    failure = failure_of(StandInProducer(purged), FEED)
    assert failure.partitions == set()


def test_a_start_without_an_answer_goes_on_with_the_same_producer_and_does_not_fence_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer = StandInProducer()
    publisher = publisher_of(producer)
    with monkeypatch.context() as patch:
        patch.setattr(producer, "init_transactions", fails_with(KafkaError._TIMED_OUT))
        assert not publisher.start()
    assert publisher.start()
    publish(publisher, FEED)
    assert producer.committed == [("feeds", 2)]


def test_a_transaction_that_goes_through_shows_that_the_group_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A denial may come from the offsets of a transaction alone. Then no join tells its end."""
    granted: list[Resource] = []
    publisher = publisher_of(StandInProducer())
    monkeypatch.setattr(publisher._reachability, "granted", granted.append)
    assert publisher.start()
    publish(publisher, FEED)
    assert granted == [Resource.TRANSACTIONAL_ID, Resource.GROUP]
