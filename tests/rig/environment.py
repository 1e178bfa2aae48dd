"""One environment: topics, a group, configuration files and processes of its own, on real servers.

Any number of environments share the servers. Their topics, group and Redis keys begin with the
environment's name, so none sees another.

A new kind of process needs a method beside `start_worker`. Its topics belong into `create_topics`,
its settings into `settings`.
"""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from redis import Redis

from tests.commands.running import trimtab
from tests.rig import topics
from tests.rig.process import PATIENCE_S, Process, until
from tests.rig.producers import ready_producer
from tests.rig.traffic import send_json
from tests.scoring.building import FEATURES, add_model, mlp
from workers.codec.dead_letters import DeadLetter, read_dead_letter
from workers.streaming.clients import Cluster
from workers.streaming.records import Record
from workers.streaming.send import Sender
from workers.streaming.topic_plans import (
    FEED_OUTCOMES_CONFIG,
    INTERACTIONS_CONFIG,
    USER_CHANGELOG_CONFIG,
)
from workers.streaming.topics import TopicPlan, create_topics

PARTITIONS = 4
REQUEST_PARTITIONS = 3
"""Of request-outcomes: a count of its own."""
OBJECTIVES = ("quality", "engagement")
LOG_APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}

SURFACES = f"""
[feature_sets.wide]
names = {json.dumps(list(FEATURES))}
bounds = {{ f0 = [-1.0, 1.0] }}

[surfaces.home]
feature_set = "wide"
objectives = ["quality", "engagement"]
deadline_ms = 60000
horizon_ms = 120000
max_candidates = 60
weights = {{ quality = 0.5, engagement = 0.5 }}
weight_bounds = {{ quality = [0.0, 1.0], engagement = [0.0, 1.0] }}

[surfaces.search]
feature_set = "wide"
objectives = ["engagement", "quality"]
deadline_ms = 60000
horizon_ms = 120000
max_candidates = 60
top_k = 5
weights = {{ engagement = 0.9, quality = 0.1 }}
"""


# Further surfaces, for tests that append them. The oracle has their rules.
CROWD = """
[surfaces.crowd]
feature_set = "wide"
objectives = ["quality", "engagement"]
deadline_ms = 60000
horizon_ms = 120000
max_candidates = 60
max_per_source = 4
weights = { quality = 0.5, engagement = 0.5 }

[surfaces.crowd.diversity]
decay = 0.6
floor = 0.2
"""

SHELF = """
[surfaces.shelf]
feature_set = "wide"
objectives = ["quality", "engagement"]
deadline_ms = 60000
horizon_ms = 120000
max_candidates = 60
weights = { quality = 0.5, engagement = 0.5 }
drop = { seen = "user", blocked = "surface" }
lookup_features = true
"""


def write_files(folder: Path, surfaces: str = SURFACES) -> None:
    """Write `surfaces.toml`, and a small model for each objective under `models`."""
    (folder / "surfaces.toml").write_text(surfaces)
    for seed, objective in enumerate(OBJECTIVES, start=1):
        add_model(folder / "models", mlp(seed=seed), objective)


@dataclass
class Environment:
    """Addresses, files and names. `variables` are settings beside those that follow from these.

    `folder` has `surfaces.toml` and `models`; several environments may share it. `feeds_config` is
    the configuration of the topic of feeds. `candidates` names a topic of another environment, to
    read it again.
    """

    kafka: str
    redis: str
    folder: Path
    partitions: int = PARTITIONS
    protocol: str = "cooperative-sticky"
    variables: dict[str, str] = field(default_factory=dict)
    feeds_config: Mapping[str, str] = field(default_factory=dict)
    candidates: str = ""
    processes: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = f"t{uuid.uuid4().hex[:8]}"
        self.candidates = self.candidates or f"{self.name}.candidates"
        self.feeds = f"{self.name}.feeds"
        self.letters = f"{self.name}.letters"
        self.interactions = f"{self.name}.interactions"
        self.interaction_letters = f"{self.name}.interaction-letters"
        self.request_outcomes = f"{self.name}.request-outcomes"
        self.feed_outcomes = f"{self.name}.feed-outcomes"
        self.user_outcomes = f"{self.name}.user-outcomes"
        self.user_changelog = f"{self.name}.user-outcomes.changelog"
        self.outcomes_group = f"{self.name}-outcomes"
        self.users_group = f"{self.name}-users"

    @cached_property
    def cluster(self) -> Cluster:
        """The Kafka, for clients of the product."""
        return Cluster(self.kafka)

    @cached_property
    def admin(self) -> AdminClient:
        """A client for questions about topics."""
        return self.cluster.admin()

    def create_topics(self) -> None:
        """Create the topics as `trimtab stack up` does."""
        plans = [
            TopicPlan(self.candidates, self.partitions, LOG_APPEND_TIME),
            TopicPlan(self.feeds, self.partitions, self.feeds_config),
            TopicPlan(self.letters, self.partitions, {"max.message.bytes": "2097152"}),
        ]
        # A broker that the test before has paused may still be on its way back.
        create_topics(self.kafka, plans, timeout=PATIENCE_S)

    def create_outcome_topics(self) -> None:
        """Create the topics of outcomes as well, for surfaces that count some."""
        plans = [
            TopicPlan(self.interactions, self.partitions, INTERACTIONS_CONFIG),
            TopicPlan(self.interaction_letters, self.partitions, {"max.message.bytes": "2097152"}),
            TopicPlan(self.request_outcomes, REQUEST_PARTITIONS),
            TopicPlan(self.feed_outcomes, self.partitions, FEED_OUTCOMES_CONFIG),
        ]
        create_topics(self.kafka, plans)

    def create_user_topics(self) -> None:
        """Create the topics of the users stage, and the one that it reads."""
        plans = [
            TopicPlan(self.request_outcomes, REQUEST_PARTITIONS),
            TopicPlan(self.user_outcomes, REQUEST_PARTITIONS, FEED_OUTCOMES_CONFIG),
            TopicPlan(self.user_changelog, REQUEST_PARTITIONS, USER_CHANGELOG_CONFIG),
        ]
        create_topics(self.kafka, plans)

    def fresh(self, candidates: str = "", **variables: str) -> "Environment":
        """Another environment on the same servers and files, with topics that are created.

        It reads the topic `candidates`, if that is given, and has these variables besides.
        """
        other = replace(
            self, candidates=candidates, variables=self.variables | variables, processes=[]
        )
        other.create_topics()
        return other

    @property
    def home(self) -> Path:
        """The folder in which processes keep their state."""
        return self.folder / f"{self.name}-home"

    @property
    def settings(self) -> dict[str, str]:
        """The settings of every process, as environment variables."""
        settings = {
            "TRIMTAB_KAFKA": self.kafka,
            "TRIMTAB_REDIS": self.redis,
            "TRIMTAB_REDIS_PREFIX": f"{self.name}:",
            "TRIMTAB_SURFACES": str(self.folder / "surfaces.toml"),
            "TRIMTAB_MODELS": str(self.folder / "models"),
            "TRIMTAB_TOPIC_CANDIDATES": self.candidates,
            "TRIMTAB_TOPIC_FEEDS": self.feeds,
            "TRIMTAB_TOPIC_DEAD_LETTERS": self.letters,
            "TRIMTAB_TOPIC_INTERACTIONS": self.interactions,
            "TRIMTAB_TOPIC_INTERACTION_LETTERS": self.interaction_letters,
            "TRIMTAB_TOPIC_REQUEST_OUTCOMES": self.request_outcomes,
            "TRIMTAB_TOPIC_FEED_OUTCOMES": self.feed_outcomes,
            "TRIMTAB_TOPIC_USER_OUTCOMES": self.user_outcomes,
            "TRIMTAB_TOPIC_USER_CHANGELOG": self.user_changelog,
            "TRIMTAB_GROUP": self.name,
            "TRIMTAB_OUTCOMES_GROUP": self.outcomes_group,
            "TRIMTAB_USERS_GROUP": self.users_group,
            "TRIMTAB_GROUP_PROTOCOL": self.protocol,
            "TRIMTAB_HOME": str(self.home),
        }
        return settings | self.variables

    def redis_client(self) -> Redis:
        """A plain client of the Redis."""
        return Redis.from_url(self.redis, decode_responses=True)

    def trimtab(self, *words: str, **more: Any) -> "subprocess.CompletedProcess[str]":
        """Run a command in a process of its own to its end."""
        return subprocess.run(
            [sys.executable, "-m", "workers.cli", *words],
            env=os.environ | self.settings,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **more,
        )

    def json_lines(self, *words: str) -> list[dict[str, Any]]:
        """The documents that a command prints with `--json`, one a line. Fails if the command does.

        The command runs in this process: starting another one takes half a second of CPU.
        """
        ended = trimtab(*words, "--json", **self.settings)
        assert ended.code == 0, ended.err
        return [json.loads(line) for line in ended.out.splitlines()]

    def start_worker(self, *words: str) -> Process:
        """Start `trimtab worker`."""
        return self.start(["-m", "workers.cli", "worker", *words])

    def start_join(self, *words: str) -> Process:
        """Start `trimtab outcomes join`."""
        return self.start(["-m", "workers.cli", "outcomes", "join", *words])

    def start_users(self, *words: str) -> Process:
        """Start `trimtab outcomes users`."""
        return self.start(["-m", "workers.cli", "outcomes", "users", *words])

    def start(self, arguments: Sequence[str], python: str = sys.executable) -> Process:
        """Start a Python process under this environment's settings."""
        log = self.folder / f"{self.name}-{len(self.processes)}.log"
        process = Process(arguments, os.environ | self.settings, log, python)
        self.processes.append(process)
        return process

    def end(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            process.kill()

    def sender(self) -> Sender:
        """A sender to the candidates."""
        return Sender(self.cluster, ready_producer(self.kafka), self.candidates)

    def send(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Send events as JSON, and wait until the broker has them."""
        sender = self.sender()
        for event in events:
            send_json(sender, event)
        sender.finish()

    def published(self) -> int:
        """The sum of the high watermarks of the feeds. -1 while a partition has no leader."""
        return self.written(self.feeds, self.partitions)

    def written(self, topic: str, partitions: int) -> int:
        """The sum of the high watermarks of a topic. -1 while a partition has no leader."""
        latest = {
            TopicPartition(topic, partition): OffsetSpec.latest()  # type: ignore[no-untyped-call]
            for partition in range(partitions)
        }
        try:
            ends = [future.result() for future in self.admin.list_offsets(latest).values()]
        except KafkaException:
            # A client that has lost its broker does not always find it again.
            self.admin = self.cluster.admin()
            return -1
        return sum(end.offset for end in ends)

    def wait_for_more(self) -> None:
        """Wait until something is published that was not there at the call."""
        self._wait_for_more(self.feeds, self.partitions)

    def wait_for_more_outcomes(self) -> None:
        """Wait until the join has written the outcomes of a request that were not there at the
        call.
        """
        self._wait_for_more(self.request_outcomes, REQUEST_PARTITIONS)

    def _wait_for_more(self, topic: str, partitions: int) -> None:
        until(lambda: self.written(topic, partitions) >= 0)
        before = self.written(topic, partitions)
        until(
            lambda: self.written(topic, partitions) > before,
            lambda: [process.logged() for process in self.processes],
        )

    def records(self, topic: str, count: int, settle: float = 1.0) -> list[Record]:
        """`count` records of a topic, and whatever more comes until `settle` seconds are silent."""
        return topics.read_records(self.kafka, topic, count, PATIENCE_S, settle)

    def read_feeds(self, count: int, settle: float = 1.0) -> list[dict[str, Any]]:
        """The feeds that are readable, waited for as `records` does."""
        records = self.records(self.feeds, count, settle)
        return [json.loads(record.value or b"") for record in records]

    def feeds_by_now(self) -> list[dict[str, Any]]:
        """The feeds that are there, however many more are coming."""
        records = topics.read_to_end(self.kafka, self.feeds)
        return [json.loads(record.value() or b"") for record in records]

    def read_letters(self, count: int, settle: float = 1.0) -> list[DeadLetter]:
        """The dead letters, waited for as `records` does."""
        records = self.records(self.letters, count, settle)
        letters = [read_dead_letter(r.key, r.value, r.headers) for r in records]
        return [letter for letter in letters if letter is not None]
