"""`trimtab topics create` makes topics that `check` accepts, and leaves alone what exists."""

import json
import shlex
import uuid
from pathlib import Path

import pytest

from tests.commands.running import Ended, trimtab, write_surfaces
from tests.rig.process import until
from workers.commands.topics import TOPIC_SETTINGS
from workers.settings import SETTINGS
from workers.streaming.topics import TopicPlan, create_topics, describe_topics, topic_config

OUTCOMES = """
[surfaces.home.outcomes]
window_s = 1800
seen = { kind = "view" }
take = { kind = "click" }
"""


class OwnTopics:
    """Topic names of this test's own, and the surfaces that say which are needed."""

    def __init__(self, kafka: str, folder: Path, with_outcomes: bool) -> None:
        self.kafka = kafka
        prefix = f"t{uuid.uuid4().hex[:8]}."
        self.names = {name: prefix + str(SETTINGS[name].default) for name in TOPIC_SETTINGS}
        surfaces = write_surfaces(folder)
        if with_outcomes:
            surfaces.write_text(surfaces.read_text() + OUTCOMES)
        self.environment = {"TRIMTAB_KAFKA": kafka, "TRIMTAB_SURFACES": str(surfaces)}
        for name, topic in self.names.items():
            self.environment[SETTINGS[name].variable] = topic

    def run(self, *words: str) -> Ended:
        return trimtab("topics", *words, **self.environment)

    @property
    def counts(self) -> dict[str, int]:
        return describe_topics(self.kafka, self.names.values())


@pytest.fixture
def plain(kafka: str, tmp_path: Path) -> OwnTopics:
    return OwnTopics(kafka, tmp_path, with_outcomes=False)


@pytest.fixture
def counting(kafka: str, tmp_path: Path) -> OwnTopics:
    return OwnTopics(kafka, tmp_path, with_outcomes=True)


def test_what_create_makes_stops_no_worker_and_only_the_single_broker_is_warned_of(
    counting: OwnTopics,
) -> None:
    ended = counting.run("create", "--partitions", "2")
    assert ended.out.splitlines() == [f"created  {name}" for name in counting.names.values()]
    assert counting.counts == dict.fromkeys(counting.names.values(), 2)

    checked = counting.run("check")
    assert checked.code == 0
    warning, last = checked.out.splitlines()
    assert warning.startswith("warns  one broker")
    assert last == "9 topics: none stops a worker"


def test_only_surfaces_with_outcomes_need_their_topics(plain: OwnTopics) -> None:
    plain.run("create")
    ranking = list(plain.names.values())[:3]
    assert plain.counts == dict.fromkeys(ranking, 4)


def test_create_again_leaves_everything_as_it_is(plain: OwnTopics) -> None:
    plain.run("create", "--partitions", "3")
    again = plain.run("create")
    assert [line.split()[0] for line in again.out.splitlines()] == ["exists"] * 3
    assert set(plain.counts.values()) == {3}


def test_a_dry_run_prints_the_commands_and_creates_nothing(plain: OwnTopics) -> None:
    ended = plain.run("create", "--dry-run", "--replication-factor", "3", "--partitions", "6")
    first = shlex.split(ended.out.splitlines()[0])
    assert first == [
        *("kafka-topics.sh", "--bootstrap-server", plain.kafka, "--create"),
        *("--topic", plain.names["topic_candidates"]),
        *("--partitions", "6", "--replication-factor", "3"),
        *("--config", "max.message.bytes=1048588"),
        *("--config", "message.timestamp.type=LogAppendTime"),
        *("--config", "min.insync.replicas=2"),
    ]
    assert plain.counts == {}


def test_a_topic_with_another_partition_count_is_refused_and_none_is_created(
    plain: OwnTopics,
) -> None:
    feeds = plain.names["topic_feeds"]
    create_topics(plain.kafka, [TopicPlan(feeds, 2)])
    ended = plain.run("create", "--partitions", "3")
    assert ended.code == 1
    assert f"topic '{feeds}': has 2 partitions, expected 3" in ended.err
    assert plain.counts == {feeds: 2}


def test_new_dead_letters_hold_the_events_of_a_topic_that_exists(plain: OwnTopics) -> None:
    candidates = plain.names["topic_candidates"]
    letters = plain.names["topic_dead_letters"]
    create_topics(plain.kafka, [TopicPlan(candidates, 1, {"max.message.bytes": "5000000"})])
    plain.run("create")
    assert topic_config(plain.kafka, letters)["max.message.bytes"] == str(5_000_000 + 32_768)


def test_check_names_each_difference_and_what_mends_it(plain: OwnTopics) -> None:
    candidates = plain.names["topic_candidates"]
    feeds = plain.names["topic_feeds"]
    letters = plain.names["topic_dead_letters"]
    short = {"retention.ms": "60000"}
    create_topics(plain.kafka, [TopicPlan(candidates, 2, short), TopicPlan(feeds, 1)])

    def check() -> list[tuple[bool, str]]:
        ended = plain.run("check", "--json")
        assert ended.code == 1
        return [(found["stops"], found["text"]) for found in json.loads(ended.out)["findings"]]

    # The broker shows a new topic's configuration a moment later.
    until(lambda: len(check()) == 5, lambda: str(check()))
    missing, count, clock, retention, broker = check()
    assert missing[0]
    assert f"topic '{letters}' is not there" in missing[1]
    assert count[0]
    assert f"--alter --topic {feeds} --partitions 2" in count[1]
    assert not clock[0]
    assert clock[1].endswith("--add-config message.timestamp.type=LogAppendTime")
    assert retention[0]
    assert f"topic '{candidates}': retention.ms: got 60000" in retention[1]
    assert not broker[0]


def test_a_topic_that_is_too_small_for_what_a_worker_writes_stops(plain: OwnTopics) -> None:
    feeds = plain.names["topic_feeds"]
    create_topics(plain.kafka, [TopicPlan(feeds, 4, {"max.message.bytes": "100"})])
    plain.run("create")

    def stops() -> list[str]:
        found = json.loads(plain.run("check", "--json").out)["findings"]
        return [one["text"] for one in found if one["stops"]]

    # The broker shows a new topic's configuration a moment later.
    until(lambda: len(stops()) == 1, lambda: str(stops()))
    (text,) = stops()
    assert f"topic '{feeds}': it and the producer take 100 bytes, expected at least 4096" in text
