"""A verified model that fails on one candidate, under versions named by time, in JSON and in
Protobuf.
"""

import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.commands.running import trimtab
from tests.rig.environment import Environment
from tests.rig.process import until
from tests.rig.traffic import make_request
from tests.scoring.building import add_model, embedding
from workers.codec.feeds import decode_feed
from workers.scoring.verify import verify

FIRST = 20261127031249
SECOND = 20261127031250


def check_scores(
    env: Environment, scores: Mapping[str, float], events: Sequence[Mapping[str, Any]], version: int
) -> None:
    """The candidates that are ranked have the very scores of the model, run by itself."""
    model = verify(env.folder / "models" / "quality" / str(version))
    for candidate in events[0]["candidates"]:
        if candidate["item_id"] in scores:
            features = np.array([candidate["features"]], np.float32)
            features[:, 0] = np.clip(features[:, 0], -1.0, 1.0)
            assert scores[candidate["item_id"]] == model.score(features)[0]


def model_errors(env: Environment) -> int:
    (worker,) = json.loads(trimtab("status", "--json", **env.settings).out)["workers"]
    return int((worker["counts"] or {}).get("model_errors", 0))


def test_one_candidate_that_a_model_fails_on_costs_its_feed_that_candidate(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(partitions=1)
    draw = random.Random(41)
    shutil.rmtree(env.folder / "models" / "quality")
    for version in (FIRST, SECOND):
        add_model(env.folder / "models", embedding(seed=version % 100), "quality", version)
    sent = {f"r{n}": make_request(f"r{n}", 5, draw, batch=5) for n in range(6)}
    sent["s0"] = make_request("s0", 5, draw, batch=5, surface="search")
    for spoilt in ("r1", "r4"):
        sent[spoilt][0]["candidates"][2]["features"][1] = 1000.0

    worker = env.start_worker()
    worker.wait_for("event=restored")
    env.redis_client().hset(f"{env.name}:models:home", "quality", str(FIRST))
    worker.wait_for("event=models_applied")
    env.send([sent[name][0] for name in ("r0", "r1", "s0", "r2")])
    feeds = {feed["request_id"]: feed for feed in env.read_feeds(4)}
    assert sorted(feeds) == ["r0", "r1", "r2", "s0"]
    assert feeds["r1"]["removed"] == [{"item_id": "r1-i2", "reason": "model-error"}]
    for name, feed in feeds.items():
        version = SECOND if name == "s0" else FIRST
        assert (feed["models"]["quality"], len(feed["items"])) == (
            version,
            4 if name == "r1" else 5,
        )
        check_scores(
            env,
            {i["item_id"]: i["scores"]["quality"] for i in feed["items"]},
            sent[name],
            version,
        )
    until(lambda: model_errors(env) == 1)
    assert worker.logged().count("event=model_error ") == 1
    assert (
        trimtab("models", "activate", "quality", SECOND, "--wait", "30", **env.settings).code == 0
    )
    assert worker.terminate() == 0, worker.logged()

    env.variables["TRIMTAB_FEEDS_FORMAT"] = "protobuf"
    again = env.start_worker()
    env.send([sent[name][0] for name in ("r3", "r4", "r5")])
    decoded = [
        decode_feed(record.value, record.headers) for record in env.records(env.feeds, 7, 1.0)[4:]
    ]
    assert [(feed.request_id, feed.models["quality"]) for feed in decoded] == [
        (n, SECOND) for n in ("r3", "r4", "r5")
    ]
    assert [removal.reason for feed in decoded for removal in feed.removed] == ["model-error"]
    for one in decoded:
        check_scores(
            env,
            {item.item_id: item.scores[0] for item in one.items},
            sent[one.request_id],
            SECOND,
        )
    assert again.is_running(), again.logged()
    preview = trimtab(
        "weights", "preview", "home", "quality=0.2", "engagement=0.8", "--json", **env.settings
    )
    assert (preview.code, json.loads(preview.out)["feeds"], preview.err) == (0, 6, "")
