"""The users stage on a real Kafka: nothing is counted twice or lost, whatever is killed, and it
never waits without saying for what.

`make trial ARGS=users` kills it ten times behind a real join: see tests/rig/user_runs.py.
"""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import OFFSET_END, TopicPartition

from tests.rig.environment import REQUEST_PARTITIONS, Environment
from tests.rig.outcome_runs import write_outcome_files
from tests.rig.process import until
from tests.rig.redis import free_port
from tests.rig.user_runs import (
    PHASES,
    OutcomeStream,
    OutcomeWriter,
    expected_sums,
    kill_users,
    published_sums,
    wait_until_counted,
)
from workers.codec.partitioner import partition_of
from workers.streaming.topics import TopicPlan, create_topics


@pytest.fixture
def env(kafka: str, redis_url: str, tmp_path: Path) -> Iterator[Environment]:
    """An environment without Redis, with short sessions. Its topics are not created."""
    write_outcome_files(tmp_path, window_s=2)
    properties = tmp_path / "kafka.properties"
    properties.write_text("session.timeout.ms=2000\nheartbeat.interval.ms=500\n")
    env = Environment(kafka, redis_url, tmp_path)
    env.variables["TRIMTAB_KAFKA_CONFIG"] = str(properties)
    env.variables["TRIMTAB_REDIS"] = ""
    try:
        yield env
    finally:
        env.end()


def test_a_process_that_is_killed_three_times_counts_every_feed_once_and_no_aborted_one(
    env: Environment,
) -> None:
    env.create_user_topics()
    writer = OutcomeWriter(env, PHASES, seed=1)
    with OutcomeStream(writer):
        last = kill_users(env, 3)
    wait_until_counted(env, last)
    assert last.terminate() == 0, last.logged()

    sums = published_sums(env)
    assert sums == expected_sums(env, known={})
    assert sum(counts["feeds"] for counts in sums.values()) == writer.feeds


def test_a_missing_topic_is_named_with_the_command_that_creates_it(env: Environment) -> None:
    create_topics(env.kafka, [TopicPlan(env.request_outcomes, REQUEST_PARTITIONS)])
    ended = env.trimtab("outcomes", "users")
    assert ended.returncode == 1
    for topic, policy in (
        (env.user_outcomes, "compact,delete"),
        (env.user_changelog, "compact"),
    ):
        assert f"topic '{topic}' is not there" in ended.stderr
        assert f"--topic {topic} --partitions {REQUEST_PARTITIONS}" in ended.stderr
        assert f"--config cleanup.policy={policy}" in ended.stderr


def test_what_cannot_be_counted_stops_the_stage_and_is_named(env: Environment) -> None:
    env.create_user_topics()
    writer = OutcomeWriter(env, PHASES, seed=2)
    writer.write(10)
    first = env.start_users()
    wait_until_counted(env, first)

    # A user in another partition than murmur2 gives
    feed = writer.make_feed()
    right = partition_of(feed["user_id"].encode(), REQUEST_PARTITIONS)
    wrong = (right + 1) % REQUEST_PARTITIONS
    writer.begin()
    writer.send(feed, wrong)
    writer.commit()
    assert first.process.wait(30) == 1
    assert f"partition {wrong}" in first.logged()
    assert f"the user belongs to partition {right} of {REQUEST_PARTITIONS}" in first.logged()
    assert sum(counts["feeds"] for counts in published_sums(env).values()) == 10


def test_two_processes_recover_share_the_partitions_show_their_sums_and_drain(
    env: Environment,
) -> None:
    """At first one partition has feeds, so the changelogs of the others are empty."""
    env.create_user_topics()
    writer = OutcomeWriter(env, PHASES, seed=3)
    writer.begin()
    for _ in range(5):
        writer.send(writer.make_feed() | {"user_id": "u1"})
    writer.commit()
    alone = env.start_users()
    wait_until_counted(env, alone)
    alone.kill()

    port = free_port()
    both = env.start_users("--processes", "2", "--users-port", str(port))
    writer.write(20)
    wait_until_counted(env, both)
    # A process that loses a partition while the other starts shows it until it has been told.
    until(lambda: shown_feeds(port, port + 1) == 25, both.logged)
    with pytest.raises(OSError, match="refused"):
        live_sums("127.0.0.2", port)
    assert both.terminate() == 0, both.logged()
    assert published_sums(env) == expected_sums(env, known={})


def shown_feeds(*ports: int) -> int:
    """How many feeds the processes at these ports show together, those that listen already."""
    feeds = 0
    for port in ports:
        with suppress(OSError):
            feeds += sum(row["feeds"] for row in live_sums("127.0.0.1", port))
    return feeds


def live_sums(host: str, port: int) -> list[dict[str, Any]]:
    """The sums that a process serves."""
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=10) as answer:
        rows: list[dict[str, Any]] = json.load(answer)["sums"]
        return rows


def test_retention_that_overtakes_a_running_process_stops_it(env: Environment) -> None:
    env.create_user_topics()
    writer = OutcomeWriter(env, PHASES, seed=4)
    writer.write(30)
    process = env.start_users()
    wait_until_counted(env, process)

    process.freeze()
    for _ in range(3):
        writer.write(30)  # the fetch that it waits for may have the first of them
    gone = [TopicPartition(env.request_outcomes, p, OFFSET_END) for p in range(REQUEST_PARTITIONS)]
    for deleted in env.admin.delete_records(gone).values():
        deleted.result()
    process.thaw()
    assert process.process.wait(30) == 1
    assert "retention has deleted feeds that were never counted" in process.logged()


def test_both_stages_run_together_and_one_that_dies_is_started_again(env: Environment) -> None:
    env.create_outcome_topics()
    env.create_user_topics()
    both = env.start(["-m", "workers.cli", "outcomes"])
    both.wait_for("event=counting")
    for stage in psutil.Process(both.pid).children():
        if "users" in stage.cmdline():
            stage.kill()
    both.wait_for("event=counting", times=2)
    assert both.terminate() == 0, both.logged()
    assert both.logged().count("event=drained") == 2
