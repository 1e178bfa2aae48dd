"""Producers that write in transactions: what they have not decided yet is neither late nor lost."""

import json
import random
from collections.abc import Callable
from typing import Any

from confluent_kafka import Producer

from tests.integration.harness import JSON, World, make_request, until
from tests.integration.oracle import Oracle

DEADLINE_MS = 1500


def produce(producer: Producer, world: World, partition: int, event: dict[str, Any]) -> None:
    """Append one event, and wait until it is."""
    value = json.dumps(event).encode()
    producer.produce(
        world.candidates, value, event["request_id"].encode(), partition, headers=list(JSON)
    )
    assert producer.flush(30) == 0


def wait_out_a_deadline(producer: Producer, world: World, name: str) -> None:
    """Return once a request on the other partition has closed by the idle clock: one sent now, and
    idle as long.
    """
    produce(producer, world, 1, make_request(name, 2, random.Random(1))[0])
    until(
        lambda: name in {feed["request_id"] for feed in world.feeds_by_now()}, world.workers[0].said
    )


def test_a_request_waits_for_an_undecided_transaction_that_holds_its_second_part(
    make_world: Callable[..., World],
) -> None:
    world, draw = make_world(partitions=2, deadline_ms=DEADLINE_MS), random.Random(2)
    committed, aborted = make_request("committed", 2, draw), make_request("aborted", 2, draw)
    plain = world.cluster.producer()
    upstream = world.cluster.transactional(f"{world.name}-upstream", 100_000)
    upstream.init_transactions(30)
    worker = world.start_worker()
    worker.wait_for("event=restored", times=2)

    # Both parts are appended at once; the transaction of the second is decided after the deadline.
    produce(plain, world, 0, committed[0])
    upstream.begin_transaction()
    produce(upstream, world, 0, committed[1])
    wait_out_a_deadline(plain, world, "first clock")
    upstream.commit_transaction(30)
    until(lambda: len(world.feeds_by_now()) == 2, worker.said)

    produce(plain, world, 0, aborted[0])
    upstream.begin_transaction()
    produce(upstream, world, 0, aborted[1])
    wait_out_a_deadline(plain, world, "second clock")
    upstream.abort_transaction(30)

    feeds = {feed["request_id"]: feed for feed in world.read_feeds(4)}
    assert len(feeds) == 4
    oracle = Oracle(world.folder / "models")
    oracle.check(feeds["committed"], committed, completion="full")
    oracle.check(feeds["aborted"], aborted[:1], completion="deadline")
    assert world.read_letters(0) == []
    assert worker.terminate() == 0
