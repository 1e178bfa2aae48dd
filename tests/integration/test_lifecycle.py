"""Starting, draining, refusing to start: what a worker's keeper sees."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import TopicPartition

from tests.rig.environment import Environment
from tests.rig.process import until
from tests.rig.traffic import make_request
from workers.local import Stack

HANGING_WORKER = Path(__file__).with_name("hanging_worker.py")


def test_sigterm_publishes_what_is_closed_and_leaves_with_zero(env: Environment) -> None:
    worker = env.start_worker()
    worker.wait_for("event=restored", times=4)
    env.send(make_request("r", 5, random.Random(1)))
    assert len(env.read_feeds(1, settle=0.1)) == 1
    assert worker.terminate() == 0
    assert "event=drained" in worker.logged()


def test_sigterm_with_a_dead_broker_gives_up_and_says_so(env: Environment, stack: Stack) -> None:
    worker = env.start_worker()
    worker.wait_for("event=restored", times=4)
    env.send(make_request("r", 5, random.Random(1))[:2])
    with stack.paused("kafka"):
        assert worker.terminate() == 1
    assert "event=not_drained" in worker.logged()


def test_a_worker_with_nothing_to_publish_does_not_take_a_dead_broker_for_a_drain(
    env: Environment, stack: Stack
) -> None:
    worker = env.start_worker()
    worker.wait_for("event=restored", times=4)
    with stack.paused("kafka"):
        assert worker.terminate() == 1
    assert "event=not_drained" in worker.logged()


def test_feeds_of_another_partition_count_are_refused_with_the_command_that_mends_it(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(variables={"TRIMTAB_TOPIC_FEEDS": "unfit"})
    from workers.streaming.topics import TopicPlan, create_topics

    name = f"{env.name}.unfit"
    create_topics(env.kafka, [TopicPlan(name, 2)])
    env.variables["TRIMTAB_TOPIC_FEEDS"] = name
    refused = env.trimtab("worker")
    assert refused.returncode == 1
    assert f"has 2 partitions, expected 4 as '{env.candidates}'" in refused.stderr
    assert (
        f"kafka-topics.sh --bootstrap-server {env.kafka} --alter --topic {name} --partitions 4"
        in refused.stderr
    )


def test_a_topic_that_is_not_there_is_named_with_the_command_that_creates_it(
    env: Environment,
) -> None:
    env.variables["TRIMTAB_TOPIC_DEAD_LETTERS"] = "nowhere"
    refused = env.trimtab("worker")
    assert refused.returncode == 1
    assert "--create --topic nowhere --partitions 4" in refused.stderr


def test_two_workers_of_one_host_take_two_slots_and_a_taken_slot_is_refused(
    env: Environment,
) -> None:
    for _ in range(2):
        env.start_worker().wait_for("event=restored")
    slots = sorted(path.name for path in (env.home / "slots" / env.name).iterdir())
    assert slots == ["0", "1"]
    refused = env.trimtab("worker", "--slot", "0")
    assert refused.returncode == 2
    assert "slot 0 of group" in refused.stderr


def test_children_drain_when_their_parent_is_killed(env: Environment) -> None:
    parent = env.start_worker("--processes", "2")
    parent.wait_for("event=assigned", times=3)
    parent.kill()
    until(lambda: parent.logged().count("event=drained") == 2, parent.logged)


def test_a_child_that_is_killed_is_started_again(env: Environment) -> None:
    parent = env.start_worker("--processes", "2")
    parent.wait_for("event=assigned", times=2)
    listed = subprocess.run(
        ["pgrep", "-P", str(parent.pid)], capture_output=True, text=True, check=True
    )
    child = int(listed.stdout.split()[0])
    subprocess.run(["kill", "-KILL", str(child)], check=True)
    parent.wait_for("event=worker_ended")
    parent.wait_for("event=starting", times=3)
    assert parent.terminate() == 0


def test_events_that_retention_removed_stop_their_partition_until_it_is_resumed(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(partitions=1, deadline_ms=1500)
    first = env.start_worker()
    first.wait_for("event=restored")
    env.send(make_request("before", 3, random.Random(1)))
    assert len(env.read_feeds(1, settle=0.1)) == 1
    assert first.terminate() == 0
    env.send(make_request("removed", 3, random.Random(2)))
    env.admin.delete_records([TopicPartition(env.candidates, 0, 5)])[
        TopicPartition(env.candidates, 0, 5)
    ].result()
    second = env.start_worker()
    second.wait_for("event=offsets_lost")
    assert "trimtab offsets resume --partition 0" in second.logged()
    assert second.terminate() == 0
    resumed = env.trimtab("offsets", "resume", "--partition", "0")
    assert resumed.returncode == 0, resumed.stderr
    env.start_worker().wait_for("event=restored")
    env.send(make_request("after", 3, random.Random(3)))
    feeds = env.read_feeds(3)
    assert {f["request_id"]: len(f["items"]) for f in feeds} == {
        "before": 3,
        "removed": 1,
        "after": 3,
    }


def test_a_worker_without_a_model_for_an_objective_does_not_start(env: Environment) -> None:
    (env.folder / "models" / "quality" / "1" / "model.onnx").write_bytes(b"no model")
    refused = env.trimtab("worker")
    assert refused.returncode == 1
    assert "objective 'quality': no version verifies" in refused.stderr


def test_wrong_configuration_ends_with_two_and_names_the_key(env: Environment) -> None:
    surfaces = env.folder / "surfaces.toml"
    surfaces.write_text(
        surfaces.read_text().replace("deadline_ms = 60000", 'deadline_ms = "soon"', 1)
    )
    refused = env.trimtab("worker")
    assert refused.returncode == 2
    assert "surfaces.home.deadline_ms: got 'soon', expected a whole number" in refused.stderr


def test_past_the_bound_of_open_requests_the_oldest_is_evicted_and_its_feed_says_so(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(partitions=1, deadline_ms=1500, variables={"TRIMTAB_MAX_OPEN_REQUESTS": "3"})
    env.start_worker().wait_for("event=restored")
    draw = random.Random(5)
    env.send([make_request(f"r{n}", 2, draw)[0] for n in range(5)])
    feeds = {feed["request_id"]: feed["completion"] for feed in env.read_feeds(5)}
    assert feeds == {
        "r0": "evicted",
        "r1": "evicted",
        "r2": "deadline",
        "r3": "deadline",
        "r4": "deadline",
    }


def test_the_interrupt_of_a_terminal_drains_too(env: Environment) -> None:
    worker = env.start_worker()
    worker.wait_for("event=restored", times=4)
    worker.signal(signal.SIGINT)
    assert worker.process.wait(10) == 0


def test_the_command_line_says_what_a_worker_needs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "workers.cli", "worker", "--kafka", "", "--redis", "redis://x"]
    refused = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"HOME": str(tmp_path)}
    )
    assert refused.returncode == 2
    assert "surfaces.toml" in refused.stderr or "kafka: not set" in refused.stderr


def test_the_gaps_that_a_transactional_producer_leaves_are_not_mistaken_for_lost_events(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(partitions=1)
    draw = random.Random(6)
    producer = env.cluster.transactional(f"{env.name}-upstream", 100_000)
    producer.init_transactions(30)
    for turn in range(3):
        worker = env.start_worker()
        worker.wait_for("event=restored")
        producer.begin_transaction()
        for event in make_request(f"r{turn}", 4, draw):
            producer.produce(
                env.candidates, json.dumps(event).encode(), event["request_id"].encode()
            )
        producer.commit_transaction(30)
        assert len(env.read_feeds(turn + 1, settle=0.1)) == turn + 1
        assert worker.terminate() == 0
    assert "event=gap" in worker.logged()
    assert [len(feed["items"]) for feed in env.read_feeds(3)] == [4, 4, 4]


def test_a_worker_that_hangs_in_a_call_of_the_client_starts_again_under_its_own_id_and_loses_nothing(
    env: Environment,
) -> None:
    signal_file = env.folder / "hang"
    worker = env.start([str(HANGING_WORKER), str(signal_file)])
    worker.wait_for("event=restored", times=4)
    env.send(make_request("before", 5, random.Random(1)))
    assert len(env.read_feeds(1, settle=0.1)) == 1
    signal_file.touch()
    until(lambda: not signal_file.exists(), worker.logged)
    env.send(make_request("during", 5, random.Random(2)))
    worker.wait_for("event=loop_stuck doing=consume")
    assert sorted(feed["request_id"] for feed in env.read_feeds(2)) == ["before", "during"]
    assert worker.is_running()
    assert worker.logged().count("event=starting ") == 2
    assert worker.terminate() == 0


def test_a_worker_that_is_told_to_end_while_it_hangs_in_a_call_ends_and_does_not_start_again(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(partitions=1)
    signal_file = env.folder / "hang"
    worker = env.start([str(HANGING_WORKER), str(signal_file)])
    worker.wait_for("event=restored")
    signal_file.touch()
    until(lambda: not signal_file.exists(), worker.logged)
    assert worker.terminate() == 1
    assert 'event=not_drained error="the loop hangs: consume"' in worker.logged()
    assert "event=loop_stuck" not in worker.logged()
