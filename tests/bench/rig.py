"""The bench's own world: a stack in a temporary home, two small models, and topics for each
measurement alone.
"""

import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tests.bench.load import HEADERS, Message
from tests.bench.runner import PARTITIONS, Place, Running
from tests.scoring.building import FEATURES, add_model, mlp
from workers.codec.pointer import read_pointer
from workers.local import Stack
from workers.settings import SETTINGS
from workers.streaming.clients import Cluster
from workers.streaming.records import Fetched, fetched
from workers.streaming.send import Sender
from workers.streaming.topics import TopicPlan, create_topics

OBJECTIVES = ("quality", "engagement")
SURFACES_FILE, MODELS_FOLDER = "surfaces.toml", "models"
DEADLINE_MS = 600_000
_NO_COORDINATOR_YET = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}

# Deadlines are long: where the machine is slow, that must show in the figures and not in cut feeds.
SURFACES = f"""
[feature_sets.wide]
names = {list(FEATURES)}

[surfaces.home]
feature_set = "wide"
objectives = {list(OBJECTIVES)}
deadline_ms = {DEADLINE_MS}
horizon_ms = {DEADLINE_MS}
max_candidates = 1000
weights = {{ quality = 0.5, engagement = 0.5 }}
"""


@dataclass(frozen=True)
class Rig:
    """A running stack, and a folder with surfaces and models."""

    kafka: str
    redis: str
    folder: Path
    models_mb: int = 1024

    @classmethod
    def furnish(cls, kafka: str, redis: str, folder: Path) -> "Rig":
        """Write surfaces and models into an empty folder, for servers that are up."""
        (folder / SURFACES_FILE).write_text(SURFACES)
        for seed, objective in enumerate(OBJECTIVES):
            add_model(folder / MODELS_FOLDER, mlp(seed=seed), objective)
        return cls(kafka, redis, folder)

    def lane(self, candidates: str | None = None) -> "Lane":
        """A new group with its own topics; `candidates` names a topic of another lane to read
        again.
        """
        lane = Lane(self, f"bench-{uuid.uuid4().hex[:8]}", candidates)
        names = [lane.place.feeds, lane.place.letters] + (
            [lane.place.candidates] if candidates is None else []
        )
        # Also for the feeds: their producers' clocks say different things in different programs.
        log_append = {"message.timestamp.type": "LogAppendTime"}
        create_topics(self.kafka, [TopicPlan(name, PARTITIONS, log_append) for name in names])
        return lane


def user_cache() -> Path:
    """The user's own cache: what was downloaded once serves every run."""
    setting = SETTINGS["cache"]
    return Path(os.environ.get(setting.variable) or str(setting.default)).expanduser()


@contextmanager
def start_rig() -> Iterator[Rig]:
    """A stack of our own, ended and deleted in any case."""
    with TemporaryDirectory(prefix="trimtab-bench-") as name:
        folder = Path(name)
        stack = Stack(folder, user_cache())
        try:
            addresses = stack.up()
            yield Rig.furnish(addresses.kafka, addresses.redis, folder)
        finally:
            stack.down()


class Lane:
    """One measurement: its place, what is sent to it, and how far its group has read."""

    def __init__(self, rig: Rig, group: str, candidates: str | None) -> None:
        self.cluster = Cluster(rig.kafka)
        self.place = Place(
            kafka=rig.kafka,
            redis=rig.redis,
            group=group,
            candidates=candidates or f"{group}.candidates",
            feeds=f"{group}.feeds",
            letters=f"{group}.letters",
            folder=rig.folder,
            models=rig.folder / MODELS_FOLDER,
            surfaces=rig.folder / SURFACES_FILE,
            models_mb=rig.models_mb,
        )

    def send(self, messages: Iterable[Message]) -> int:
        """Send all of it and wait for the broker; returns how many."""
        sender = Sender.to(self.cluster, self.place.candidates)
        for key, value in messages:
            sender.send(key, value, HEADERS)
        sender.finish()
        return sender.sent

    def wait_until_taken(self, running: Running, events: int) -> None:
        """Wait until the worker has taken in so many events and committed that, whether they are
        open or not.
        """
        with _closing(self._asker()) as consumer:
            running.wait_until(lambda: self._taken(consumer) >= events)

    def wait_until_published(self, running: Running, events: int) -> None:
        """Wait until so many events are behind the committed offsets: nothing is left open."""
        with _closing(self._asker()) as consumer:
            running.wait_until(
                lambda: sum(max(0, at.offset) for at in self._committed(consumer)) >= events
            )

    def _asker(self) -> Consumer:
        """A client that may ask what the group has committed; it never joins."""
        group = {"group.id": self.place.group, "enable.auto.commit": False}
        return Consumer({"bootstrap.servers": self.place.kafka, "log_level": 3} | group)

    def _taken(self, consumer: Consumer) -> int:
        pointers = [read_pointer(at.metadata) for at in self._committed(consumer)]
        return sum(pointer.next for pointer in pointers if pointer is not None)

    def _committed(self, consumer: Consumer) -> list[TopicPartition]:
        """What the group has committed; nothing while the broker still makes up its mind who keeps
        that.
        """
        try:
            return list(
                consumer.committed(
                    [TopicPartition(self.place.candidates, p) for p in range(PARTITIONS)], 30.0
                )
            )
        except KafkaException as error:
            if error.args[0].code() in _NO_COORDINATOR_YET:
                return []
            raise

    def read_feeds(self, count: int) -> list[Fetched]:
        """All feeds under read_committed; fails where they are not `count` of as many requests."""
        found: list[Fetched] = []
        with _closing(self.cluster.reader()) as consumer:
            consumer.assign([TopicPartition(self.place.feeds, p, 0) for p in range(PARTITIONS)])
            left = PARTITIONS
            while left:
                messages = fetched(consumer.consume(5000, 0.2))
                found += [message for message in messages if message.error() is None]
                left -= sum(message.error() is not None for message in messages)
        check_keys([feed.key() for feed in found], count)
        return found


def check_keys(keys: Sequence[bytes | None], count: int) -> None:
    """The feeds' keys: where one is lost or doubled, what was measured is not worth saying."""
    assert len(keys) == len(set(keys)) == count, (
        f"{count} requests, {len(keys)} feeds of {len(set(keys))} requests"
    )


@contextmanager
def _closing(consumer: Consumer) -> Iterator[Consumer]:
    try:
        yield consumer
    finally:
        consumer.close()
