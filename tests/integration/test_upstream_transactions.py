"""Producers that write in transactions: what they have not decided yet is neither late nor lost."""

import json
import random
from collections.abc import Callable
from typing import Any

from confluent_kafka import Producer

from tests.rig.environment import Environment
from tests.rig.oracle import Oracle
from tests.rig.process import until
from tests.rig.traffic import JSON, make_request

DEADLINE_MS = 1500


def produce(producer: Producer, env: Environment, partition: int, event: dict[str, Any]) -> None:
    """Append one event, and wait until it is."""
    value = json.dumps(event).encode()
    producer.produce(
        env.candidates, value, event["request_id"].encode(), partition, headers=list(JSON)
    )
    assert producer.flush(30) == 0


def wait_out_a_deadline(producer: Producer, env: Environment, name: str) -> None:
    """Return once a request on the other partition has closed by the idle clock: one sent now, and
    idle as long.
    """
    produce(producer, env, 1, make_request(name, 2, random.Random(1))[0])
    until(
        lambda: name in {feed["request_id"] for feed in env.feeds_by_now()}, env.processes[0].logged
    )


def test_a_request_waits_for_an_undecided_transaction_that_holds_its_second_part(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(partitions=2, deadline_ms=DEADLINE_MS)
    draw = random.Random(2)
    committed = make_request("committed", 2, draw)
    aborted = make_request("aborted", 2, draw)
    plain = env.cluster.producer()
    upstream = env.cluster.transactional(f"{env.name}-upstream", 100_000)
    upstream.init_transactions(30)
    worker = env.start_worker()
    worker.wait_for("event=restored", times=2)

    # Both parts are appended at once; the transaction of the second is decided after the deadline.
    produce(plain, env, 0, committed[0])
    upstream.begin_transaction()
    produce(upstream, env, 0, committed[1])
    wait_out_a_deadline(plain, env, "first clock")
    upstream.commit_transaction(30)
    until(lambda: len(env.feeds_by_now()) == 2, worker.logged)

    produce(plain, env, 0, aborted[0])
    upstream.begin_transaction()
    produce(upstream, env, 0, aborted[1])
    wait_out_a_deadline(plain, env, "second clock")
    upstream.abort_transaction(30)

    feeds = {feed["request_id"]: feed for feed in env.read_feeds(4)}
    assert len(feeds) == 4
    oracle = Oracle(env.folder / "models")
    oracle.check(feeds["committed"], committed, completion="full")
    oracle.check(feeds["aborted"], aborted[:1], completion="deadline")
    assert env.read_letters(0) == []
    assert worker.terminate() == 0
