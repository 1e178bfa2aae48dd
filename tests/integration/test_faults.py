"""Adversity: kills, rebalances, pauses, a broker that goes away. Nothing lost, nothing doubled,
every feed right.
"""

import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import KafkaException, TopicPartition

from tests.integration.harness import World, interleave, make_request, send_json, until
from tests.integration.oracle import Oracle
from workers.local import Stack
from workers.streaming.log_reader import ask_latest

PROTOCOLS = ("cooperative-sticky", "range", "consumer")


class Stream:
    """Requests that keep coming until told to stop; some events are refused, each of those once."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.sent: dict[str, list[dict[str, Any]]] = {}
        self.bad = 0
        self._draw = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        sender = self.world.sender()
        while not self._stop.wait(0.02):
            first = len(self.sent)
            requests = [
                make_request(f"r{first + n}", 10, self._draw, batch=self._draw.choice([1, 5]))
                for n in range(8)
            ]
            self.sent |= {events[0]["request_id"]: events for events in requests}
            for event in interleave(requests, self._draw):
                send_json(sender, event)
            sender.send(b"bad", f"bad {first}".encode(), [])
            self.bad += 1
        sender.finish()

    def finish(self) -> None:
        self._stop.set()
        self._thread.join()

    def __len__(self) -> int:
        return len(self.sent)

    def check(self) -> None:
        """Every request once, as the oracle says; every bad event once among the dead letters."""
        feeds = self.world.read_feeds(len(self.sent), settle=3.0)
        counts = Counter(feed["request_id"] for feed in feeds)
        assert [r for r, n in counts.items() if n > 1] == [], "doubled"
        lost = [r for r in self.sent if r not in counts]
        assert lost == [], "\n".join(["lost", *(worker.said() for worker in self.world.workers)])
        oracle = Oracle(self.world.folder / "models")
        for feed in feeds:
            oracle.check(feed, self.sent[feed["request_id"]], completion="full")
        letters = Counter(letter.value for letter in self.world.read_letters(self.bad))
        assert len(letters) == self.bad
        assert set(letters.values()) == {1}


@contextmanager
def streaming(world: World, seed: int) -> Iterator[Stream]:
    stream = Stream(world, seed)
    stream._thread.start()
    try:
        yield stream
    finally:
        stream.finish()


def fed(world: World) -> int:
    """The sum of the output's high watermarks: how far publishing has come; -1 while a leader is
    chosen.
    """
    asked = [
        ask_latest(world.admin, TopicPartition(world.feeds, p)) for p in range(world.partitions)
    ]
    try:
        return sum(future.result().offset for future in asked)
    except KafkaException:
        world.admin = (
            world.cluster.admin()
        )  # one that has lost its broker does not always find it again
        return -1


def wait_for_more(world: World) -> None:
    until(lambda: fed(world) >= 0)
    before = fed(world)
    until(lambda: fed(world) > before, lambda: [worker.said() for worker in world.workers])


def test_a_worker_killed_ten_times_in_mid_stream_loses_and_doubles_nothing(world: World) -> None:
    with streaming(world, 1) as stream:
        for _ in range(10):
            worker = world.start_worker()
            wait_for_more(world)
            worker.signal(signal.SIGKILL)
            worker.process.wait()
        world.start_worker()
    stream.check()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_workers_that_come_and_go_in_mid_stream_lose_and_double_nothing(
    make_world: Callable[..., World], protocol: str
) -> None:
    world = make_world(protocol=protocol)
    with streaming(world, 2) as stream:
        first = world.start_worker()
        wait_for_more(world)
        second = world.start_worker()
        second.wait_for("event=restored")
        wait_for_more(world)
        third = world.start_worker()
        third.wait_for("event=restored")
        assert first.terminate() == 0, first.said()
        wait_for_more(world)
        second.kill()
        wait_for_more(world)
        third.wait_for("event=restored", times=4)
    stream.check()


def test_a_worker_that_was_stopped_past_its_session_doubles_nothing_when_it_wakes(
    world: World,
) -> None:
    with streaming(world, 3) as stream:
        sleeper = world.start_worker()
        wait_for_more(world)
        sleeper.signal(signal.SIGSTOP)
        other = world.start_worker()
        other.wait_for("event=restored", times=4)
        wait_for_more(world)
        sleeper.signal(signal.SIGCONT)
        sleeper.wait_for("event=revoked")
        wait_for_more(world)
    stream.check()


def test_a_broker_that_is_killed_ten_times_under_load_is_waited_for_each_time(
    world: World, stack: Stack
) -> None:
    """In about every third such run, four times, a call of the client never returned (librdkafka
    #5456).
    """
    with streaming(world, 4) as stream:
        workers = [world.start_worker(), world.start_worker()]
        for worker in workers:
            worker.wait_for("event=restored")
        for _ in range(10):
            wait_for_more(world)
            stack.kill_kafka()
            stack.start_kafka()
        for worker in workers:
            worker.wait_for("event=kafka_back")
        wait_for_more(world)
    stream.check()
    for worker in workers:
        assert worker.process.poll() is None, worker.said()
        assert worker.terminate() == 0, worker.said()


def test_a_broker_that_freezes_and_wakes_is_waited_for(world: World, stack: Stack) -> None:
    with streaming(world, 5) as stream:
        worker = world.start_worker()
        wait_for_more(world)
        stack.pause("kafka")
        worker.wait_for("event=starting_anew")
        stack.resume("kafka")
        wait_for_more(world)
    stream.check()
