"""The workers that live, read back from a real Redis."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.builders import surface
from tests.rig.redis import RedisServer, free_port
from workers.errors import Failure
from workers.steering import Follower
from workers.steering.editor import SteeringEditor
from workers.steering.fleet import LiveWorker

Steer = Callable[..., Follower]
STATUS: dict[str, Any] = {
    "worker": "w",
    "at": 1,
    "expiry_ms": 10_000,
    "pushes": True,
    "surfaces": {},
}


def read(server: RedisServer, prefix: str = "") -> list[LiveWorker]:
    with SteeringEditor(server.url, prefix) as editor:
        return editor.live_workers()


def write(
    server: RedisServer, worker: str, status: str | dict[str, Any], expires_in_ms: int = 10_000
) -> None:
    text = status if isinstance(status, str) else json.dumps(status)
    server.client.set(f"workers:status:{worker}", text, px=expires_in_ms)
    # Now: an id that is a day old is dropped by the next worker that writes its status.
    server.client.zadd("workers:live", {worker: time.time_ns() // 1_000_000})


def test_workers_are_read_as_they_wrote_by_their_ids_and_under_their_prefix(
    server: RedisServer, steer: Steer
) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    report = {
        "group": "g",
        "partitions": [0, 2],
        "lag": {0: 4},
        "open_requests": 3,
        "counts": {"feeds": 17},
    }
    for worker in ("w-2", "w-1"):
        steer(
            worker_id=worker,
            report=lambda: report,
            surfaces={"home": surface("home")},
            poll_seconds=60.0,
        )
    steer(worker_id="w-0", prefix="else:")
    found = read(server)
    assert [one.worker for one in found] == ["w-1", "w-2"]
    assert [one.worker for one in read(server, "else:")] == ["w-0"]
    status = found[0].status
    assert status is not None
    assert (status.worker, status.group, status.partitions, status.lag) == (
        "w-1",
        "g",
        (0, 2),
        {0: 4},
    )
    assert (status.open_requests, status.counts, status.expiry_ms) == (3, {"feeds": 17}, 600_000)
    assert set(status.surfaces) == {"home"}


def test_a_worker_that_stopped_and_one_whose_status_expired_are_not_among_them(
    server: RedisServer, steer: Steer
) -> None:
    stopped = steer(worker_id="stopped")
    steer(worker_id="lives")
    write(server, "expired", STATUS)
    stopped.stop()
    server.client.pexpire("workers:status:expired", 0)
    assert [one.worker for one in read(server)] == ["lives"]
    assert sorted(str(one) for one in server.client.zrange("workers:live", 0, -1)) == [
        "expired",
        "lives",
    ]


def test_without_workers_there_is_nothing_to_read(server: RedisServer) -> None:
    assert read(server) == []


def test_the_age_is_the_expiry_less_what_redis_has_left_of_it(server: RedisServer) -> None:
    write(server, "w", STATUS | {"expiry_ms": 100_000}, expires_in_ms=70_000)
    (found,) = read(server)
    assert found.age_ms is not None
    assert 30_000 <= found.age_ms < 100_000


def test_a_status_that_never_expires_has_no_age(server: RedisServer) -> None:
    write(server, "w", STATUS)
    server.client.persist("workers:status:w")
    (found,) = read(server)
    assert (found.age_ms, found.unreadable) == (None, None)


def test_unknown_keys_are_ignored(server: RedisServer) -> None:
    write(server, "w", STATUS | {"mood": "fine"})
    (found,) = read(server)
    assert (found.worker, found.unreadable) == ("w", None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nonsense", "malformed"),
        ("{}", "missing required field"),
        (json.dumps(STATUS | {"expiry_ms": "soon"}), "`$.expiry_ms`"),
        (json.dumps(STATUS | {"surfaces": {"home": {}}}), "`$.surfaces[...]`"),
        ('{"mood": ' + "[" * 100_000, "recursion"),
    ],
)
def test_an_unreadable_status_is_shown_as_such_with_the_others(
    server: RedisServer, text: str, why: str
) -> None:
    write(server, "other", STATUS)
    write(server, "strange", text)
    other, strange = read(server)
    assert (other.worker, other.unreadable) == ("other", None)
    assert (strange.worker, strange.status) == ("strange", None)
    assert why in str(strange.unreadable)


def test_a_status_that_is_not_a_string_is_shown_as_such(server: RedisServer) -> None:
    server.client.hset("workers:status:w", "a", "b")
    server.client.zadd("workers:live", {"w": 1})
    (found,) = read(server)
    assert "WRONGTYPE" in str(found.unreadable)


def test_a_list_that_redis_denies_is_a_failure_that_names_the_key(server: RedisServer) -> None:
    server.client.set("workers:live", "no list")
    with pytest.raises(
        Failure, match=r"workers:live: Redis answers 'WRONGTYPE .*', expected the sorted set"
    ):
        read(server)


def test_a_redis_that_does_not_answer_is_a_failure_without_its_password() -> None:
    port = free_port()
    with (
        pytest.raises(Failure) as failed,
        SteeringEditor(f"redis://user:secret@127.0.0.1:{port}/0", ""),
    ):
        pass
    assert str(failed.value).startswith(f"no Redis answers at redis:***@127.0.0.1:{port}/0: ")
    assert "secret" not in str(failed.value)


def test_a_redis_that_freezes_is_a_failure_too(server: RedisServer) -> None:
    server.freeze()
    with pytest.raises(Failure, match="no Redis answers"):
        read(server)
