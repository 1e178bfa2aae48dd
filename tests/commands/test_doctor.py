"""`trimtab doctor`: what is well has a line, what is not is named with what to do, and nothing is
changed by looking.
"""

import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from redis import Redis

from tests.commands.running import Ended, trimtab, write_models, write_surfaces
from tests.rig.redis import RedisServer
from tests.rig.traffic import now_ms
from tests.steering.test_acl import log, server, stopped_server, url
from workers.codec.compiled import IS_COMPILED
from workers.commands.topics import TOPIC_SETTINGS
from workers.settings import SETTINGS
from workers.streaming.topics import TopicPlan, create_topics, describe_topics

__all__ = ["server", "stopped_server"]

NOBODY = "127.0.0.1:1"


class Patient:
    """Files, topics and a Redis prefix of this test's own."""

    def __init__(self, kafka: str, redis_url: str, folder: Path) -> None:
        name = f"t{uuid.uuid4().hex[:8]}"
        self.kafka = kafka
        self.redis: Any = Redis.from_url(redis_url)
        self.prefix = f"{name}:"
        self.models = write_models(folder)
        self.surfaces = write_surfaces(folder)
        self.topics = {key: f"{name}.{SETTINGS[key].default}" for key in TOPIC_SETTINGS}
        self.environment = {
            "TRIMTAB_KAFKA": kafka,
            "TRIMTAB_REDIS": redis_url,
            "TRIMTAB_REDIS_PREFIX": self.prefix,
            "TRIMTAB_SURFACES": str(self.surfaces),
            "TRIMTAB_MODELS": str(self.models),
            "TRIMTAB_GROUP": name,
        }
        for key, topic in self.topics.items():
            self.environment[SETTINGS[key].variable] = topic

    def create_topics(self) -> None:
        assert trimtab("topics", "create", **self.environment).code == 0

    def examine(self, *words: str, **changed: str) -> Ended:
        return trimtab("doctor", *words, **(self.environment | changed))

    def lines(self, status: str, *words: str, **changed: str) -> list[str]:
        """`check: text` of each line with a status."""
        printed = json.loads(self.examine(*words, "--json", **changed).out)
        lines = []
        for line in printed["checks"]:
            if line["status"] == status:
                lines.append(f"{line['check']}: {line['text']}")
        return lines


@pytest.fixture
def patient(kafka: str, redis_url: str, tmp_path: Path) -> Patient:
    return Patient(kafka, redis_url, tmp_path)


def test_an_environment_that_is_well_stops_nothing_in_the_order_of_need(patient: Patient) -> None:
    patient.create_topics()
    ended = patient.examine()
    assert ended.code == 0, ended.out
    lines = [line.split(maxsplit=2) for line in ended.out.splitlines()]
    assert [(status, check) for status, check, _ in lines] == [
        ("ok", "surfaces"),
        ("ok" if IS_COMPILED else "warns", "decoding"),
        ("ok", "models"),
        ("ok", "models"),
        ("ok", "brokers"),
        ("ok", "version"),
        ("ok", "rights"),
        ("warns", "topics"),  # one broker
        ("ok", "topics"),
        ("ok", "clocks"),
        ("ok", "redis"),
        ("ok", "redis"),
        ("warns", "redis"),  # no persistence
        ("ok", "clocks"),
        ("ok", "redis"),
        ("ok", "weights"),
    ]


def test_looking_changes_no_key_and_no_topic(patient: Patient) -> None:
    patient.create_topics()
    patient.redis.hset(f"{patient.prefix}weights:home", mapping={"quality": "0.7"})
    before = sorted(patient.redis.keys(f"{patient.prefix}*"))

    patient.examine("--for", "all")

    assert sorted(patient.redis.keys(f"{patient.prefix}*")) == before
    assert patient.redis.hgetall(before[0]) == {b"quality": b"0.7"}
    assert describe_topics(patient.kafka, ["trimtab.doctor.no-such-topic"]) == {}


def test_missing_topics_stop_a_worker_and_have_their_commands(patient: Patient) -> None:
    stops = patient.lines("stops")
    assert len(stops) == 3
    for key, line in zip(("candidates", "feeds", "dead_letters"), stops, strict=True):
        name = patient.topics[f"topic_{key}"]
        assert line.startswith(f"topics: topic '{name}' is not there; create it: kafka-topics.sh")
    assert patient.examine().code == 1


def test_a_broker_that_does_not_answer_is_named_and_redis_is_still_checked(
    patient: Patient,
) -> None:
    (line,) = patient.lines("stops", TRIMTAB_KAFKA=NOBODY)
    assert line.startswith(f"brokers: {NOBODY}: does not answer")
    assert any(
        line.startswith("redis: answers") for line in patient.lines("ok", TRIMTAB_KAFKA=NOBODY)
    )


def test_one_of_two_brokers_that_does_not_answer_is_warned_of(patient: Patient) -> None:
    patient.create_topics()
    both = f"{NOBODY},{patient.kafka}"
    warned = patient.lines("warns", TRIMTAB_KAFKA=both)
    assert any(line.startswith(f"brokers: {NOBODY}: does not answer") for line in warned)
    assert patient.lines("stops", TRIMTAB_KAFKA=both) == []


def test_a_redis_that_does_not_answer_stops_a_worker(patient: Patient) -> None:
    patient.create_topics()
    (line,) = patient.lines("stops", TRIMTAB_REDIS=f"redis://:hidden@{NOBODY}/0")
    assert line.startswith("redis: no Redis answers at redis:")
    assert "hidden" not in line


def test_weights_that_workers_refuse_are_named_with_the_reason(patient: Patient) -> None:
    patient.create_topics()
    patient.redis.hset(f"{patient.prefix}weights:home", mapping={"quality": "7"})
    (line,) = patient.lines("stops")
    assert line.startswith(f"weights: {patient.prefix}weights:home: workers refuse it: quality")


def test_weights_of_an_arm_are_checked_too(patient: Patient) -> None:
    patient.create_topics()
    patient.redis.hset(f"{patient.prefix}experiment:home", mapping={"canary": "5", "salt": "s"})
    patient.redis.hset(f"{patient.prefix}weights:home:canary", mapping={"quality": "much"})
    stops = patient.lines("stops")
    assert f"weights: {patient.prefix}weights:home:canary: workers refuse it" in stops[0]
    assert "arm 'canary'" in stops[1] or "canary" in stops[1]


def test_a_model_that_fails_verification_stops_and_an_older_one_that_passes_does_not(
    patient: Patient,
) -> None:
    patient.create_topics()
    quality = patient.models / "quality"
    shutil.copytree(quality / "1", quality / "2")
    (quality / "2" / "model.onnx").write_bytes(b"no model")
    assert "models: quality/1 verified" in patient.lines("ok")

    shutil.rmtree(quality / "1")
    (line,) = patient.lines("stops")
    assert line.startswith(
        "models: quality: expected a version that passes verification; quality/2:"
    )


def test_a_mistake_in_surfaces_toml_is_all_that_is_said(patient: Patient) -> None:
    patient.surfaces.write_text("[surfaces]\n")
    ended = patient.examine()
    assert ended.code == 1
    (line,) = ended.out.splitlines()
    assert line.startswith("stops    surfaces")


def test_candidates_from_the_future_are_warned_of(patient: Patient) -> None:
    candidates = patient.topics["topic_candidates"]
    create_topics(patient.kafka, [TopicPlan(candidates, 1)])
    producer = Producer({"bootstrap.servers": patient.kafka})
    producer.produce(candidates, b"x", timestamp=now_ms() + 600_000)
    producer.flush()
    warned = patient.lines("warns")
    assert any(line.startswith(f"clocks: topic '{candidates}'") for line in warned)


@pytest.mark.parametrize(("ahead_ms", "got"), [(5_000, "got -"), (-5_000, "got ")])
def test_a_redis_whose_clock_differs_is_warned_of(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, ahead_ms: int, got: str
) -> None:
    monkeypatch.setattr("workers.commands.doctor.now_ms", lambda: now_ms() + ahead_ms)
    (line,) = [line for line in patient.lines("warns", TRIMTAB_KAFKA=NOBODY) if "clocks" in line]
    assert line.startswith(f"clocks: Redis: {got}")
    assert "expected at most 1000 either way. Synchronize the clocks (NTP)" in line


def test_weights_that_could_be_evicted_stop(
    patient: Patient, make_redis: Callable[..., RedisServer]
) -> None:
    patient.create_topics()
    evicting = make_redis("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    evicting.start()
    (line,) = patient.lines("stops", TRIMTAB_REDIS=evicting.url)
    assert line.startswith("redis: maxmemory-policy: got allkeys-lru, expected noeviction")


def test_a_replica_without_a_master_to_write_to_is_told_from_a_denial(
    patient: Patient, make_redis: Callable[..., RedisServer]
) -> None:
    patient.create_topics()
    replica = make_redis("--replicaof", "127.0.0.1", "1", "--replica-serve-stale-data", "yes")
    replica.start()
    warned = patient.lines("warns", TRIMTAB_REDIS=replica.url)
    assert any("Give the address of the current master" in line for line in warned)


def test_the_workers_user_of_deploy_is_denied_nothing(
    patient: Patient, server: RedisServer
) -> None:
    patient.create_topics()
    worker = {"TRIMTAB_REDIS": url(server, "trimtab-worker"), "TRIMTAB_REDIS_PREFIX": ""}
    assert patient.lines("stops", **worker) == []
    assert not any("Grant it" in line for line in patient.lines("warns", **worker))
    # It may not see what only an administrator sees.
    assert len(patient.lines("unknown", **worker)) == 2
    assert {entry["object"] for entry in log(server)} <= {"info", "time"}


def test_a_collector_that_takes_no_spans_is_warned_of_and_a_wrong_address_stops_a_worker(
    patient: Patient,
) -> None:
    warns = patient.lines("warns", TRIMTAB_TRACE_ENDPOINT=f"http://{NOBODY}")
    assert warns[-1].startswith("traces: the collector takes no spans: Connection refused.")
    stops = patient.lines("stops", TRIMTAB_TRACE_ENDPOINT=NOBODY)
    assert stops[-1].startswith("traces: trace_endpoint: got a value that is not shown")
