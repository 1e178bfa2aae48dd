"""The sums of `feed-outcomes`, read once and then followed, on a real Kafka."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.commands.outcomes.building import FEED, HOUR, KEY, NOON, JoinTopics
from workers.codec.formats import Format
from workers.codec.outcomes import encode_feed_outcomes, encode_sums_key
from workers.errors import Failure
from workers.outcomes.records import HOUR_MS, ArmHour
from workers.outcomes.sums import Sums
from workers.streaming.feed_sums import FeedSumsReader
from workers.streaming.log_reader import TopicSilent

CANARY = KEY._replace(arm="canary", experiment="0123456789ab")


@pytest.fixture
def topics(kafka: str) -> JoinTopics:
    return JoinTopics(kafka)


def feeds(reader: FeedSumsReader, surface: str = "home") -> dict[ArmHour, int]:
    """The number of feeds by arm and hour."""
    counted = {}
    for arm_hour, sums in reader.by_arm_hour(surface).items():
        counted[arm_hour] = sum(cluster.feeds for cluster in sums.clusters.values())
    return counted


@contextmanager
def undecided_sums(topics: JoinTopics) -> Iterator[None]:
    """Sums of two feeds in a transaction that is aborted at the end of the block."""
    producer = topics.cluster.transactional(f"{topics.sums}-join", 100_000)
    producer.init_transactions(30)
    producer.begin_transaction()
    sums = Sums()
    sums.add(FEED)
    sums.add(FEED)
    value = encode_feed_outcomes(CANARY, 0, NOON, sums, Format.JSON)
    content_type: dict[str, str | bytes | None] = {"content-type": Format.JSON.content_type}
    producer.produce(topics.sums, value, encode_sums_key(CANARY), partition=0, headers=content_type)
    producer.flush(30)
    yield
    producer.abort_transaction(30)


def test_sums_are_read_once_and_then_followed(topics: JoinTopics) -> None:
    topics.write_sums(FEED, key=CANARY)
    topics.write_sums(FEED, FEED, key=CANARY)
    topics.write_sums(FEED, key=CANARY, partition=1, form=Format.PROTOBUF)
    topics.write_sums(FEED, key=CANARY._replace(weights="000000000000"))

    with closing(FeedSumsReader(topics.cluster, topics.sums)) as reader:
        reader.read_to_end()
        canary = ArmHour(HOUR, "home", "canary", "0123456789ab")
        assert feeds(reader) == {canary: 4}
        assert len(list(reader.latest("home"))) == 3
        before = reader.by_arm_hour("home")[canary]
        assert reader.by_arm_hour("home")[canary] is before

        assert not reader.poll()
        topics.write_sums(FEED)
        topics.write_sums(FEED, key=CANARY._replace(hour=HOUR + 1), closed_until=NOON + HOUR_MS)
        reader.read_to_end()
        control = ArmHour(HOUR, "home", "control", None)
        assert feeds(reader) == {canary: 4, control: 1, canary._replace(hour=HOUR + 1): 1}
        assert reader.by_arm_hour("home")[canary] is before
        for arm_hour, counts in reader.counts_by_arm_hour("home").items():
            assert counts.feeds.sum() == feeds(reader)[arm_hour]
            assert reader.counts_by_arm_hour("home")[arm_hour] is counts
        topics.write_sums(FEED, FEED, FEED)
        reader.read_to_end()
        assert reader.counts_by_arm_hour("home")[control].feeds.sum() == 3
        assert list(reader.by_arm_hour("home", since=NOON + HOUR_MS)) == [
            canary._replace(hour=HOUR + 1)
        ]
        assert reader.closed_until == {0: NOON + HOUR_MS, 1: NOON}


def test_a_poll_takes_in_what_has_come_and_says_whether_it_is_wanted(topics: JoinTopics) -> None:
    with closing(
        FeedSumsReader(topics.cluster, topics.sums, wants=lambda key: key.surface == "home")
    ) as reader:
        reader.read_to_end()
        assert reader.closed_until == {0: None, 1: None}

        topics.write_sums(FEED, key=KEY._replace(surface="search"))
        while not reader.surfaces:
            assert not reader.poll(0.1)
        assert feeds(reader, "search") == {}

        topics.write_sums(FEED)
        while not reader.poll(0.1):
            pass
        assert feeds(reader) == {ArmHour(HOUR, "home", "control", None): 1}
        assert reader.surfaces == {"home", "search"}


def test_sums_of_an_aborted_transaction_are_never_counted(topics: JoinTopics) -> None:
    with closing(FeedSumsReader(topics.cluster, topics.sums)) as reader:
        with undecided_sums(topics):
            topics.write_sums(FEED)
            with pytest.raises(TopicSilent, match="partition 0 to offset 2"):
                reader.read_to_end(silence=0.3)
            assert feeds(reader) == {}
        reader.read_to_end()
        assert feeds(reader) == {ArmHour(HOUR, "home", "control", None): 1}


def test_a_record_that_is_no_sums_record_is_named_with_its_place(topics: JoinTopics) -> None:
    topics.write(topics.sums, b"key", b"{}", partition=1)
    with (
        closing(FeedSumsReader(topics.cluster, topics.sums)) as reader,
        pytest.raises(Failure, match=rf"{topics.sums}/1@0: .*expected sums of outcomes"),
    ):
        reader.read_to_end()
