"""Models pinned, rolled back and split into arms, and an objective added by one weight, in
mid-stream.
"""

import random

from tests.rig.environment import Environment
from tests.rig.judge import check_stream
from tests.rig.process import until
from tests.rig.statuses import is_available
from tests.rig.traffic import RequestStream, make_request
from tests.scoring.building import add_model, mlp


def test_a_pinned_version_stays_whatever_comes_and_a_rollback_goes_back(env: Environment) -> None:
    with RequestStream(env.sender(), seed=21) as stream:
        for _ in range(2):
            env.start_worker().wait_for("event=restored", times=1)
        env.wait_for_more()
        until(lambda: is_available(env, "quality", 1))
        env.json_lines("models", "activate", "quality", "1", "--wait", "30")
        add_model(env.folder / "models", mlp(seed=7), "quality", version=2)
        until(lambda: is_available(env, "quality", 2))
        env.wait_for_more()
        assert {feed["models"]["quality"] for feed in env.feeds_by_now()} == {1}
        env.json_lines("models", "activate", "quality", "2", "--wait", "30")
        until(lambda: any(feed["models"]["quality"] == 2 for feed in env.feeds_by_now()))
        assert env.json_lines("models", "rollback", "quality", "--wait", "30")[0]["version"] == "1"
        env.wait_for_more()
    check_stream(env, stream)
    missing = env.trimtab("models", "activate", "quality", "3")
    assert (
        missing.returncode,
        "version 3 is not available, expected one of: 1, 2" in missing.stderr,
    ) == (2, True)


def test_an_objective_is_added_and_removed_by_one_weight_and_nothing_is_lost(
    env: Environment,
) -> None:
    key = f"{env.name}:weights:home"
    with RequestStream(env.sender(), seed=22) as stream:
        env.start_worker()
        env.wait_for_more()
        refused = env.trimtab("weights", "set", "home", "freshness=0.2", "--reason", "x")
        assert (
            refused.returncode,
            "freshness: not an objective of this surface" in refused.stderr,
        ) == (2, True)
        add_model(env.folder / "models", mlp(seed=9), "freshness")
        until(lambda: is_available(env, "freshness", 1))
        env.redis_client().hset(
            key, mapping={"quality": "0.4", "engagement": "0.4", "freshness": "0.2"}
        )
        until(lambda: any("freshness" in feed["models"] for feed in env.feeds_by_now()))
        env.json_lines("weights", "set", "home", "freshness=0.1", "--reason", "less of it")
        env.redis_client().hdel(key, "freshness")
        env.wait_for_more()
    check_stream(env, stream)
    feeds = env.read_feeds(len(stream))
    mixes = {tuple(feed["weights"]["values"]) for feed in feeds if feed["surface"] == "home"}
    assert mixes == {("quality", "engagement"), ("quality", "engagement", "freshness")}
    for feed in feeds:
        assert list(feed["models"]) == list(feed["weights"]["values"])


def test_a_version_is_tried_on_the_users_of_an_arm(env: Environment) -> None:
    draw = random.Random(23)
    add_model(env.folder / "models", mlp(seed=7), "quality", version=2)
    env.start_worker().wait_for("event=restored", times=4)
    until(lambda: is_available(env, "quality", 2))
    env.json_lines("models", "activate", "quality", "1")
    env.json_lines(
        "weights",
        "set",
        "home",
        "--arm",
        "canary",
        "quality=0.5",
        "--reason",
        "the same weights",
    )
    env.json_lines("models", "activate", "quality", "2", "--arm", "canary", "--surface", "home")
    env.json_lines("experiment", "start", "home", "canary=50")
    env.json_lines("weights", "wait", "home", "--arm", "canary")
    env.send(
        event for number in range(40) for event in make_request(f"r{number}", 4, draw, batch=4)
    )
    seen = {(feed["arm"], feed["models"]["quality"]) for feed in env.read_feeds(40)}
    assert seen == {("control", 1), ("canary", 2)}
