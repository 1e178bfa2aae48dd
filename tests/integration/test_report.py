"""What a real worker reports of itself beside the weights: its partitions, its lag, open requests
and models.
"""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
import redis
from jsonschema import Draft202012Validator

from tests.docs.documents import ROOT
from tests.integration.harness import World, make_request, until

SCHEMA = json.loads((ROOT / "schemas" / "worker-status.schema.json").read_text())


class Reported:
    """The status of the world's one worker."""

    def __init__(self, world: World) -> None:
        self._redis = redis.Redis.from_url(world.redis, decode_responses=True)
        self._pattern = f"{world.name}:workers:status:*"

    def now(self) -> dict[str, Any]:
        keys: Any = self._redis.keys(self._pattern)
        status: dict[str, Any] = json.loads(str(self._redis.get(keys[0]))) if keys else {}
        if status:
            Draft202012Validator(SCHEMA).validate(status)
        return status

    def until(self, **fields: object) -> None:
        until(lambda: fields.items() <= self.now().items(), self.now)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(partitions=1)


def test_a_worker_that_has_read_everything_has_no_lag_and_says_what_is_open(world: World) -> None:
    worker, reported, draw = world.start_worker(), Reported(world), random.Random(1)
    worker.wait_for("event=restored")
    reported.until(group=world.name, partitions=[0], lag={"0": 0}, open_requests=0)
    world.send(make_request("whole", 5, draw))
    world.send(make_request("open", 5, draw)[:3])
    reported.until(lag={"0": 0}, open_requests=1)
    assert reported.now()["counts"]["events"] == 8
    assert reported.now()["counts"]["feeds"] == 1


def test_what_a_producers_open_transaction_holds_back_is_lag_until_it_is_committed(
    world: World,
) -> None:
    worker, reported = world.start_worker(), Reported(world)
    worker.wait_for("event=restored")
    producer = world.cluster.transactional(f"{world.name}-upstream", 100_000)
    producer.init_transactions(30)
    producer.begin_transaction()
    for event in make_request("held", 4, random.Random(1)):
        producer.produce(world.candidates, json.dumps(event).encode(), event["request_id"].encode())
    producer.flush(30)
    reported.until(lag={"0": 4})
    assert reported.now()["counts"]["events"] == 0
    producer.commit_transaction(30)
    reported.until(lag={"0": 0}, open_requests=0)
    assert reported.now()["counts"]["events"] == 4


def test_the_tally_says_how_models_were_verified_loaded_and_found(world: World) -> None:
    worker, reported = world.start_worker(), Reported(world)
    worker.wait_for("event=restored")
    reported.until(group=world.name)
    tally = reported.now()["tally"]
    size = tally.pop("bytes_loaded")
    assert tally == {
        "hits": 0,
        "misses": 0,
        "swaps": 0,
        "verified": 2,
        "refused": 0,
        "loads": 2,
        "evictions": 0,
    }
    assert size > sum(path.stat().st_size for path in world.folder.glob("models/*/*/model.onnx"))
    world.send(make_request("whole", 5, random.Random(1)))
    reported.until(tally=tally | {"hits": 1, "bytes_loaded": size})
