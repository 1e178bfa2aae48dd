"""Records that cannot be read, damaged on the broker's disk: their partition stops, and
there is a way past.
"""

import json
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.builders import HOME
from tests.integration.damage import Damage, damage
from tests.rig.environment import Environment
from tests.rig.process import until
from tests.rig.statuses import StatusReader
from tests.rig.traffic import make_request
from workers.local import Stack
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import RecordUnreadable
from workers.streaming.ranking_restore import ranking_restorer
from workers.streaming.recent_records import Recent
from workers.streaming.topics import WorkerTopics

DRAW = random.Random(1)
Event = Mapping[str, Any]


def send_batch(
    env: Environment, topic: str, partition: int, events: Iterable[Event], codec: str = "gzip"
) -> None:
    """Send events as one batch."""
    producer = Producer(
        {"bootstrap.servers": env.kafka, "compression.type": codec, "linger.ms": 1000}
    )
    for event in events:
        key = str(event["request_id"]).encode()
        value = json.dumps(event).encode()
        producer.produce(
            topic, value, key, partition, headers=[("content-type", b"application/json")]
        )
    producer.flush()


def letters_of(env: Environment) -> list[tuple[str, int, bytes | None, bytes | None]]:
    return [
        (letter.reason, letter.offset, letter.key, letter.value) for letter in env.read_letters(2)
    ]


def test_a_record_that_cannot_be_read_stops_its_partition_alone_and_is_skipped_without_losing_what_is_open(
    make_env: Callable[..., Environment], stack: Stack
) -> None:
    # A request stays open during all of it, on a busy machine for more than a minute.
    env = make_env(partitions=3, deadline_ms=120_000)
    # With it, damage is found out that can be decompressed; and then the client does not pause
    # between its tries.
    properties = env.folder / "kafka.properties"
    properties.write_text(f"{properties.read_text()}check.crcs=true\n")
    opened = make_request("open", 4, DRAW)
    other = make_request("other", 3, DRAW)
    send_batch(env, env.candidates, 0, opened[:2])
    send_batch(env, env.candidates, 0, make_request("damaged", 3, DRAW))
    send_batch(env, env.candidates, 0, [*opened[2:3], *make_request("after", 3, DRAW)])
    send_batch(env, env.candidates, 1, other)
    for name in ("before", "altered", "behind"):
        send_batch(env, env.candidates, 2, make_request(name, 2, DRAW), codec="none")
    assert damage(stack, env.candidates, 0, 3) == range(2, 5)
    assert damage(stack, env.candidates, 2, 2, Damage.CHECKSUM) == range(2, 4)

    worker = env.start_worker()
    status = StatusReader(env)
    worker.wait_for("event=record_unreadable", times=2)
    for partition in (0, 2):
        assert f"trimtab offsets skip --partition {partition} --offset 2" in worker.logged()
    assert {feed["request_id"] for feed in env.read_feeds(2)} == {"other", "before"}
    until(lambda: status.now()["partition_states"]["0"]["state"] == "standing", status.now)
    asked = env.trimtab("status")
    assert asked.returncode == 1
    assert "offsets skip --partition 0 --offset 2" in " ".join(asked.stdout.split())
    refused = env.trimtab("offsets", "skip", "--partition", "0", "--offset", "2")
    assert refused.returncode == 1
    assert "are the group's workers stopped?" in refused.stderr
    assert worker.terminate() == 0
    assert worker.logged().count("event=record_unreadable") == 2

    for offset, why in ((1, "can be read, expected one that cannot"), (9, "not written yet")):
        refused = env.trimtab("offsets", "skip", "--partition", "0", "--offset", str(offset))
        assert refused.returncode == 1
        assert why in refused.stderr
    for done in ("will be skipped: ", "were skipped before"):
        skipped = env.trimtab("offsets", "skip", "--partition", "0", "--offset", "3")
        assert skipped.returncode == 0, skipped.stderr
        assert f"partition 0: offsets 2 to 4 {done}" in skipped.stdout

    assert env.trimtab("offsets", "skip", "--partition", "2", "--offset", "2").returncode == 0

    # Killed after it has passed the batch, and replayed past it: a request below is open all the
    # while.
    worker = env.start_worker()
    assert {feed["request_id"] for feed in env.read_feeds(4)} == {
        "other",
        "before",
        "behind",
        "after",
    }
    assert letters_of(env) == 2 * [("unreadable-record", 2, None, None)]
    worker.kill()
    worker = env.start_worker()
    worker.wait_for("event=skipped")
    send_batch(env, env.candidates, 0, opened[3:])
    feeds = {feed["request_id"]: len(feed["items"]) for feed in env.read_feeds(5)}
    assert feeds == {"other": 3, "before": 2, "behind": 2, "after": 3, "open": 4}
    assert letters_of(env) == 2 * [("unreadable-record", 2, None, None)]
    assert worker.terminate() == 0


def test_whoever_reads_a_damaged_topic_says_so_in_place_of_waiting(
    make_env: Callable[..., Environment], stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    env = make_env(partitions=2)
    for topic in (env.feeds, env.letters):
        for name in ("sound", "damaged"):
            send_batch(env, topic, 0, make_request(name, 2, DRAW))
    for topic in (env.feeds, env.letters):
        damage(stack, topic, 0, 2, Damage.CODEC)
    cluster = Cluster(env.kafka)

    listed = env.trimtab("dead-letters", "list")
    assert listed.returncode == 1
    assert f"Error: {env.letters}/0@2: cannot be read: Decompression" in listed.stderr
    with pytest.raises(RecordUnreadable, match=f"{env.feeds}/0@2: cannot be read: Decompression"):
        Recent(cluster, env.feeds).last(10)

    # What is published must be known, so a restore waits; what was refused need not.
    topics = WorkerTopics(env.candidates, env.feeds, env.letters)
    restorer = ranking_restorer(cluster, env.name, topics, {"home": HOME}, "rules")
    restorer.begin([0])
    logged = ""

    def has_logged(text: str) -> bool:
        nonlocal logged
        assert restorer.advance() == []
        logged += capsys.readouterr().out
        return text in logged

    until(lambda: has_logged("restore_waits"), lambda: logged)
    assert "reads" in restorer.waits_for[0]
    assert "from offset 2: Decompression" in restorer.waits_for[0]
    restorer.close()

    topics = WorkerTopics(env.letters, env.candidates, env.letters)
    restorer = ranking_restorer(cluster, env.name, topics, {"home": HOME}, "rules")
    restorer.begin([0])
    until(lambda: restorer.advance() != [])
    assert "dead_letters_unread" in capsys.readouterr().out
