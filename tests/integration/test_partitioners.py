"""Two producers of one request that place its key differently: by murmur2, and by CRC32,
librdkafka's default.
"""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Producer

from tests.rig.environment import Environment
from tests.rig.process import until
from tests.rig.producers import ready_producer
from tests.rig.statuses import StatusReader
from tests.rig.traffic import JSON, make_request
from workers.codec.partitioner import partition_of

DEADLINE_MS = 1500
REQUESTS = 8


class Both:
    """Requests of two events, one event by each producer: what was sent, and to which partitions."""

    def __init__(self, env: Environment) -> None:
        made = [
            make_request(f"both-{number}", 2, random.Random(number)) for number in range(REQUESTS)
        ]
        self.events = {events[0]["request_id"]: events for events in made}
        self.placed: dict[str, list[int]] = defaultdict(list)
        self._topic = env.candidates
        self._crc32 = Producer({"bootstrap.servers": env.kafka, "partitioner": "consistent_random"})
        self._send(ready_producer(env.kafka), [events[0] for events in self.events.values()])
        self._send(self._crc32, [events[1] for events in self.events.values()])

    def send_again(self, request_ids: Sequence[str]) -> None:
        """Send the second event of these requests once more, by CRC32."""
        self._send(self._crc32, [self.events[request_id][1] for request_id in request_ids])

    def _send(self, producer: Producer, events: Sequence[dict[str, Any]]) -> None:
        for event in events:
            key = event["request_id"].encode()
            value = json.dumps(event).encode()
            producer.produce(
                self._topic, value, key, headers=list(JSON), on_delivery=self._delivered
            )
        assert producer.flush(30) == 0

    def _delivered(self, error: object, message: Any) -> None:
        assert error is None
        self.placed[message.key().decode()].append(message.partition())

    @property
    def split(self) -> dict[str, int]:
        """The requests whose events lie in two partitions, and in which one the second does."""
        return {request_id: to[1] for request_id, to in self.placed.items() if to[0] != to[1]}


def test_requests_that_two_partitioners_split_are_counted_and_logged_once_or_refused_where_they_do_not_belong(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(deadline_ms=DEADLINE_MS)
    worker = env.start_worker()
    status = StatusReader(env)
    worker.wait_for("event=restored", times=4)
    both = Both(env)
    halves = len(both.split)
    assert 0 < halves < REQUESTS
    assert all(
        partition_of(request_id.encode(), 4) == first
        for request_id, (first, _) in both.placed.items()
    )

    # By default each half is a feed, and it is logged.
    feeds = env.read_feeds(REQUESTS + halves, settle=0.1)
    assert sorted(len(feed["items"]) for feed in feeds) == [1] * (2 * halves) + [2] * (
        REQUESTS - halves
    )
    until(lambda: status.now()["counts"]["misplaced"] == halves, status.now)
    shown = " ".join(env.trimtab("status").stdout.split())
    assert f"events in another partition than murmur2 gives their key: {halves};" in shown
    assert worker.logged().count("event=partitioner_differs") == 1
    assert env.read_letters(0, settle=0.1) == []
    assert worker.terminate() == 0


def test_where_murmur2_is_required_what_is_elsewhere_is_a_dead_letter_and_no_request_is_lost_by_the_change(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env()
    first = env.start_worker()
    status = StatusReader(env)
    first.wait_for("event=restored", times=4)
    both = Both(env)
    elsewhere = both.split
    until(lambda: status.now().get("counts", {}).get("misplaced") == len(elsewhere), status.now)
    first.kill()

    # What had opened elsewhere is refused in the replay, and what comes there afterwards is, too.
    env.variables["TRIMTAB_CANDIDATES_PARTITIONER"] = "murmur2"
    second = env.start_worker()
    second.wait_for("event=restored", times=4)
    both.send_again(sorted(elsewhere))
    letters = env.read_letters(2 * len(elsewhere), settle=0.1)
    assert sorted(
        ((letter.key or b"").decode(), letter.reason, letter.partition) for letter in letters
    ) == sorted(
        2
        * [
            (request_id, "partition-mismatch", partition)
            for request_id, partition in elsewhere.items()
        ]
    )

    # The other half of each comes in its place.
    env.send(both.events[request_id][1] for request_id in elsewhere)
    feeds = env.read_feeds(REQUESTS)
    assert sorted(feed["request_id"] for feed in feeds) == sorted(both.events)
    assert {(feed["completion"], len(feed["items"])) for feed in feeds} == {("full", 2)}
    assert len(env.read_letters(2 * len(elsewhere))) == 2 * len(elsewhere)
