"""Weights turned in mid-stream by plain HSET: each feed under exactly one whole set, and nothing
interrupted.
"""

import json
import random
from typing import Any

from tests.rig.environment import Environment
from tests.rig.judge import check_stream
from tests.rig.oracle import Oracle
from tests.rig.process import until
from tests.rig.traffic import RequestStream, make_request, send_json
from workers.local import Stack
from workers.ranking.weights import Weights


def status(env: Environment, connection: Any) -> dict[str, Any]:
    (key,) = connection.keys(f"{env.name}:workers:status:*")
    found: dict[str, Any] = json.loads(connection.get(key))
    return found


def test_a_plain_hset_steers_the_next_feeds_and_they_name_the_set(env: Environment) -> None:
    draw = random.Random(1)
    sender = env.sender()
    worker = env.start_worker()
    worker.wait_for("event=restored", times=4)
    env.send(make_request("before", 10, draw))
    assert env.read_feeds(1, settle=0.1)[0]["weights"]["values"] == {
        "quality": 0.5,
        "engagement": 0.5,
    }
    env.redis_client().hset(
        f"{env.name}:weights:home", mapping={"quality": "0.2", "engagement": "0.8"}
    )
    worker.wait_for("event=weights_applied")
    events = make_request("after", 10, draw)
    for event in events:
        send_json(sender, event)
    sender.finish()
    after = next(feed for feed in env.read_feeds(2) if feed["request_id"] == "after")
    expected = Weights.of({"quality": 0.2, "engagement": 0.8})
    assert after["weights"] == {
        "version": expected.version,
        "values": {"quality": 0.2, "engagement": 0.8},
    }
    Oracle(env.folder / "models").check(after, events, completion="full")


def test_a_storm_of_writes_leaves_each_feed_under_exactly_one_whole_set(env: Environment) -> None:
    connection = env.redis_client()
    written = {(0.5, 0.5)}
    with RequestStream(env.sender(), seed=6) as stream:
        env.start_worker()
        env.wait_for_more()
        for turn in range(3000):
            quality = (turn * 7919 % 1000) / 1000
            written.add((quality, 1 - quality))
            connection.hset(
                f"{env.name}:weights:home",
                mapping={"quality": repr(quality), "engagement": repr(1 - quality)},
            )
            if turn % 1000 == 999:
                env.wait_for_more()
    check_stream(env, stream)
    used = {tuple(feed["weights"]["values"].values()) for feed in env.read_feeds(len(stream))}
    assert used <= written
    assert len(used) > 2


def test_an_invalid_set_is_refused_whole_and_the_last_good_one_goes_on(env: Environment) -> None:
    connection = env.redis_client()
    draw = random.Random(2)
    key = f"{env.name}:weights:home"
    connection.hset(key, mapping={"quality": "0.9", "engagement": "0.1"})
    worker = env.start_worker()
    worker.wait_for("event=restored", times=4)
    connection.hset(key, mapping={"quality": "0.3", "engagement": "nan"})
    worker.wait_for("event=weights_refused")
    env.send(make_request("r", 5, draw))
    (feed,) = env.read_feeds(1)
    assert feed["weights"]["values"] == {"quality": 0.9, "engagement": 0.1}
    until(lambda: "nan" in json.dumps(status(env, connection)), lambda: status(env, connection))
    connection.delete(key)
    env.send(make_request("gone", 5, draw))
    feeds = env.read_feeds(2)
    assert {tuple(feed["weights"]["values"].values()) for feed in feeds} == {(0.9, 0.1)}


def test_redis_that_freezes_or_dies_in_mid_stream_loses_nothing_and_is_found_again(
    env: Environment, stack: Stack
) -> None:
    key = f"{env.name}:weights:home"
    with RequestStream(env.sender(), seed=7) as stream:
        worker = env.start_worker()
        worker.wait_for("event=restored", times=4)
        env.redis_client().hset(key, mapping={"quality": "0.4", "engagement": "0.6"})
        worker.wait_for("event=weights_applied")
        with stack.paused("redis"):
            for _ in range(5):
                env.wait_for_more()
        stack.stop_redis()
        env.wait_for_more()
        stack.start_redis()
        env.redis_client().hset(key, mapping={"quality": "0.6", "engagement": "0.4"})
        worker.wait_for("event=weights_applied", times=2)
        env.wait_for_more()
    check_stream(env, stream)
    used = {tuple(feed["weights"]["values"].values()) for feed in env.read_feeds(len(stream))}
    assert used <= {(0.5, 0.5), (0.4, 0.6), (0.6, 0.4)}
