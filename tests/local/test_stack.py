"""The stack on real servers: up, status, faults, repairs and down."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.rig.process import until
from workers.local import Stack, StackError
from workers.local.kafka_server import kafka_answers
from workers.local.processes import ProcessIdentity, is_alive, kill, spawn
from workers.local.redis_server import redis_answers
from workers.local.server import LOOPBACK
from workers.local.state import ServerName, ServerState, save_state
from workers.streaming.topics import TopicPlan, create_topics, describe_topics, topic_config

PAUSE = ("/usr/bin/env", "sleep", "600")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Stack]:
    """A stack that these tests may break, in a folder whose name is not plain ASCII."""
    local = Stack(tmp_path_factory.mktemp("höme, of a #stack"), cache)
    try:
        yield local
    finally:
        local.down()


@pytest.fixture
def reports() -> list[str]:
    """What a stack reports to its user, if it is built with `reports.append`."""
    return []


@pytest.fixture
def idle(tmp_path: Path, cache: Path, reports: list[str]) -> Iterator[Stack]:
    """A stack that is not up. What a test starts of it is ended."""
    local = Stack(tmp_path, cache, reports.append)
    yield local
    local.down()


def pids(stack: Stack) -> tuple[int | None, int | None]:
    status = stack.status()
    return status.kafka.pid, status.redis.pid


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2].removesuffix("/0"))


def test_up_starts_both_servers_and_creates_every_topic_with_four_partitions(own: Stack) -> None:
    kafka = own.up().kafka
    names = (
        "candidates",
        "ranked-feeds",
        "candidates.dead-letters",
        "interactions",
        "interactions.dead-letters",
        "request-outcomes",
        "feed-outcomes",
        "user-outcomes",
        "user-outcomes.changelog",
    )
    assert describe_topics(kafka, names) == dict.fromkeys(names, 4)
    assert own.status().up


def test_candidates_carry_the_brokers_clock_and_dead_letters_may_be_larger(own: Stack) -> None:
    kafka = own.up().kafka
    assert topic_config(kafka, "candidates")["message.timestamp.type"] == "LogAppendTime"
    assert topic_config(kafka, "ranked-feeds")["message.timestamp.type"] == "CreateTime"
    assert topic_config(kafka, "candidates")["max.message.bytes"] == "1048588"
    assert topic_config(kafka, "candidates.dead-letters")["max.message.bytes"] == "2097152"


def test_interactions_carry_the_brokers_clock_and_sums_of_outcomes_are_compacted(
    own: Stack,
) -> None:
    kafka = own.up().kafka
    assert topic_config(kafka, "interactions")["message.timestamp.type"] == "LogAppendTime"
    assert topic_config(kafka, "interactions.dead-letters")["max.message.bytes"] == "2097152"
    sums = topic_config(kafka, "feed-outcomes")
    assert set(sums["cleanup.policy"].split(",")) == {"compact", "delete"}
    assert sums["retention.ms"] == str(14 * 24 * 3600 * 1000)
    assert topic_config(kafka, "request-outcomes")["cleanup.policy"] == "delete"


def test_a_topic_that_nobody_created_does_not_appear(own: Stack) -> None:
    kafka = own.up().kafka
    assert describe_topics(kafka, ["candidate"]) == {}
    assert describe_topics(kafka, ["candidate"]) == {}


def test_a_second_up_changes_nothing_and_gives_the_same_addresses(own: Stack) -> None:
    addresses = own.up()
    before = pids(own)
    assert own.up() == addresses
    assert pids(own) == before


def test_the_servers_listen_on_loopback_only_in_sessions_of_their_own(own: Stack) -> None:
    own.up()
    for pid in pids(own):
        assert pid is not None
        listening = set[str]()
        for connection in psutil.Process(pid).net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                listening.add(connection.laddr.ip)
        assert listening <= {LOOPBACK, f"::ffff:{LOOPBACK}"}
        assert listening
        assert os.getsid(pid) == pid


def test_the_client_that_belongs_to_the_redis_reaches_it(own: Stack, tmp_path: Path) -> None:
    command = (*own.up().redis_cli_command, "PING")
    process = spawn(command, folder=tmp_path, log=tmp_path / "answer")
    assert os.waitpid(process.pid, 0)[1] == 0
    assert (tmp_path / "answer").read_text() == "PONG\n"


def test_a_killed_kafka_is_noticed_and_started_again_by_up_where_it_was_with_its_records(
    own: Stack,
) -> None:
    addresses = own.up()
    _, redis_pid = pids(own)
    create_topics(addresses.kafka, [TopicPlan("kept", 3)])
    own.kill_kafka()

    status = own.status()
    assert (status.kafka.state, status.redis.state) == ("died", "up")
    assert not status.up

    assert own.up() == addresses
    assert describe_topics(addresses.kafka, ["kept"]) == {"kept": 3}
    assert pids(own)[1] == redis_pid


def test_a_killed_kafka_can_be_started_again_alone(own: Stack) -> None:
    addresses = own.up()
    own.kill_kafka()
    own.start_kafka()
    assert kafka_answers(port_of(addresses.kafka))
    assert own.up() == addresses


def test_redis_can_be_stopped_and_started_on_its_port(own: Stack) -> None:
    addresses = own.up()
    kafka_pid, _ = pids(own)
    own.stop_redis()
    assert own.status().redis.state == "down"
    assert not redis_answers(port_of(addresses.redis))
    own.start_redis()
    assert redis_answers(port_of(addresses.redis))
    assert pids(own)[0] == kafka_pid


@pytest.mark.parametrize("name", ["kafka", "redis"])
def test_a_paused_server_runs_and_is_silent_while_it_is_paused(
    own: Stack, name: ServerName
) -> None:
    own.up()
    with own.paused(name):
        status = getattr(own.status(), name)
        with pytest.raises(StackError, match=f"{status.pid}.*does not answer"):
            own.up()
    assert status.state == "silent"
    # The controller may have given the broker up meanwhile, and takes it back after a while.
    until(lambda: own.status().up, own.status)


def test_a_port_that_contradicts_the_running_server_is_refused(own: Stack) -> None:
    port = port_of(own.up().kafka)
    before = pids(own)
    assert own.up(kafka_port=port).kafka == f"{LOOPBACK}:{port}"
    with pytest.raises(StackError, match=f"Kafka is up on port {port}, expected 9092"):
        own.up(kafka_port=9092)
    assert pids(own) == before


def test_another_number_of_partitions_is_refused_and_the_servers_stay_up(own: Stack) -> None:
    own.up()
    with pytest.raises(StackError, match="'candidates': has 4 partitions, expected 8"):
        own.up(partitions=8)
    assert own.status().up


def test_down_ends_both_and_the_next_up_comes_back_where_they_were_with_their_partitions(
    own: Stack,
) -> None:
    own.down()
    own.down(wipe=True)
    addresses = own.up(partitions=2)
    running = pids(own)

    own.down()
    assert (own.status().kafka.state, own.status().redis.state) == ("down", "down")
    for pid in running:
        assert pid is not None
        assert not psutil.pid_exists(pid)

    own.down()
    assert own.up() == addresses
    assert describe_topics(addresses.kafka, ["candidates"]) == {"candidates": 2}


def test_wiping_deletes_what_the_stack_kept(own: Stack) -> None:
    own.up()
    folder = Path(own.status().kafka.folder)
    own.down(wipe=True)
    assert [path.name for path in folder.parent.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("server", "option"), [("Kafka", "--kafka-port"), ("Redis", "--redis-port")]
)
def test_a_port_in_use_is_named_with_the_option_that_helps(
    idle: Stack, server: str, option: str
) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            StackError, match=rf"port {port} on {LOOPBACK} is in use.*{server}.*{option}"
        ):
            idle.up(**{option.removeprefix("--").replace("-", "_"): port})
    assert idle.status().kafka.state == idle.status().redis.state == "down"


def test_a_server_that_cannot_start_takes_the_other_down_and_shows_its_log(
    idle: Stack, tmp_path: Path, reports: list[str]
) -> None:
    folder = tmp_path / "stack" / "kafka"
    folder.mkdir(parents=True)
    (folder / "formatted").touch()  # but there is no storage
    with pytest.raises(
        StackError,
        match=r"Kafka ended while it was starting(?s:.*)kafka\.log(?s:.*)meta\.properties",
    ):
        idle.up()
    assert idle.status().redis.state == "down"
    assert [line for line in reports if line.startswith("Redis") and line.endswith("ended")]


def test_a_recycled_pid_is_not_taken_for_a_server_and_is_left_alone(
    idle: Stack, tmp_path: Path, reports: list[str]
) -> None:
    stranger = spawn(PAUSE, tmp_path, tmp_path / "stranger.log")
    (tmp_path / "stack").mkdir()
    state = ServerState(20_000, ProcessIdentity(stranger.pid, stranger.started - 1))
    save_state(tmp_path / "stack" / "state.json", {"redis": state})
    try:
        assert idle.status().redis.state == "died"
        idle.down()
        assert reports == [f"Redis (pid {stranger.pid}) had died"]
        assert is_alive(stranger)
    finally:
        kill(stranger)


def test_what_never_was_up_can_be_neither_broken_nor_started_again(idle: Stack) -> None:
    for fault in (
        idle.kill_kafka,
        lambda: idle.paused("redis").__enter__(),
        idle.start_redis,
        idle.start_kafka,
    ):
        with pytest.raises(StackError, match="trimtab stack up"):
            fault()


def test_down_says_that_a_server_had_died(idle: Stack, tmp_path: Path, reports: list[str]) -> None:
    gone = spawn(PAUSE, tmp_path, tmp_path / "gone.log")
    kill(gone)
    (tmp_path / "stack").mkdir()
    save_state(tmp_path / "stack" / "state.json", {"kafka": ServerState(20_000, gone)})
    idle.down()
    assert reports == [f"Kafka (pid {gone.pid}) had died"]


def test_storage_whose_formatting_was_cut_short_is_formatted_again(own: Stack) -> None:
    own.down(wipe=True)
    half = Path(own.status().kafka.folder) / "data" / "meta.properties"
    half.parent.mkdir(parents=True)
    half.touch()
    own.up()
    assert "cluster.id" in half.read_text()
