"""Redis absent, killed, frozen or back empty: ranking goes on under the last good set, and what
comes back counts.
"""

import threading
from collections.abc import Callable

import pytest

from tests.rig.redis import RedisServer
from tests.steering.conftest import Events
from tests.steering.peers import Peer
from workers.ranking.mix import Mix
from workers.ranking.weights import Weights
from workers.steering import Follower

Steer = Callable[..., Follower]
DEFAULT = Weights.of({"quality": 0.5, "engagement": 0.5})
GOOD = Weights.of({"quality": 0.7, "engagement": 0.3})
HTTP = b"HTTP/1.1 400 Bad Request\r\n\r\n"
NEXT = Weights.of({"quality": 0.1, "engagement": 0.9})


def test_redis_absent_at_start_means_the_default_and_that_is_logged(
    stopped_server: RedisServer, steer: Steer, events: Events
) -> None:
    assert steer().mix("home").weights == DEFAULT
    assert events.all("weights_fallback", surface="home", source="default")
    assert events.all("redis_lost")


def test_redis_absent_at_start_means_the_last_good_set_if_one_was_kept(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    steer().stop()
    server.kill()
    steering = steer()
    assert steering.snapshot() == {"home": Mix(GOOD), "other": Mix(DEFAULT)}
    assert (
        events.wait("weights_fallback", surface="home", source="last-good")["version"]
        == GOOD.version
    )


def test_redis_that_comes_up_later_is_followed(
    stopped_server: RedisServer, steer: Steer, events: Events
) -> None:
    steering = steer(poll_seconds=3600.0)
    stopped_server.start()
    events.wait("redis_connected")
    stopped_server.set("home", quality=0.7, engagement=0.3)
    events.wait("weights_applied", surface="home")
    assert steering.mix("home").weights == GOOD


def test_redis_killed_and_back_empty_changes_nothing_until_a_set_is_written(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    steering = steer()
    server.kill()
    events.wait("redis_lost")
    assert steering.mix("home").weights == GOOD
    server.start()
    events.wait("redis_connected", 2)
    assert steering.mix("home").weights == GOOD
    server.set("home", quality=0.1, engagement=0.9)
    events.wait("weights_applied", version=NEXT.version)
    assert steering.mix("home").weights == NEXT


def test_an_outage_is_logged_once_not_at_each_attempt(
    stopped_server: RedisServer, steer: Steer, events: Events
) -> None:
    with Peer(HTTP, port=stopped_server.port) as stranger:
        steer()
        assert all(stranger.calls.acquire(timeout=15.0) for _ in range(4))
        assert len(events.all("redis_lost")) == 1


def test_a_frozen_redis_changes_no_weights_and_is_followed_again(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    steering = steer()
    server.freeze()
    assert "imeout" in events.wait("redis_lost")["reason"]
    assert steering.mix("home").weights == GOOD
    server.thaw()
    events.wait("redis_connected", 2)
    server.set("home", quality=0.1, engagement=0.9)
    events.wait("weights_applied", version=NEXT.version)


def test_a_redis_that_never_answers_holds_neither_start_nor_stop(
    server: RedisServer, steer: Steer
) -> None:
    server.freeze()
    steering = steer()
    assert steering.mix("home").weights == DEFAULT
    steering.stop()
    server.thaw()


def test_stop_does_not_wait_for_the_next_poll_and_ends_the_thread(
    server: RedisServer, steer: Steer
) -> None:
    threads = threading.active_count()
    steering = steer(poll_seconds=3600.0)
    steering.stop()
    steering.stop()
    assert threading.active_count() == threads


def test_a_server_of_another_protocol_is_not_taken_for_a_redis(
    steer: Steer, events: Events
) -> None:
    with Peer(HTTP) as stranger:
        steering = steer(redis_url=f"redis://127.0.0.1:{stranger.port}")
        assert "rotocol" in events.wait("redis_lost")["reason"]
        assert steering.mix("home").weights == DEFAULT


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost:6379",
        "redis://localhost:port",
        "redis://localhost:99999",
        "redis://localhost/production",
        "redis://localhost?no_such_option=1",
        "redis://user:secret/word@localhost:6379",
        "redis://user:secret@localhost?db=secret",
    ],
)
def test_a_url_that_cannot_be_right_is_refused_at_once_without_its_password(
    url: str, steer: Steer
) -> None:
    with pytest.raises(ValueError, match="redis://") as refused:
        steer(redis_url=url)
    assert "secret@" not in str(refused.value)
    assert "secret/" not in str(refused.value)
