"""What a real worker reports of itself beside the weights: its partitions, its lag, open requests
and models.
"""

import json
import random
from collections.abc import Callable

import pytest

from tests.rig.environment import Environment
from tests.rig.statuses import StatusReader
from tests.rig.traffic import make_request


@pytest.fixture
def env(make_env: Callable[..., Environment]) -> Environment:
    return make_env(partitions=1)


def test_a_worker_that_has_read_everything_has_no_lag_and_says_what_is_open(
    env: Environment,
) -> None:
    worker = env.start_worker()
    status = StatusReader(env)
    draw = random.Random(1)
    worker.wait_for("event=restored")
    status.until(group=env.name, partitions=[0], lag={"0": 0}, open_requests=0)
    env.send(make_request("whole", 5, draw))
    env.send(make_request("open", 5, draw)[:3])
    status.until(lag={"0": 0}, open_requests=1)
    assert status.now()["counts"]["events"] == 8
    assert status.now()["counts"]["feeds"] == 1


def test_what_a_producers_open_transaction_holds_back_is_lag_until_it_is_committed(
    env: Environment,
) -> None:
    worker = env.start_worker()
    status = StatusReader(env)
    worker.wait_for("event=restored")
    producer = env.cluster.transactional(f"{env.name}-upstream", 100_000)
    producer.init_transactions(30)
    producer.begin_transaction()
    for event in make_request("held", 4, random.Random(1)):
        producer.produce(env.candidates, json.dumps(event).encode(), event["request_id"].encode())
    producer.flush(30)
    status.until(lag={"0": 4})
    assert status.now()["counts"]["events"] == 0
    producer.commit_transaction(30)
    status.until(lag={"0": 0}, open_requests=0)
    assert status.now()["counts"]["events"] == 4


def test_the_tally_says_how_models_were_verified_loaded_and_found(env: Environment) -> None:
    worker = env.start_worker()
    status = StatusReader(env)
    worker.wait_for("event=restored")
    status.until(group=env.name)
    tally = status.now()["tally"]
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
    assert size > sum(path.stat().st_size for path in env.folder.glob("models/*/*/model.onnx"))
    env.send(make_request("whole", 5, random.Random(1)))
    status.until(tally=tally | {"hits": 1, "bytes_loaded": size})
