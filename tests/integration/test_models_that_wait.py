"""Requests that wait for a large model: other feeds go on, and what waits too long or past the
bounds is not scored.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.rig.environment import Environment
from tests.rig.oracle import Oracle
from tests.rig.process import until
from tests.rig.statuses import is_available
from tests.rig.traffic import make_request, now_ms
from tests.scoring.building import add_model, mlp, trees

LARGE = {
    "layers": lambda: mlp(hidden=(3600, 3600), seed=9),
    "trees": lambda: trees(count=750, depth=10),
}
"""Files of 50 MB. Layers are for the oracle; trees load for longer and score quicker."""


def start_with_a_model_that_is_not_loaded(env: Environment, kind: str) -> None:
    """Start a worker that ranks `home` by a third objective too, whose large model it has verified
    and let go of.
    """
    env.variables["TRIMTAB_MODELS_MB"] = "1"
    add_model(env.folder / "models", LARGE[kind](), "freshness")
    env.start_worker().wait_for("event=restored", times=env.partitions)
    until(lambda: is_available(env, "freshness", 1))
    env.redis_client().hset(
        f"{env.name}:weights:home", mapping={"quality": 0.4, "engagement": 0.4, "freshness": 0.2}
    )
    env.json_lines("weights", "wait", "home", "--timeout", "60")


def check_is_not_scored(feed: Mapping[str, Any], items: int) -> None:
    assert (feed["completion"], feed["models"], feed["items"]) == ("full", {}, [])
    assert [removal["reason"] for removal in feed["removed"]] == ["not-scored"] * items
    assert "freshness" in feed["weights"]["values"]


def test_while_a_large_model_loads_the_feeds_of_another_surface_go_on(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(partitions=1)
    draw = random.Random(31)
    start_with_a_model_that_is_not_loaded(env, "layers")
    sent = {"waits": make_request("waits", 4, draw)}
    sent |= {f"s{n}": make_request(f"s{n}", 4, draw, surface="search") for n in range(3)}
    send_at_once(env, [event for events in sent.values() for event in events])
    feeds = env.read_feeds(len(sent))
    assert [feed["request_id"] for feed in feeds] == ["s0", "s1", "s2", "waits"]
    oracle = Oracle(env.folder / "models")
    for feed in feeds:
        oracle.check(feed, sent[feed["request_id"]], completion="full")
    assert feeds[-1]["models"] == {"quality": 1, "engagement": 1, "freshness": 1}


def test_a_request_whose_models_do_not_come_in_time_ends_in_a_feed_that_says_not_scored(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(partitions=1, variables={"TRIMTAB_MODELS_WAIT_S": "0"})
    draw = random.Random(32)
    start_with_a_model_that_is_not_loaded(env, "layers")

    def feeds_of_one_more() -> Sequence[Mapping[str, Any]]:
        number = len(sent)
        sent[f"r{number}"] = make_request(f"r{number}", 4, draw)
        env.send(sent[f"r{number}"])
        return env.read_feeds(len(sent), settle=0.1)

    sent: dict[str, list[dict[str, Any]]] = {}
    check_is_not_scored(feeds_of_one_more()[0], items=4)
    until(lambda: bool(feeds_of_one_more()[-1]["items"]), env.processes[0].logged)
    feeds = env.read_feeds(len(sent))
    assert [feed["request_id"] for feed in feeds] == list(sent)
    Oracle(env.folder / "models").check(feeds[-1], sent[feeds[-1]["request_id"]], completion="full")


def test_past_the_bound_of_open_requests_the_oldest_that_wait_for_a_model_are_given_up(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(partitions=1, variables={"TRIMTAB_MAX_OPEN_REQUESTS": "100"})
    start_with_a_model_that_is_not_loaded(env, "trees")
    send_at_once(env, [one_event(f"r{number}", items=60) for number in range(400)])
    feeds = env.read_feeds(400)
    assert [feed["request_id"] for feed in feeds] == [f"r{number}" for number in range(400)]
    given_up = [feed for feed in feeds if not feed["items"]]
    assert 0 < len(given_up) <= 300
    assert feeds[: len(given_up)] == given_up, "not the oldest"
    for feed in given_up:
        check_is_not_scored(feed, items=60)
    for feed in feeds[len(given_up) :]:
        assert (len(feed["items"]), feed["models"]["freshness"]) == (60, 1)


def one_event(request_id: str, items: int) -> dict[str, Any]:
    candidates = [
        {"item_id": f"i{number}", "features": [number / 64] * 32} for number in range(items)
    ]
    common = {"request_id": request_id, "surface": "home", "user_id": "u", "requested_at": now_ms()}
    return common | {"expected": items, "candidates": candidates}


def send_at_once(env: Environment, events: Sequence[Mapping[str, Any]]) -> None:
    """Send events of which the worker sees none before the last is there, whatever holds up this
    process.
    """
    producer = env.cluster.transactional(f"{env.name}-upstream", 100_000)
    producer.init_transactions(30)
    producer.begin_transaction()
    for event in events:
        producer.produce(env.candidates, json.dumps(event).encode(), event["request_id"].encode())
    producer.commit_transaction(60)
