"""`trimtab outcomes replay open-bandit`, without the join: its topics, its commands, its errors."""

import sys
import uuid
from pathlib import Path

import click
import pytest

from tests.commands.running import trimtab
from tests.rig.process import until
from workers.commands.options import BrokersAt
from workers.commands.outcomes import outcomes
from workers.commands.outcomes.open_bandit import ArmCount
from workers.commands.outcomes.replay import JoinProcess, Replay, comparison
from workers.errors import Failure
from workers.settings import SETTINGS
from workers.streaming.topics import TopicPlan, create_topics, describe_topics, topic_config


@pytest.fixture
def replay(kafka: str) -> Replay:
    return Replay.named(f"t{uuid.uuid4().hex[:8]}", BrokersAt(kafka))


def test_the_topics_are_its_own_and_configured_as_the_join_needs_them(
    replay: Replay, kafka: str
) -> None:
    replay.create_topics()
    assert set(describe_topics(kafka, replay.topics.values())) == set(replay.topics.values())
    interactions = topic_config(kafka, replay.topics["topic_interactions"])
    assert interactions["message.timestamp.type"] == "LogAppendTime"
    sums = topic_config(kafka, replay.topics["topic_feed_outcomes"])
    assert set(sums["cleanup.policy"].split(",")) == {"compact", "delete"}


def test_a_replay_into_topics_that_exist_is_refused_and_says_how_to_read_them(
    replay: Replay, kafka: str
) -> None:
    topic = replay.topics["topic_interactions"]
    create_topics(kafka, [TopicPlan(topic, 1)])
    name = replay.group.removesuffix("-outcomes")
    ended = trimtab("outcomes", "replay", "open-bandit", "--name", name, TRIMTAB_KAFKA=kafka)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"Error: topic {topic!r} exists already, ")
    assert f"trimtab outcomes counts all --topic-feed-outcomes {name}.feed-outcomes" in ended.err
    assert list(describe_topics(kafka, replay.topics.values())) == [topic]


def test_the_commands_that_it_prints_can_be_parsed(tmp_path: Path) -> None:
    properties = tmp_path / "kafka.properties"
    properties.write_text("client.id=reader\n")
    replay = Replay.named("name", BrokersAt("broker:9092", properties))
    context = click.Context(outcomes)
    for words in (replay.counts_command("men", "--by", "arm"), replay.tail_command()):
        command = outcomes.get_command(context, words[2])
        assert command is not None
        options = command.make_context(words[2], words[3:]).params
        assert (options["kafka"], options["kafka_config"]) == ("broker:9092", str(properties))


def test_the_join_runs_on_these_topics_and_in_a_group_of_its_own(tmp_path: Path) -> None:
    replay = Replay.named("name", BrokersAt("broker:9092"))
    words = replay.join_command(tmp_path / "surfaces.toml")
    given = dict(zip(words[5::2], words[6::2], strict=True))
    assert words[3:5] == ["outcomes", "join"]
    assert given == {
        SETTINGS["kafka"].flag: "broker:9092",
        SETTINGS["surfaces"].flag: str(tmp_path / "surfaces.toml"),
        SETTINGS["topic_interactions"].flag: "name.interactions",
        SETTINGS["topic_interaction_letters"].flag: "name.interactions.dead-letters",
        SETTINGS["topic_request_outcomes"].flag: "name.request-outcomes",
        SETTINGS["topic_feed_outcomes"].flag: "name.feed-outcomes",
        SETTINGS["outcomes_group"].flag: "name-outcomes",
    }


def test_a_join_that_ends_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('why'); sys.exit(3)"]
    process = JoinProcess(command, tmp_path / "join.log")

    def error() -> str:
        try:
            process.check()
        except Failure as failure:
            return str(failure)
        return ""

    until(lambda: bool(error()), error)
    assert error() == "the join ended with exit code 3. Its log ends with:\nwhy"


def test_the_table_has_the_joined_counts_beside_those_of_the_file() -> None:
    expected = {
        (campaign, policy): ArmCount(10, 2)
        for campaign in ("all", "men", "women")
        for policy in ("random", "bts")
    }
    lines = comparison(expected, expected | {("men", "bts"): ArmCount(9, 1)})
    assert lines[0].split() == ["surface", "arm", "seen", "takes", "impressions", "clicks"]
    assert lines[4].split() == ["men", "bts", "9", "1", "10", "2"]
