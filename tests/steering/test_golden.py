"""What steering writes and logs, byte for byte: the golden files show every kind of document,
applied and refused, on a surface and on its arms.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.rig.process import until
from tests.rig.redis import RedisServer
from tests.steering.conftest import Events
from workers.ranking.mix import Mix
from workers.steering import Follower
from workers.steering.editor import SteeringEditor
from workers.steering.fleet import agreements

Steer = Callable[..., Follower]
GOLDEN = Path(__file__).parent / "golden"
NEVER = 3600.0
WEIGHTS_KEY = "weights:home"

DOCUMENTS = {
    "weights:home": {"quality": "0.7", "engagement": "0.3"},
    "models:home": {"quality": "3", "engagement": "latest"},
    "experiment:home": {"salt": "s", "canary": "5", "later": "0"},
    "weights:home:canary": {"quality": "0.1", "engagement": "0.9"},
    "models:home:canary": {"quality": "2"},
    "weights:home:later": {"quality": "much"},
    "models:home:later": {"quality": "x"},
    "weights:other": {"quality": "much"},
    "models:other": {"quality": "1"},
    "experiment:other": {"salt": "s", "canary": "101"},
}


@pytest.fixture
def steering(server: RedisServer, steer: Steer) -> Follower:
    """A worker that finds all the documents in Redis when it starts, and has offered them to the
    history.
    """
    for key, fields in DOCUMENTS.items():
        server.client.hset(key, mapping=fields)  # type: ignore[arg-type]  # typed too narrowly there
    steering = steer(poll_seconds=NEVER, now=lambda: 1000)
    until(lambda: len(entries(server, "home")) == 7 and len(entries(server, "other")) == 3)
    return steering


def entries(server: RedisServer, surface: str) -> list[dict[str, Any]]:
    """The entries of a history without their ids, which are times. The server puts `documents` into
    an order of its own.
    """
    found: Any = server.client.xrange(f"history:{surface}")
    for _, fields in found:
        fields["documents"] = dict(sorted(json.loads(fields["documents"]).items()))
    return [fields for _, fields in found]


def lines(*values: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def test_the_status_has_its_golden_bytes(server: RedisServer, steering: Follower) -> None:
    golden = (GOLDEN / "status.json").read_bytes()
    until(lambda: server.client.get("workers:status:w-1") == golden.decode())


def test_the_agreement_of_the_workers_has_its_golden_bytes(
    server: RedisServer, steering: Follower
) -> None:
    golden = (GOLDEN / "agreements.json").read_bytes()

    def agreed() -> bytes:
        with SteeringEditor(server.url, "") as editor:
            return msgspec.json.encode(agreements(editor.live_workers()))

    until(lambda: agreed() == golden)


def test_the_entries_of_the_history_have_their_golden_bytes(
    server: RedisServer, steering: Follower
) -> None:
    found = entries(server, "home") + entries(server, "other")
    assert lines(*found) == (GOLDEN / "history.jsonl").read_bytes()


def test_the_last_good_files_have_their_golden_bytes(tmp_path: Path, steering: Follower) -> None:
    golden = (GOLDEN / "last-good.jsonl").read_bytes()

    def kept() -> bytes:
        files = sorted((tmp_path / "home").glob("last-good-*.json"))
        return b"".join(file.read_bytes() + b"\n" for file in files)

    until(lambda: kept() == golden)


def test_a_worker_without_redis_starts_from_the_golden_last_good_files(
    stopped_server: RedisServer, steer: Steer, events: Events, tmp_path: Path
) -> None:
    home, other = (GOLDEN / "last-good.jsonl").read_bytes().splitlines()
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "last-good-weights%3Ahome.json").write_bytes(home)
    (folder / "last-good-weights%3Aother.json").write_bytes(other)
    steering = steer(poll_seconds=NEVER)
    mix = steering.mix("home")
    assert dict(mix.weights.values) == {"quality": 0.7, "engagement": 0.3}
    assert mix.experiment is not None
    assert mix.experiment.fields() == {"salt": "s", "canary": "5", "later": "0"}
    assert {arm: dict(one.values) for arm, one in mix.arms.items()} == {
        "canary": {"quality": 0.1, "engagement": 0.9}
    }
    assert mix.pins == {"quality": 3}
    assert mix.arm_pins == {"canary": {"quality": 2}}
    assert steering.mix("other") == Mix(steering.mix("other").weights, pins={"quality": 1})
    assert events.all("last_good_ignored") == []
    sources = {event["surface"]: event["source"] for event in events.all("weights_fallback")}
    assert sources == {"home": "last-good", "other": "default"}


def test_the_log_events_of_documents_come_in_their_golden_order(
    server: RedisServer, steering: Follower, events: Events
) -> None:
    server.client.hset("weights:home", "quality", "0.6")
    events.wait("weights_applied", 3)
    server.client.hset("weights:home", "quality", "much")
    events.wait("weights_refused", 3)
    found = [
        event
        for event in events.everything()
        if str(event["event"]).endswith(("_applied", "_refused"))
    ]
    assert lines(*found) == (GOLDEN / "events.jsonl").read_bytes()
