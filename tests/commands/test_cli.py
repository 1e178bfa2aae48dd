"""The root of the command line: exit codes, and messages instead of tracebacks."""

import json
import os
import uuid
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.commands.running import trimtab, write_lines, write_surfaces
from tests.contract.golden import GOLDEN
from workers.commands.redis_access import ChangeBy
from workers.streaming.clients import Cluster
from workers.streaming.send import Sender
from workers.streaming.topics import TopicPlan, create_topics


def test_the_version_is_the_distributions() -> None:
    ended = trimtab("--version")
    assert ended.code == 0
    assert ended.out.endswith(f", version {version('trimtab')}\n")


@pytest.mark.parametrize(
    "words", [["nonsense"], ["worker", "--nonsense"], ["produce"], ["stack", "sideways"]]
)
def test_wrong_use_ends_with_2_and_points_to_the_help(words: list[str]) -> None:
    ended = trimtab(*words)
    assert (ended.code, ended.out) == (2, "")
    assert "for help" in ended.err


def test_a_file_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    ended = trimtab(
        "validate", tmp_path / "nowhere.jsonl", TRIMTAB_SURFACES=str(write_surfaces(tmp_path))
    )
    assert ended.code == 2
    assert "nowhere.jsonl" in ended.err


@pytest.mark.parametrize(
    "words", [["worker"], ["feeds", "tail"], ["produce", "-"], ["dead-letters", "list"]]
)
def test_without_kafka_a_command_names_the_missing_setting(words: list[str]) -> None:
    ended = trimtab(*words, TRIMTAB_SURFACES="deploy/surfaces.toml")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Error: ")
    assert "TRIMTAB_KAFKA" in ended.err or "surfaces.toml" in ended.err


def test_without_redis_a_worker_names_the_missing_setting(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    surfaces = str(write_surfaces(tmp_path))
    ended = trimtab("worker", "--kafka", "h:1", TRIMTAB_HOME=home, TRIMTAB_SURFACES=surfaces)
    assert ended.code == 2
    assert "redis: not set" in ended.err
    assert "TRIMTAB_REDIS" in ended.err


def test_a_redis_url_that_cannot_be_right_is_refused_without_its_password(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    surfaces = str(write_surfaces(tmp_path))
    words = ("worker", "--kafka", "h:1", "--redis", "http://user:secret@h")
    ended = trimtab(*words, TRIMTAB_HOME=home, TRIMTAB_SURFACES=surfaces)
    assert ended.code == 2
    assert "expected redis://" in ended.err
    assert "secret" not in ended.err


def test_a_mistake_in_surfaces_toml_ends_with_2_and_one_line(tmp_path: Path) -> None:
    surfaces = write_surfaces(tmp_path)
    surfaces.write_text(surfaces.read_text().replace("max_candidates = 60", "max_candidates = 0"))
    ended = trimtab("validate", "-", "--surfaces", surfaces)
    expected = f"Error: {surfaces}: surfaces.home.max_candidates: got 0, expected at least 1\n"
    assert ended == (2, "", expected)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("acks=1", "acks: set by the worker itself, expected it not to be in the file"),
        ("isolation.level=read_uncommitted", "isolation.level: set by the worker itself"),
        (
            "partitioner=random",
            "partitioner: set by the worker itself, expected it not to be in the file",
        ),
        ("topic.partitioner=fnv1a", "topic.partitioner: set by the worker itself"),
        ("topic.acks=1", "topic.acks: set by the worker itself"),
        ("key.partitioner=random", "key.partitioner"),
        (
            "security.protocol",
            "line 1: got a line that is not shown, because it may hold a password",
        ),
        ("no.such.key=1", "no.such.key"),
        ("security.protocol=sideways", "sideways"),
    ],
)
def test_a_mistake_in_the_properties_file_ends_with_2_and_names_file_and_key(
    tmp_path: Path, line: str, message: str
) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text(line)
    ended = trimtab("feeds", "tail", "--kafka", "127.0.0.1:1", "--kafka-config", file)
    assert ended.code == 2
    assert str(file) in ended.err
    assert message in ended.err


@pytest.mark.parametrize(
    "line", ["message.timeout.ms=30000", "retries=0", "max.in.flight=10", "request.required.acks=1"]
)
def test_a_property_that_only_a_workers_producer_refuses_ends_a_worker_before_it_reads_models(
    tmp_path: Path, line: str
) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text(line)
    environment = {
        "TRIMTAB_HOME": tmp_path / "home",
        "TRIMTAB_SURFACES": write_surfaces(tmp_path),
        "TRIMTAB_MODELS": "nowhere",
    }
    words = (
        "worker",
        "--kafka",
        "127.0.0.1:1",
        "--redis",
        "redis://127.0.0.1:1",
        "--kafka-config",
        file,
    )
    ended = trimtab(*words, **{name: str(value) for name, value in environment.items()})
    key, _, value = line.partition("=")
    assert ended.code == 2
    assert ended.err.startswith(f"Error: {file}: {key}: ")
    assert f"got {value!r}" in ended.err
    assert "expected" in ended.err


def test_a_flag_goes_before_its_variable(tmp_path: Path) -> None:
    surfaces = write_surfaces(tmp_path)
    ended = trimtab("validate", "-", "--surfaces", surfaces, TRIMTAB_SURFACES="nowhere.toml")
    assert (ended.code, ended.out) == (0, "0 events of 0 requests: 0 refused\n")


def test_a_variable_that_is_no_choice_is_wrong_use() -> None:
    ended = trimtab("worker", TRIMTAB_GROUP_PROTOCOL="sticky")
    assert ended.code == 2
    assert "'sticky' is not one of 'cooperative-sticky', 'range', 'consumer'" in ended.err


def test_one_slot_for_several_processes_is_wrong_use() -> None:
    ended = trimtab("worker", "--processes", 2, "--slot", 1)
    assert ended.code == 2
    assert "slot: got 1 with 2 processes, expected none" in ended.err


def test_a_wrong_configuration_of_several_processes_ends_as_that_of_one(tmp_path: Path) -> None:
    ended = trimtab("worker", "--processes", 4, TRIMTAB_SURFACES=str(tmp_path / "nowhere.toml"))
    assert ended.code == 2, ended.out


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    surfaces = str(write_surfaces(tmp_path))
    ended = trimtab(
        "worker",
        "--kafka",
        "h:1",
        "--redis",
        "redis://h",
        "--home",
        file,
        TRIMTAB_SURFACES=surfaces,
    )
    assert ended.code == 2
    assert ended.err.startswith("Error: home: ")
    assert str(file) in ended.err
    assert "TRIMTAB_HOME" in ended.err


@pytest.mark.parametrize(
    "words",
    [
        ("worker", "--kafka", "h:1", "--redis", "redis://h"),
        ("stack", "up"),
        ("stack", "status"),
    ],
)
def test_for_a_user_without_a_home_the_error_names_the_setting(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    ended = trimtab(*words, TRIMTAB_SURFACES=str(write_surfaces(tmp_path)))
    assert ended.code == 2
    assert ended.err.startswith("Error: home: got '~/.trimtab', expected a folder; no HOME is set")
    assert "TRIMTAB_HOME" in ended.err

    if words[0] == "stack":
        ended = trimtab(*words, "--home", tmp_path)
        assert "TRIMTAB_CACHE" in ended.err


def test_a_change_by_a_user_without_an_entry_is_by_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    assert ChangeBy.of(None, "a reason").actor == f"uid {os.getuid()}"


@pytest.mark.parametrize("command", ["validate", "rank", "produce"])
def test_a_protobuf_file_that_ends_within_a_message_is_an_error_and_ends_with_1(
    tmp_path: Path, command: str, models: Path
) -> None:
    broken = tmp_path / "broken.pb"
    broken.write_bytes(b"\x05\x0a\x03r-1\x50")
    settings = {"TRIMTAB_SURFACES": str(write_surfaces(tmp_path)), "TRIMTAB_MODELS": str(models)}
    ended = trimtab(
        command, "--format", "protobuf", broken, TRIMTAB_KAFKA="127.0.0.1:1", **settings
    )
    assert ended.code == 1
    assert "message 2: the file ends after 0 of its 80 bytes" in ended.err


def test_a_negative_result_ends_with_1(tmp_path: Path) -> None:
    refused = write_lines(tmp_path / "events.jsonl", ["nonsense"])
    ended = trimtab("validate", refused, "--json", TRIMTAB_SURFACES=str(write_surfaces(tmp_path)))
    assert ended.code == 1
    assert json.loads(ended.out)["refused"][0]["reason"] == "malformed"


def test_a_kafka_that_does_not_answer_is_a_negative_result_that_names_the_address() -> None:
    ended = trimtab("feeds", "tail", "--kafka", "127.0.0.1:1")
    assert ended.code == 1
    assert ended.err.startswith("Error: ")
    assert "127.0.0.1:1" in ended.err


def test_a_foreign_record_among_the_feeds_is_named_and_passed_over(kafka: str) -> None:
    topic = f"feeds-{uuid.uuid4().hex[:8]}"
    create_topics(kafka, [TopicPlan(topic, 1)])
    sender = Sender.to(Cluster(kafka), topic)
    for value in (b"foreign", (GOLDEN / "feeds" / "full.json").read_bytes()):
        sender.send(b"r", value, [])
    sender.finish()
    words = (
        "feeds",
        "tail",
        "--kafka",
        kafka,
        "--topic-feeds",
        topic,
        "--from-beginning",
        "--count",
        1,
        "--json",
    )
    ended = trimtab(*words, "--timeout", 30)
    assert ended.code == 0
    assert len(ended.out.splitlines()) == 1
    assert f"{topic}/0@0: feed: " in ended.err
