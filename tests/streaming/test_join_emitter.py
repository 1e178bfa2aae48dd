"""What goes out of closed feeds, and when: the rules at the head of join_emitter.py. The client is a
stand-in, and the clock stands still until a test moves it.
"""

import json
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition

from tests.streaming.join_building import (
    JOIN_TOPICS,
    SENT_AT,
    feed_record,
    interaction,
    join_limits,
    join_partition,
)
from tests.streaming.standins import CONSUMER, StandInCluster, StandInProducer
from workers.codec.formats import Format
from workers.codec.outcomes import (
    decode_feed_outcomes,
    decode_request_outcomes,
    encode_request_outcomes,
)
from workers.codec.partitioner import partition_of
from workers.counts import JoinCounts
from workers.streaming import join_emitter
from workers.streaming.join_emitter import JoinEmitter
from workers.streaming.join_partition import JoinPartition
from workers.streaming.outlet import Outlet
from workers.streaming.publisher import Output, Publisher
from workers.streaming.reachability import BrokerReachability
from workers.worker_errors import WorkerErrors

REQUEST_PARTITIONS = 3
MOST_FEEDS = 2000
WINDOW_MS = 10_000
FORMATS = pytest.mark.parametrize("form", list(Format))


class Clock:
    """Monotonic seconds, moved by the test."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(join_emitter, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def emitter_of(request_bytes: int = 100_000, form: Format = Format.JSON) -> JoinEmitter:
    counts = JoinCounts()
    return JoinEmitter(
        topics=JOIN_TOPICS,
        request_partitions=REQUEST_PARTITIONS,
        outcomes_format=form,
        limits=join_limits(request_bytes),
        counts=counts,
        errors=WorkerErrors(counts),
    )


def never_failing(_partition: int) -> bool:
    return False


def emit(
    emitter: JoinEmitter,
    partitions: Collection[JoinPartition],
    is_failing: Callable[[int], bool] = never_failing,
) -> None:
    assert emitter.begin(partitions, is_drain=True)
    assert not emitter.emit(partitions, is_failing)


def take_feeds(partition: JoinPartition, count: int, **changes: Any) -> None:
    """Take feeds of users `u0`, `u1` ... whose windows have closed."""
    first = partition.next
    for offset in range(first, first + count):
        partition.join.observe(offset, SENT_AT)
        values = {"user_id": f"u{offset}"} | changes
        partition.join.take_feed(feed_record(f"r{offset}", **values), offset)
    partition.join.close_due(SENT_AT + WINDOW_MS + 1)


def requests_of(outputs: Collection[Output]) -> list[Output]:
    return [output for output in outputs if output.topic == JOIN_TOPICS.request_outcomes]


def sums_of(outputs: Collection[Output]) -> list[Output]:
    return [output for output in outputs if output.topic == JOIN_TOPICS.feed_outcomes]


def feeds_in(output: Output) -> int:
    clusters = decode_feed_outcomes(output.value, output.headers).sums.clusters
    return sum(cluster.feeds for cluster in clusters.values())


# When


def test_one_turn_in_a_second_emits_and_publishes(clock: Clock) -> None:
    emitter = emitter_of()
    partition = join_partition()
    assert emitter.begin([partition], is_drain=False)
    emitter.emit([partition], never_failing)
    clock.now += 0.99
    assert not emitter.begin([partition], is_drain=False)
    clock.now += 0.01
    assert emitter.begin([partition], is_drain=False)


def test_if_there_is_more_than_one_transaction_takes_the_next_turn_follows_at_once(
    clock: Clock,
) -> None:
    emitter = emitter_of()
    partition = join_partition()
    take_feeds(partition, MOST_FEEDS + 1)
    emit(emitter, [partition])
    assert len(requests_of(partition.outbox)) == MOST_FEEDS
    partition.outbox.clear()

    assert emitter.begin([partition], is_drain=False)
    emitter.emit([partition], never_failing)
    assert len(requests_of(partition.outbox)) == 1
    assert not emitter.begin([partition], is_drain=False), "and then a second passes again"


def test_a_drain_waits_for_no_second(clock: Clock) -> None:
    emitter = emitter_of()
    assert emitter.begin([], is_drain=True)
    assert emitter.begin([], is_drain=True)


def test_the_feeds_of_one_transaction_are_shared_out_over_the_partitions() -> None:
    emitter = emitter_of()
    partitions = [join_partition(number=0), join_partition(number=1)]
    for partition in partitions:
        take_feeds(partition, 1500)
    emit(emitter, partitions)
    assert [len(requests_of(partition.outbox)) for partition in partitions] == [1500, 500]


# What


def test_a_request_outcome_goes_to_the_partition_that_murmur2_gives_its_user() -> None:
    partition = join_partition(number=7)
    take_feeds(partition, 20)
    emit(emitter_of(), [partition])
    outputs = requests_of(partition.outbox)
    for offset, output in enumerate(outputs):
        outcomes = decode_request_outcomes(output.value, output.headers)
        assert (outcomes.request_id, outcomes.user_id) == (f"r{offset}", f"u{offset}")
        assert output.key == outcomes.user_id.encode()
        assert output.partition == partition_of(output.key, REQUEST_PARTITIONS)
        assert output.source == 7
    assert {output.partition for output in outputs} == set(range(REQUEST_PARTITIONS))


def test_the_sums_follow_the_feeds_that_changed_them_and_go_to_the_partition_of_their_input() -> (
    None
):
    partition = join_partition(number=7)
    take_feeds(partition, 5)
    take_feeds(partition, 3, arm="canary")
    emit(emitter_of(), [partition])
    topics = [output.topic for output in partition.outbox]
    assert topics == [JOIN_TOPICS.request_outcomes] * 8 + [JOIN_TOPICS.feed_outcomes] * 2

    sums = sums_of(partition.outbox)
    assert [(output.partition, output.source, feeds_in(output)) for output in sums] == [
        (7, 7, 5),
        (7, 7, 3),
    ]
    assert decode_feed_outcomes(sums[0].value, sums[0].headers).partition == 7


def test_sums_are_absolute_and_only_those_that_changed_are_written() -> None:
    emitter = emitter_of()
    partition = join_partition()
    take_feeds(partition, 5)
    take_feeds(partition, 1, arm="canary")
    emit(emitter, [partition])
    first = sums_of(partition.outbox)
    partition.outbox.clear()

    take_feeds(partition, 2)
    emit(emitter, [partition])
    (second,) = sums_of(partition.outbox)
    assert second.key == first[0].key
    assert (feeds_in(first[0]), feeds_in(second)) == (5, 7)


def test_a_record_of_sums_names_the_time_up_to_which_all_feeds_are_summed() -> None:
    partition = join_partition()
    take_feeds(partition, 1)
    partition.join.observe(1, SENT_AT + 500)
    partition.join.take_feed(feed_record("open"), 1)
    partition.join.observe(2, SENT_AT + WINDOW_MS + 100)
    emit(emitter_of(), [partition])
    (output,) = sums_of(partition.outbox)
    assert decode_feed_outcomes(output.value, output.headers).closed_until == SENT_AT


@FORMATS
def test_outcomes_are_listed_and_left_out_if_the_record_would_be_too_large(form: Format) -> None:
    item_ids = tuple(f"item-{number:0100d}" for number in range(30))
    partition = join_partition()
    partition.join.observe(0, SENT_AT)
    partition.join.take_feed(feed_record("r", *item_ids), 0)
    for place, item_id in enumerate(item_ids, start=1):
        partition.join.observe(place, SENT_AT)
        partition.join.take_interaction(interaction(item_id=item_id), SENT_AT)
    partition.join.close_due(SENT_AT + WINDOW_MS + 1)

    limit = 3500
    emit(emitter_of(limit, form), [partition])
    (output,) = requests_of(partition.outbox)
    outcomes = decode_request_outcomes(output.value, output.headers)
    assert len(output.value or b"") <= limit
    assert (outcomes.outcomes, outcomes.unlisted, outcomes.seen) == ([], 30, 30)


@FORMATS
def test_records_state_their_format_and_the_keys_are_the_same_in_both(form: Format) -> None:
    partition = join_partition()
    take_feeds(partition, 2)
    emit(emitter_of(form=form), [partition])
    for output in partition.outbox:
        assert output.headers == [("content-type", form.content_type)]
    (sums,) = sums_of(partition.outbox)
    assert feeds_in(sums) == 2
    assert sums.key is not None
    assert json.loads(sums.key)["surface"] == "home"


# Failures


def test_a_failing_partition_gets_no_more_until_its_outbox_is_out() -> None:
    emitter = emitter_of()
    failing = join_partition(number=0)
    sound = join_partition(number=1)
    for partition in (failing, sound):
        take_feeds(partition, 3)
    failing.outbox.append(Output("letters", 0, b"k", b"x", []))

    emit(emitter, [failing, sound], lambda number: number == 0)
    assert [len(requests_of(p.outbox)) for p in (failing, sound)] == [0, 3]
    failing.outbox.clear()
    emit(emitter, [failing, sound], lambda number: number == 0)
    assert len(requests_of(failing.outbox)) == 3


def test_a_partition_of_which_no_outcome_can_be_made_is_named_and_the_others_go_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(feed: Any, *rest: Any) -> bytes:
        if feed.request_id == "r2":
            raise OverflowError("what nobody thought of")
        return encode_request_outcomes(feed, *rest)

    monkeypatch.setattr(join_emitter, "encode_request_outcomes", failing)
    emitter = emitter_of()
    partitions = [join_partition(number=0), join_partition(number=1)]
    take_feeds(partitions[0], 2)
    take_feeds(partitions[1], 3)
    emit(emitter, partitions)
    assert list(emitter.broken) == [1]
    assert "OverflowError" in emitter.broken[1]
    assert emitter.counts.worker_errors == 1
    assert len(requests_of(partitions[0].outbox)) == 2


def test_a_lack_of_memory_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(join_emitter, "encode_request_outcomes", fail)
    partition = join_partition()
    take_feeds(partition, 1)
    with pytest.raises(MemoryError):
        emit(emitter_of(), [partition])


# With the outlet


class Recorder(StandInProducer):
    """Keeps the offsets that are committed, with their metadata."""

    def __init__(self, refuses: Any = lambda topic, partition: None) -> None:
        super().__init__(refuses)
        self.offsets: list[TopicPartition] = []

    def send_offsets_to_transaction(self, *sent: Any) -> None:
        super().send_offsets_to_transaction(*sent)
        self.offsets += sent[0]


def outlet_of(producer: StandInProducer) -> Outlet[JoinPartition]:
    cluster = StandInCluster("127.0.0.1:1")
    cluster.producers.append(producer)
    limits = join_limits()
    publisher = Publisher(
        cluster, "id", JOIN_TOPICS.feed_outcomes, limits, BrokerReachability(), 5.0, 0.0
    )
    assert publisher.start()
    return Outlet(
        emitter=emitter_of(),
        publisher=publisher,
        consumer=CONSUMER,
        source=JOIN_TOPICS.interactions,
        limits=limits,
    )


def counts_of(outlet: Outlet[JoinPartition]) -> JoinCounts:
    assert isinstance(outlet.emitter, JoinEmitter)
    return outlet.emitter.counts


def test_outcomes_sums_dead_letters_and_the_mark_go_out_in_one_transaction(clock: Clock) -> None:
    producer = Recorder()
    outlet = outlet_of(producer)
    partition = join_partition(number=2)
    take_feeds(partition, 3)
    partition.outbox.append(Output(JOIN_TOPICS.dead_letters, 2, b"k", b"x", []))
    outlet.publish([partition])

    assert producer.calls.count("commit") == 1
    assert [topic for topic, _ in producer.committed] == [
        JOIN_TOPICS.dead_letters,
        *[JOIN_TOPICS.request_outcomes] * 3,
        JOIN_TOPICS.feed_outcomes,
    ]
    (offset,) = producer.offsets
    assert (offset.topic, offset.partition, offset.offset) == (JOIN_TOPICS.interactions, 2, 3)
    counts = counts_of(outlet)
    assert (counts.closed, counts.dead_letters) == (3, 1)
    assert (partition.waiting, partition.outbox) == (0, [])
    assert partition.ledger.end == 5, "the sums are at offset 4"


def test_nothing_is_published_between_the_seconds(clock: Clock) -> None:
    producer = Recorder()
    outlet = outlet_of(producer)
    partition = join_partition()
    take_feeds(partition, 1)
    outlet.publish([partition])
    take_feeds(partition, 1)
    outlet.publish([partition])
    assert producer.calls.count("commit") == 1
    assert partition.waiting == 1

    clock.now += 1.0
    outlet.publish([partition])
    assert producer.calls.count("commit") == 2
    assert counts_of(outlet).closed == 2


def test_what_a_transaction_left_undone_goes_out_unchanged_with_the_next(clock: Clock) -> None:
    refusing = [KafkaError.ILLEGAL_GENERATION]
    producer = Recorder(lambda topic, partition: refusing.pop() if refusing else None)
    outlet = outlet_of(producer)
    partition = join_partition()
    take_feeds(partition, 2)
    outlet.publish([partition])
    undone = list(partition.outbox)
    assert counts_of(outlet).closed == 0
    assert len(undone) == 3

    clock.now += 1.0
    outlet.publish([partition])
    assert counts_of(outlet).closed == 2
    assert len(producer.committed) == len(undone)


def test_a_refused_request_outcome_isolates_the_partition_of_its_input(clock: Clock) -> None:
    refused_user = next(
        f"u{n}" for n in range(100) if partition_of(f"u{n}".encode(), REQUEST_PARTITIONS) == 2
    )
    other_user = next(
        f"u{n}" for n in range(100) if partition_of(f"u{n}".encode(), REQUEST_PARTITIONS) == 0
    )

    def refuses(topic: str, partition: int) -> int | None:
        is_refused = (topic, partition) == (JOIN_TOPICS.request_outcomes, 2)
        return KafkaError.INVALID_RECORD if is_refused else None

    outlet = outlet_of(Recorder(refuses))
    refused = join_partition(number=0)
    sound = join_partition(number=2)
    take_feeds(refused, 1, user_id=refused_user)
    take_feeds(sound, 1, user_id=other_user)
    while sound.waiting:
        outlet.publish([refused, sound])
        clock.now += 1.0
    assert outlet.retries.is_failing(0)
    assert not outlet.retries.is_failing(2)
    assert counts_of(outlet).closed == 1
