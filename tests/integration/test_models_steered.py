"""Models pinned, rolled back and split into arms, and an objective added by one weight, in
mid-stream.
"""

import json
import random
from typing import Any

import redis

from tests.integration.harness import World, make_request, until
from tests.integration.test_faults import streaming, wait_for_more
from tests.scoring.building import add_model, mlp


def client(world: World) -> "redis.Redis":
    return redis.Redis.from_url(world.redis, decode_responses=True)


def lines(world: World, *words: str) -> list[dict[str, Any]]:
    ended = world.trimtab(*words, "--json")
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def available(world: World, objective: str, version: int) -> bool:
    (found,) = lines(world, "models", "status")
    states = [
        v["workers"]
        for v in found["versions"]
        if (v["objective"], v["version"]) == (objective, version)
    ]
    return bool(states) and all(
        one["state"] in ("available", "loaded") for one in states[0].values()
    )


def test_a_pinned_version_stays_whatever_comes_and_a_rollback_goes_back(world: World) -> None:
    with streaming(world, 21) as stream:
        for _ in range(2):
            world.start_worker().wait_for("event=restored", times=1)
        wait_for_more(world)
        lines(world, "models", "activate", "quality", "1", "--wait", "30")
        add_model(world.folder / "models", mlp(seed=7), "quality", version=2)
        until(lambda: available(world, "quality", 2))
        wait_for_more(world)
        assert {feed["models"]["quality"] for feed in world.feeds_by_now()} == {1}
        lines(world, "models", "activate", "quality", "2", "--wait", "30")
        until(lambda: any(feed["models"]["quality"] == 2 for feed in world.feeds_by_now()))
        assert lines(world, "models", "rollback", "quality", "--wait", "30")[0]["version"] == "1"
        wait_for_more(world)
    stream.check()
    missing = world.trimtab("models", "activate", "quality", "3")
    assert (
        missing.returncode,
        "version 3 is not available, expected one of: 1, 2" in missing.stderr,
    ) == (2, True)


def test_an_objective_is_added_and_removed_by_one_weight_and_nothing_is_lost(world: World) -> None:
    key = f"{world.name}:weights:home"
    with streaming(world, 22) as stream:
        world.start_worker()
        wait_for_more(world)
        refused = world.trimtab("weights", "set", "home", "freshness=0.2", "--reason", "x")
        assert (
            refused.returncode,
            "freshness: not an objective of this surface" in refused.stderr,
        ) == (2, True)
        add_model(world.folder / "models", mlp(seed=9), "freshness")
        until(lambda: available(world, "freshness", 1))
        client(world).hset(key, mapping={"quality": "0.4", "engagement": "0.4", "freshness": "0.2"})
        until(lambda: any("freshness" in feed["models"] for feed in world.feeds_by_now()))
        lines(world, "weights", "set", "home", "freshness=0.1", "--reason", "less of it")
        client(world).hdel(key, "freshness")
        wait_for_more(world)
    stream.check()
    feeds = world.read_feeds(len(stream))
    mixes = {tuple(feed["weights"]["values"]) for feed in feeds if feed["surface"] == "home"}
    assert mixes == {("quality", "engagement"), ("quality", "engagement", "freshness")}
    for feed in feeds:
        assert list(feed["models"]) == list(feed["weights"]["values"])


def test_a_version_is_tried_on_the_users_of_an_arm(world: World) -> None:
    draw = random.Random(23)
    add_model(world.folder / "models", mlp(seed=7), "quality", version=2)
    world.start_worker().wait_for("event=restored", times=4)
    lines(world, "models", "activate", "quality", "1")
    lines(
        world,
        "weights",
        "set",
        "home",
        "--arm",
        "canary",
        "quality=0.5",
        "--reason",
        "the same weights",
    )
    lines(world, "models", "activate", "quality", "2", "--arm", "canary", "--surface", "home")
    lines(world, "experiment", "start", "home", "canary=50")
    lines(world, "weights", "wait", "home", "--arm", "canary")
    world.send(
        event for number in range(40) for event in make_request(f"r{number}", 4, draw, batch=4)
    )
    seen = {(feed["arm"], feed["models"]["quality"]) for feed in world.read_feeds(40)}
    assert seen == {("control", 1), ("canary", 2)}
