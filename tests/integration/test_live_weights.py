"""Weights turned in mid-stream by plain HSET: each feed under exactly one whole set, and nothing
interrupted.
"""

import json
import random
from typing import Any

import redis

from tests.integration.harness import World, make_request, send_json, until
from tests.integration.oracle import Oracle
from tests.integration.test_faults import streaming, wait_for_more
from workers.local import Stack
from workers.ranking.weights import Weights


def client(world: World) -> "redis.Redis":
    return redis.Redis.from_url(world.redis, decode_responses=True)


def status(world: World, connection: Any) -> dict[str, Any]:
    (key,) = connection.keys(f"{world.name}:workers:status:*")
    found: dict[str, Any] = json.loads(connection.get(key))
    return found


def test_a_plain_hset_steers_the_next_feeds_and_they_name_the_set(world: World) -> None:
    draw, sender = random.Random(1), world.sender()
    worker = world.start_worker()
    worker.wait_for("event=restored", times=4)
    world.send(make_request("before", 10, draw))
    assert world.read_feeds(1, settle=0.1)[0]["weights"]["values"] == {
        "quality": 0.5,
        "engagement": 0.5,
    }
    client(world).hset(
        f"{world.name}:weights:home", mapping={"quality": "0.2", "engagement": "0.8"}
    )
    worker.wait_for("event=weights_applied")
    events = make_request("after", 10, draw)
    for event in events:
        send_json(sender, event)
    sender.finish()
    after = next(feed for feed in world.read_feeds(2) if feed["request_id"] == "after")
    expected = Weights.of({"quality": 0.2, "engagement": 0.8})
    assert after["weights"] == {
        "version": expected.version,
        "values": {"quality": 0.2, "engagement": 0.8},
    }
    Oracle(world.folder / "models").check(after, events, completion="full")


def test_a_storm_of_writes_leaves_each_feed_under_exactly_one_whole_set(world: World) -> None:
    connection, written = client(world), {(0.5, 0.5)}
    with streaming(world, 6) as stream:
        world.start_worker()
        wait_for_more(world)
        for turn in range(3000):
            quality = (turn * 7919 % 1000) / 1000
            written.add((quality, 1 - quality))
            connection.hset(
                f"{world.name}:weights:home",
                mapping={"quality": repr(quality), "engagement": repr(1 - quality)},
            )
            if turn % 1000 == 999:
                wait_for_more(world)
    stream.check()
    used = {tuple(feed["weights"]["values"].values()) for feed in world.read_feeds(len(stream))}
    assert used <= written
    assert len(used) > 2


def test_an_invalid_set_is_refused_whole_and_the_last_good_one_goes_on(world: World) -> None:
    connection, draw = client(world), random.Random(2)
    key = f"{world.name}:weights:home"
    connection.hset(key, mapping={"quality": "0.9", "engagement": "0.1"})
    worker = world.start_worker()
    worker.wait_for("event=restored", times=4)
    connection.hset(key, mapping={"quality": "0.3", "engagement": "nan"})
    worker.wait_for("event=weights_refused")
    world.send(make_request("r", 5, draw))
    (feed,) = world.read_feeds(1)
    assert feed["weights"]["values"] == {"quality": 0.9, "engagement": 0.1}
    until(lambda: "nan" in json.dumps(status(world, connection)), lambda: status(world, connection))
    connection.delete(key)
    world.send(make_request("gone", 5, draw))
    feeds = world.read_feeds(2)
    assert {tuple(feed["weights"]["values"].values()) for feed in feeds} == {(0.9, 0.1)}


def test_redis_that_freezes_or_dies_in_mid_stream_loses_nothing_and_is_found_again(
    world: World, stack: Stack
) -> None:
    key = f"{world.name}:weights:home"
    with streaming(world, 7) as stream:
        worker = world.start_worker()
        worker.wait_for("event=restored", times=4)
        client(world).hset(key, mapping={"quality": "0.4", "engagement": "0.6"})
        worker.wait_for("event=weights_applied")
        stack.pause("redis")
        for _ in range(5):
            wait_for_more(world)
        stack.resume("redis")
        stack.stop_redis()
        wait_for_more(world)
        stack.start_redis()
        client(world).hset(key, mapping={"quality": "0.6", "engagement": "0.4"})
        worker.wait_for("event=weights_applied", times=2)
        wait_for_more(world)
    stream.check()
    used = {tuple(feed["weights"]["values"].values()) for feed in world.read_feeds(len(stream))}
    assert used <= {(0.5, 0.5), (0.4, 0.6), (0.6, 0.4)}
