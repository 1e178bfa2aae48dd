"""The newest records of a topic, on a real Kafka."""

import random
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer

from tests.rig.producers import ready_producer
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import TopicMissing, TopicSilent
from workers.streaming.recent_records import Recent
from workers.streaming.records import Record
from workers.streaming.topics import TopicPlan, create_topics


class Log:
    """A topic of its own, and what was committed to it."""

    def __init__(self, kafka: str, partitions: int) -> None:
        self.cluster, self.name = Cluster(kafka), f"recent.{uuid.uuid4().hex[:8]}"
        # The records are of 1970: the broker looks for what is too old every five minutes.
        create_topics(kafka, [TopicPlan(self.name, partitions, {"retention.ms": "-1"})])
        self.committed: list[tuple[int, int, bytes]] = []

    def write(self, records: Iterable[tuple[int, int, bytes]]) -> None:
        """Records of (timestamp, partition, value), outside any transaction."""
        producer = ready_producer(self.cluster.bootstrap)
        for record in records:
            self._produce(producer, *record)
            self.committed.append(record)
        assert producer.flush(30) == 0

    @contextmanager
    def transaction(self) -> Iterator[Callable[[int, int, bytes], None]]:
        """A transaction whose records are readable once it is committed: it is aborted at the end
        of the block.
        """
        producer = self.cluster.transactional(f"{self.name}-upstream", 100_000)
        producer.init_transactions(30)
        producer.begin_transaction()

        def write(timestamp: int, partition: int, value: bytes) -> None:
            self._produce(producer, timestamp, partition, value)

        yield write
        producer.flush(30)
        producer.abort_transaction(30)

    def _produce(self, producer: Producer, timestamp: int, partition: int, value: bytes) -> None:
        while True:
            try:
                producer.produce(self.name, value, partition=partition, timestamp=timestamp)
            except BufferError:
                producer.poll(0.1)
            else:
                return

    def recent(self, silence: float = 30.0) -> Recent:
        return Recent(self.cluster, self.name, silence)

    def newest(
        self, count: int, wanted: Callable[[bytes], bool] = lambda value: True
    ) -> list[bytes]:
        """What `last` has to find; no two records of one time are in one partition."""
        known = sorted(record for record in self.committed if wanted(record[2]))
        return [value for _, _, value in known[-count:]]


@pytest.fixture
def make_log(kafka: str) -> Callable[[int], Log]:
    return lambda partitions: Log(kafka, partitions)


def values(records: Iterable[Record]) -> list[bytes]:
    return [record.value or b"" for record in records]


MakeLog = Callable[[int], Log]


def test_the_newest_of_several_partitions_are_found_however_their_times_interleave(
    make_log: MakeLog,
) -> None:
    log, draw = make_log(4), random.Random(1)
    times = [
        (1_000_000 + 3 * n, draw.choice([0, 0, 0, 0, 0, 1, 2]), b"%d" % n) for n in range(3000)
    ]
    draw.shuffle(times)  # neither do times rise along a partition
    log.write(times)
    recent = log.recent()
    for count in (1, 7, 100, 2999):
        assert values(recent.last(count)) == log.newest(count)


def test_a_partition_that_is_behind_in_time_gives_nothing_and_one_that_is_ahead_gives_all(
    make_log: MakeLog,
) -> None:
    log = make_log(3)
    log.write((1_000_000 + n, 0, b"old %d" % n) for n in range(500))
    log.write((2_000_000 + n, 1, b"new %d" % n) for n in range(500))
    assert (
        values(log.recent().last(300))
        == log.newest(300)
        == [b"new %d" % n for n in range(200, 500)]
    )


def test_records_of_one_time_are_newer_by_partition_then_offset(make_log: MakeLog) -> None:
    log = make_log(3)
    log.write((1_000_000, partition, b"%d" % partition) for partition in (2, 0, 1))
    log.write([(1_000_000, 1, b"1 later")])
    assert values(log.recent().last(3)) == [b"1", b"1 later", b"2"]


def test_where_few_are_wanted_it_reads_back_as_far_as_they_are(make_log: MakeLog) -> None:
    log = make_log(2)
    log.write((1_000_000 + n, n % 2, b"%d" % n) for n in range(4000))
    assert values(log.recent().last(3, lambda r: int(r.value or b"") % 1000 == 1)) == [
        b"1001",
        b"2001",
        b"3001",
    ]


def test_fewer_than_asked_for_are_all_there_are(make_log: MakeLog) -> None:
    log = make_log(2)
    log.write((1_000_000 + n, n % 2, b"%d" % n) for n in range(300))
    recent = log.recent()
    assert values(recent.last(1000)) == log.newest(1000)
    assert recent.last(5, lambda record: False) == []


def test_the_topic_is_not_read_whole_and_no_record_twice(make_log: MakeLog) -> None:
    log = make_log(2)
    log.write((1_000_000 + n, n % 2, b"%d" % n) for n in range(20_000))
    looked_at: list[tuple[int, int]] = []

    def look(record: Record) -> bool:
        looked_at.append((record.partition, record.offset))
        return True

    assert values(log.recent().last(200, look)) == log.newest(200)
    assert len(looked_at) == len(set(looked_at)) < 1000


def test_an_empty_topic_and_one_of_empty_partitions(make_log: MakeLog) -> None:
    log = make_log(3)
    assert log.recent().last(5) == []
    assert list(log.recent().since(0)) == []
    log.write([(1_000_000, 1, b"only")])
    assert values(log.recent().last(5)) == [b"only"]


def test_undone_transactions_and_their_markers_take_offsets_and_are_not_seen(
    make_log: MakeLog,
) -> None:
    log = make_log(2)
    for turn in range(3):
        log.write((1_000_000 + 1000 * turn + n, n % 2, b"%d.%d" % (turn, n)) for n in range(20))
        with log.transaction() as write:
            for n in range(150):
                write(1_000_500 + 1000 * turn + n, n % 2, b"undone")
    recent = log.recent()
    for count in (1, 30, 60, 100):
        assert values(recent.last(count)) == log.newest(count)
    assert sorted(values(recent.since(1_001_000))) == sorted(log.newest(40))


def test_a_topic_of_undone_transactions_only_has_no_records(make_log: MakeLog) -> None:
    log = make_log(1)
    with log.transaction() as write:
        for n in range(200):
            write(1_000_000 + n, 0, b"undone")
    assert log.recent().last(3) == []


def test_behind_an_undecided_transaction_it_fails_and_says_where(make_log: MakeLog) -> None:
    log = make_log(2)
    log.write([(1_000_000, 0, b"before"), (1_000_000, 1, b"beside")])
    with log.transaction() as write:
        write(1_000_001, 0, b"undecided")
        log.write([(1_000_002, 0, b"behind")])
        with pytest.raises(
            TopicSilent,
            match=r"nothing came for 0.3 s, expected to read on in partition 0 to offset 3",
        ):
            log.recent(silence=0.3).last(1)
    assert values(log.recent().last(3)) == [b"before", b"beside", b"behind"]


def test_a_transaction_that_is_decided_meanwhile_is_waited_for(make_log: MakeLog) -> None:
    log = make_log(1)
    with log.transaction() as write:
        write(1_000_000, 0, b"undone")
        log.write([(1_000_001, 0, b"behind")])
        recent = log.recent()
    assert values(recent.last(3)) == [b"behind"]


def test_it_ends_where_the_topic_ended_at_the_start(make_log: MakeLog) -> None:
    log = make_log(1)
    log.write((1_000_000 + n, 0, b"%d" % n) for n in range(10))
    recent, known = log.recent(), log.newest(5)
    log.write((2_000_000 + n, 0, b"later %d" % n) for n in range(10))
    assert values(recent.last(5)) == known
    assert values(recent.since(1_000_008)) == [b"8", b"9"]


def test_since_a_time_are_all_that_are_not_older_in_each_partitions_order(
    make_log: MakeLog,
) -> None:
    log = make_log(2)
    order = [5, 1, 4, 2, 3, 9, 0]
    log.write((1_000_000 + n, 0, b"%d" % n) for n in order)
    log.write([(1_000_002, 1, b"old"), (1_000_007, 1, b"other")])
    records = list(log.recent().since(1_000_003))
    assert values(r for r in records if r.partition == 0) == [b"5", b"4", b"3", b"9"]
    assert values(r for r in records if r.partition == 1) == [b"other"]
    assert list(log.recent().since(1_000_010)) == []
    assert len(list(log.recent().since(0))) == 9


def test_what_is_not_there_is_named(kafka: str) -> None:
    with pytest.raises(TopicMissing, match="topic 'nowhere' is not there"):
        Recent(Cluster(kafka), "nowhere")


def test_a_count_of_none_is_refused(make_log: MakeLog) -> None:
    with pytest.raises(ValueError, match="count: got 0, expected at least 1"):
        make_log(1).recent().last(0)
