"""The sums over feeds and over users of a surface, on a real Kafka."""

import uuid
from collections.abc import Sequence

import pytest
from confluent_kafka import TopicPartition

from tests.commands.outcomes.building import FEED, HOUR, KEY, NOON, JoinTopics
from workers.codec.formats import Format
from workers.codec.outcomes import encode_request_outcomes
from workers.codec.user_outcomes import (
    PROGRESS_KEY,
    encode_user_progress,
    encode_user_sums,
    encode_user_sums_key,
)
from workers.outcomes.records import HOUR_MS, ArmHour
from workers.outcomes.user_sums import UserProgress, UserSums, UserSumsKey
from workers.streaming.evidence import Evidence, EvidenceTopics, read_evidence
from workers.streaming.log_reader import answer_of
from workers.streaming.topics import TopicPlan, create_topics

CANARY = KEY._replace(arm="canary", experiment="0123456789ab")
USERS_KEY = UserSumsKey(HOUR, "home", "canary", "0123456789ab")
ONE_FEED = UserSums(feeds=1, seen=2, takes=1, users=1, new_users=1, last_offset=0)


class Topics(JoinTopics):
    """Those of the join and that of the users stage."""

    def __init__(self, kafka: str) -> None:
        super().__init__(kafka)
        self.users = self.sums.replace("feed-outcomes", "user-outcomes")
        create_topics(kafka, [TopicPlan(self.users, 2)])

    def close_feeds(self, count: int, partition: int = 0) -> None:
        """Write the outcomes of this number of feeds."""
        for _ in range(count):
            value = encode_request_outcomes(FEED, Format.JSON)
            self.write(self.requests, b"u-42", value, partition)

    def count_users(self, sums: UserSums, key: UserSumsKey = USERS_KEY, partition: int = 0) -> None:
        """Write sums over users and that the stage has read so far."""
        value = encode_user_sums(key, partition, sums)
        self.write(self.users, encode_user_sums_key(key), value, partition)
        progress = UserProgress(partition, sums.last_offset + 1)
        self.write(self.users, PROGRESS_KEY, encode_user_progress(progress), partition)

    @property
    def names(self) -> EvidenceTopics:
        return EvidenceTopics(self.sums, self.users, self.requests)

    def evidence(self, names: EvidenceTopics | None = None, since: int | None = None) -> Evidence:
        names = names or self.names
        return read_evidence(self.cluster, names, "home", since=since, wait_seconds=0.2)


@pytest.fixture
def topics(kafka: str) -> Topics:
    return Topics(kafka)


def differing(evidence: Evidence) -> Sequence[ArmHour]:
    assert evidence.reconciliation is not None, evidence.not_reconciled
    return [each.arm_hour for each in evidence.reconciliation.differences]


def test_users_and_feeds_agree_once_the_users_stage_has_counted_what_is_closed(
    topics: Topics,
) -> None:
    topics.close_feeds(1)
    topics.close_feeds(2, partition=1)
    topics.write_sums(FEED, FEED, FEED, key=CANARY, closed_until=NOON + 1)
    topics.count_users(ONE_FEED)
    topics.count_users(ONE_FEED, partition=1)

    behind = topics.evidence()
    assert behind.not_reconciled == "trimtab outcomes users has 1 records of the join to count"
    assert behind.reconciliation is None

    topics.count_users(UserSums(2, 4, 2, users=1, last_offset=1), partition=1)
    topics.count_users(ONE_FEED, partition=1)
    evidence = topics.evidence()
    assert evidence.reconciliation == (1, ())
    arm_hour = ArmHour(HOUR, "home", "canary", "0123456789ab")
    assert evidence.users == {arm_hour: UserSums(3, 6, 3, users=2, new_users=1)}
    assert list(evidence.feeds) == [arm_hour]
    assert evidence.closed_until == {0: NOON + 1, 1: None}
    assert evidence.surfaces == {"home"}


def test_an_arm_whose_users_have_other_numbers_is_named(topics: Topics) -> None:
    topics.close_feeds(1)
    topics.write_sums(FEED, FEED, key=CANARY)
    topics.count_users(ONE_FEED)
    assert differing(topics.evidence()) == [ArmHour(HOUR, "home", "canary", "0123456789ab")]


def test_without_a_users_stage_there_are_sums_over_feeds_only(topics: Topics) -> None:
    topics.write_sums(FEED, key=CANARY)
    evidence = topics.evidence()
    assert (evidence.users, evidence.reconciliation) == (None, None)
    assert evidence.not_reconciled == "trimtab outcomes users has counted no feed of this surface"

    missing = f"no-such-topic-{uuid.uuid4().hex[:8]}"
    for names in (
        topics.names._replace(user_outcomes=missing),
        topics.names._replace(request_outcomes=missing),
    ):
        evidence = topics.evidence(names)
        assert len(evidence.feeds) == 1
        assert evidence.users is None
        assert f"topic {missing!r} is not there" in str(evidence.not_reconciled)


def test_a_surface_without_sums_has_no_evidence(topics: Topics) -> None:
    topics.write_sums(FEED, key=CANARY._replace(surface="search"))
    evidence = topics.evidence()
    assert (evidence.feeds, evidence.users, evidence.not_reconciled) == ({}, None, None)
    assert evidence.surfaces == {"search"}


def test_feeds_of_an_aborted_transaction_are_not_waited_for(topics: Topics) -> None:
    topics.close_feeds(1)
    topics.write_sums(FEED, key=CANARY)
    topics.count_users(ONE_FEED)
    producer = topics.cluster.transactional(f"{topics.requests}-join", 100_000)
    producer.init_transactions(30)
    producer.begin_transaction()
    for _ in range(100):
        producer.produce(topics.requests, b"{}", b"u-42", partition=0)
    producer.flush(30)
    producer.abort_transaction(30)
    assert differing(topics.evidence()) == []


def test_hours_of_which_records_were_deleted_are_not_compared(topics: Topics) -> None:
    topics.close_feeds(2)
    topics.write_sums(FEED, FEED, key=CANARY)
    topics.count_users(UserSums(1, 2, 1, users=1, last_offset=1))
    assert len(differing(topics.evidence())) == 1

    first = TopicPartition(topics.requests, 0, 1)
    admin = topics.cluster.admin()
    answer_of(admin.delete_records([first])[first])
    evidence = topics.evidence()
    assert evidence.reconciliation == (0, ())


def test_since_leaves_out_earlier_hours_of_feeds_and_users(topics: Topics) -> None:
    topics.close_feeds(2)
    topics.write_sums(FEED, key=CANARY)
    topics.write_sums(FEED, key=CANARY._replace(hour=HOUR + 1))
    topics.count_users(ONE_FEED)
    topics.count_users(ONE_FEED._replace(last_offset=1), USERS_KEY._replace(hour=HOUR + 1))
    evidence = topics.evidence(since=NOON + HOUR_MS)
    assert [key.hour for key in evidence.feeds] == [HOUR + 1]
    assert evidence.users is not None
    assert [key.hour for key in evidence.users] == [HOUR + 1]
    assert evidence.reconciliation == (1, ())
