"""Real workers on the real stack: topics of their own for each test, processes that can be killed,
and readers.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.scoring.building import FEATURES, add_model, mlp
from workers.codec.dead_letters import DeadLetter, read_dead_letter
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import TopicReader
from workers.streaming.records import Headers, Record
from workers.streaming.send import Sender
from workers.streaming.topics import TopicPlan, create_topics

JSON: Headers = [("content-type", b"application/json")]
PATIENCE = 90.0

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


@dataclass
class World:
    """One test's topics, settings and worker processes."""

    kafka: str
    redis: str
    folder: Path
    partitions: int = 4
    protocol: str = "cooperative-sticky"
    # Past any pause of this machine: a request whose events it parts does not close. Tests of
    # deadlines ask for less.
    deadline_ms: int = 60_000
    environment: dict[str, str] = field(default_factory=dict)
    workers: list["WorkerProcess"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = f"t{uuid.uuid4().hex[:8]}"
        self.cluster = Cluster(self.kafka)
        self.admin = self.cluster.admin()
        self.candidates, self.feeds, self.letters = (
            f"{self.name}.{n}" for n in ("candidates", "feeds", "letters")
        )
        surfaces = SURFACES.replace("deadline_ms = 60000", f"deadline_ms = {self.deadline_ms}")
        (self.folder / "surfaces.toml").write_text(surfaces)
        # A killed member leaves its group sooner than by the default of 6 s: these tests kill
        # often.
        (self.folder / "kafka.properties").write_text(
            "session.timeout.ms=2000\nheartbeat.interval.ms=500\n"
        )
        add_model(self.folder / "models", mlp(seed=1), "quality")
        add_model(self.folder / "models", mlp(seed=2), "engagement")
        self.create_topics()

    def create_topics(self, feeds_partitions: int | None = None) -> None:
        log_append = {"message.timestamp.type": "LogAppendTime"}
        plans = [
            TopicPlan(self.candidates, self.partitions, log_append),
            TopicPlan(self.feeds, feeds_partitions or self.partitions),
            TopicPlan(self.letters, self.partitions, {"max.message.bytes": "2097152"}),
        ]
        create_topics(self.kafka, plans)

    @property
    def settings(self) -> dict[str, str]:
        return (
            {
                "TRIMTAB_KAFKA": self.kafka,
                "TRIMTAB_REDIS": self.redis,
                "TRIMTAB_REDIS_PREFIX": f"{self.name}:",
                "TRIMTAB_SURFACES": str(self.folder / "surfaces.toml"),
                "TRIMTAB_MODELS": str(self.folder / "models"),
                "TRIMTAB_TOPIC_CANDIDATES": self.candidates,
                "TRIMTAB_TOPIC_FEEDS": self.feeds,
                "TRIMTAB_TOPIC_DEAD_LETTERS": self.letters,
                "TRIMTAB_GROUP": self.name,
                "TRIMTAB_GROUP_PROTOCOL": self.protocol,
                "TRIMTAB_HOME": str(self.folder / "home"),
            }
            | self._quick_sessions()
            | self.environment
        )

    def _quick_sessions(self) -> dict[str, str]:
        """Under the `consumer` protocol the broker holds the session, and the client may not set
        it.
        """
        return (
            {}
            if self.protocol == "consumer"
            else {"TRIMTAB_KAFKA_CONFIG": str(self.folder / "kafka.properties")}
        )

    def trimtab(self, *words: str, **more: Any) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        command = [sys.executable, "-m", "workers.cli", *words]
        return subprocess.run(
            command,
            env=os.environ | self.settings,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **more,
        )

    def start_worker(self, *words: str, **more: Any) -> "WorkerProcess":
        log = self.folder / f"worker-{len(self.workers)}.log"
        worker = WorkerProcess(os.environ | self.settings, log, words, **more)
        self.workers.append(worker)
        return worker

    def sender(self) -> Sender:
        return Sender.to(self.cluster, self.candidates)

    def send(self, events: Iterable[Mapping[str, Any]]) -> None:
        sender = self.sender()
        for event in events:
            send_json(sender, event)
        sender.finish()

    def read_feeds(self, count: int, settle: float = 1.0) -> list[dict[str, Any]]:
        """Feeds under read_committed: `count` of them, and whatever more comes in `settle` seconds
        of silence.
        """
        return [
            json.loads(record.value or b"") for record in self.records(self.feeds, count, settle)
        ]

    def feeds_by_now(self) -> list[dict[str, Any]]:
        """Feeds under read_committed to the end of each partition, however many more are coming."""
        with closing(TopicReader(self.cluster, self.feeds, from_beginning=True)) as reader:
            return [json.loads(record.value or b"") for record in reader.records(follow=False)]

    def read_letters(self, count: int, settle: float = 1.0) -> list[DeadLetter]:
        letters = [
            read_dead_letter(r.key, r.value, r.headers)
            for r in self.records(self.letters, count, settle)
        ]
        return [letter for letter in letters if letter is not None]

    def records(self, topic: str, count: int, settle: float) -> list[Record]:
        with closing(TopicReader(self.cluster, topic, from_beginning=True)) as reader:
            return _collect(reader, count, settle)

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()


def _collect(reader: TopicReader, count: int, settle: float) -> list[Record]:
    found: list[Record] = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < count and time.monotonic() < deadline:
        for record in reader.records(follow=True, timeout=1.0):
            found.append(record)
            if len(found) >= count:
                break
    found.extend(reader.records(follow=True, timeout=settle))
    return found


class WorkerProcess:
    """One `trimtab worker`, with what it has said so far."""

    def __init__(
        self,
        environment: Mapping[str, str],
        log: Path,
        words: Sequence[str] = (),
        command: Sequence[str] = ("-m", "workers.cli", "worker"),
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command, *words],
                env=dict(environment),
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )

    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until the log holds `text`; fails with the log where the worker ends or the patience
        does.
        """
        until(
            lambda: self.said().count(text) >= times or self.process.poll() is not None, self.said
        )
        assert self.said().count(text) >= times, self.said()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def until(
    condition: Callable[[], bool],
    explain: Callable[[], object] = lambda: "",
    patience: float = PATIENCE,
) -> None:
    """Wait for a condition, looking twenty times a second."""
    deadline, pause = time.monotonic() + patience, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, explain()
        pause.wait(0.05)


def send_json(sender: Sender, event: Mapping[str, Any]) -> None:
    sender.send(str(event["request_id"]).encode(), json.dumps(event).encode(), JSON)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def candidate(request_id: str, number: int, draw: random.Random) -> dict[str, Any]:
    features = [round(draw.gauss(0, 1), 5) for _ in FEATURES]
    return {"item_id": f"{request_id}-i{number}", "source": f"s{number % 3}", "features": features}


def make_request(
    request_id: str, items: int, draw: random.Random, batch: int = 1, **changes: Any
) -> list[dict[str, Any]]:
    """The events of one request that closes full."""
    listed = [candidate(request_id, number, draw) for number in range(items)]
    common = {
        "request_id": request_id,
        "surface": "home",
        "user_id": f"u{request_id}",
        "requested_at": now_ms(),
        "expected": items,
    } | changes
    return [common | {"candidates": listed[i : i + batch]} for i in range(0, items, batch)]


def interleave(
    requests: Sequence[Sequence[dict[str, Any]]], draw: random.Random
) -> list[dict[str, Any]]:
    """The events of several requests as several producers would send them: each request's own in
    order.
    """
    queues = [list(events) for events in requests]
    mixed = []
    while queues:
        queue = draw.choice(queues)
        mixed.append(queue.pop(0))
        if not queue:
            queues.remove(queue)
    return mixed
