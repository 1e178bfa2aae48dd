"""Records over a limit: whatever goes out is cut to what its topic and the producer take, also if
that changes.
"""

import random
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from tests.rig.environment import Environment
from tests.rig.process import until
from tests.rig.statuses import StatusReader
from tests.rig.traffic import make_request
from workers.streaming.clients import Cluster
from workers.streaming.send import Sender
from workers.streaming.topics import TopicPlan, create_topics

MEGABYTE = 1_000_000


def set_limit(env: Environment, topic: str, limit_bytes: int | None) -> None:
    """Set `max.message.bytes` of a topic, or take it back."""
    operation = AlterConfigOpType.DELETE if limit_bytes is None else AlterConfigOpType.SET
    entry = ConfigEntry(
        "max.message.bytes", str(limit_bytes or ""), incremental_operation=operation
    )
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    env.admin.incremental_alter_configs([resource])[resource].result()


def large_topics(env: Environment, limit_bytes: int) -> None:
    """Topics that take larger records than the broker does by default."""
    large = {"max.message.bytes": str(limit_bytes)}
    names = [f"{env.name}.large.{n}" for n in ("candidates", "feeds", "letters")]
    create_topics(
        env.kafka,
        [TopicPlan(name, 1, large | {"message.timestamp.type": "LogAppendTime"}) for name in names],
    )
    env.candidates, env.feeds, env.letters = names


@pytest.mark.parametrize(
    ("properties", "event_bytes", "whole"),
    [
        ("", 12 * MEGABYTE, True),
        ("message.max.bytes=1000000\n", 1_020_000, False),
        ("queue.buffering.max.kbytes=500\nbatch.size=2000000\n", 1_020_000, False),
    ],
    ids=["topics of 20 MB", "a producer of 1 MB", "a queue of 500 kB"],
)
def test_a_bad_event_larger_than_what_may_go_out_is_a_dead_letter_and_stops_nothing(
    make_env: Callable[..., Environment], properties: str, event_bytes: int, whole: bool
) -> None:
    env = make_env(partitions=1)
    large_topics(env, 20 * MEGABYTE)
    with (env.folder / "kafka.properties").open("a") as file:
        file.write(properties)
    sender = Sender.to(
        Cluster(env.kafka, {"message.max.bytes": str(20 * MEGABYTE)}), env.candidates
    )
    sender.send(b"bad", b"x" * event_bytes, [("case", b"large")])
    sender.finish()
    env.send(make_request("r", 5, random.Random(1)))

    worker = env.start_worker()
    assert [feed["request_id"] for feed in env.read_feeds(1, settle=0.1)] == ["r"]
    (letter,) = env.read_letters(1, settle=0.1)
    assert (letter.reason, letter.key) == ("malformed", b"bad")
    assert set(letter.value or b"") == {ord("x")}
    if whole:
        assert (len(letter.value or b""), letter.value_bytes) == (event_bytes, None)
    else:
        assert letter.value_bytes == event_bytes
    assert "event=starting_anew" not in worker.logged()
    assert "event=transaction_aborted" not in worker.logged()


def test_a_topic_that_takes_less_from_now_on_gets_smaller_feeds_and_nothing_is_lost(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(partitions=2)
    draw = random.Random(2)
    worker = env.start_worker()
    env.send(event for n in range(4) for event in make_request(f"a{n}", 50, draw, batch=50))
    assert {feed.get("truncated", 0) for feed in env.read_feeds(4, settle=0.1)} == {0}
    set_limit(env, env.feeds, 5000)
    env.send(event for n in range(20) for event in make_request(f"b{n}", 50, draw, batch=50))
    feeds = env.read_feeds(24)
    assert len({feed["request_id"] for feed in feeds}) == len(feeds) == 24
    for feed in feeds[4:]:
        if feed["request_id"].startswith("b"):
            assert feed["truncated"] == 50 - len(feed["items"]) > 0
    assert worker.logged().count("event=limits_changed") == 1
    assert worker.logged().count("event=transaction_aborted") == 1


def test_while_no_feed_can_be_written_the_status_says_so_a_drain_fails_and_afterwards_nothing_is_lost(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(partitions=1)
    draw = random.Random(3)
    worker = env.start_worker()
    status = StatusReader(env)
    worker.wait_for("event=restored")
    env.send(make_request("before", 3, draw))
    assert len(env.read_feeds(1, settle=0.1)) == 1
    set_limit(env, env.feeds, 100)
    env.send(make_request("during", 3, draw))

    worker.wait_for("event=partition_isolated")
    until(lambda: status.now()["partition_states"]["0"]["state"] == "failing", status.now)
    until(lambda: status.now()["lag"] == {"0": 3}, status.now)
    now: dict[str, Any] = status.now()
    assert now["counts"]["feeds"] == 1, "what is not out is not counted"
    shown = env.trimtab("status")
    assert shown.returncode == 1
    assert "partition 0 failing" in shown.stdout
    assert worker.terminate() == 1, worker.logged()
    log = worker.logged()
    assert "event=not_drained" in log
    assert "event=drained" not in log
    assert log.count("event=transaction_aborted") == log.count("event=partition_isolated") == 1

    set_limit(env, env.feeds, None)
    second = env.start_worker()
    assert [feed["request_id"] for feed in env.read_feeds(2)] == ["before", "during"]
    assert second.terminate() == 0
