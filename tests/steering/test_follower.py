"""Weights from a real Redis: applied by push and by poll, refused whole, left alone if nothing
is logged.
"""

import math
import threading
from collections.abc import Callable

import pytest

from tests.rig.redis import RedisServer
from tests.steering.conftest import Events, read_once_more
from tests.steering.peers import PushDroppingProxy
from workers.ranking.mix import Mix
from workers.ranking.weights import Weights
from workers.steering import Follower

Steer = Callable[..., Follower]
NEVER = 3600.0
DEFAULT = Weights.of({"quality": 0.5, "engagement": 0.5})
GOOD = Weights.of({"quality": 0.7, "engagement": 0.3})


class HandClock:
    """A clock moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_set_in_redis_is_applied_before_start_returns(server: RedisServer, steer: Steer) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    assert steer().mix("home").weights == GOOD


def test_without_a_hash_the_default_is_used_and_logged(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    steering = steer()
    assert steering.snapshot() == {"home": Mix(DEFAULT), "other": Mix(DEFAULT)}
    (event,) = events.all("weights_fallback", surface="home")
    assert event["source"] == "default"
    assert event["version"] == DEFAULT.version


def test_a_change_is_pushed_long_before_the_next_poll(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    steering = steer(poll_seconds=NEVER)
    server.set("home", quality=0.7, engagement=0.3)
    event = events.wait("weights_applied", surface="home")
    assert steering.mix("home").weights == GOOD
    assert event["previous"] == DEFAULT.version
    assert event["version"] == GOOD.version
    assert event["values"] == {"quality": 0.7, "engagement": 0.3}


def test_every_change_is_pushed_not_only_the_first(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    steering = steer(poll_seconds=NEVER)
    for count in range(1, 21):
        server.set("home", quality=count / 100)
        events.wait("weights_applied", count, surface="home")
        assert steering.mix("home").weights.values["quality"] == count / 100


def test_a_user_who_may_not_track_polls_and_that_is_logged(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    server.client.acl_setuser(
        "w", enabled=True, passwords=["+pw"], keys=["*"], commands=["+hgetall", "+set", "+del"]
    )
    steering = steer(redis_url=f"redis://w:pw@127.0.0.1:{server.port}/0")
    assert "'client'" in events.wait("pushes_denied")["reason"]
    server.set("home", quality=0.7, engagement=0.3)
    events.wait("weights_applied", surface="home")
    assert steering.mix("home").weights == GOOD
    assert len(events.all("pushes_denied")) == 1


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ("HSET weights:nowhere clicks 1", {"weights:home"}),
        ("HSET models:other:canary quality 1", {"weights:home", "weights:other"}),
        ("FLUSHALL", {"weights:home", "weights:other"}),
    ],
)
def test_after_a_push_the_surfaces_that_it_names_are_read_and_no_others(
    change: str, read: set[str], server: RedisServer, steer: Steer, events: Events
) -> None:
    steer(poll_seconds=NEVER)
    for count in (1, 2):  # the second is applied after all that is read at a start
        server.set("home", quality=count / 10)
        events.wait("weights_applied", count, surface="home")
    with server.client.monitor() as monitor:  # type: ignore[no-untyped-call]
        server.client.execute_command(change)  # type: ignore[no-untyped-call]
        server.set("home", quality=0.3)
        events.wait("weights_applied", 3, surface="home")
        server.client.echo("end")
        seen = set(iter(lambda: str(monitor.next_command()["command"]), "ECHO end"))
    assert {key for key in ("weights:home", "weights:other") if f"HGETALL {key}" in seen} == read


def test_the_poll_finds_what_a_push_did_not_bring(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    with PushDroppingProxy(server.port) as proxy:
        steering = steer(redis_url=f"redis://127.0.0.1:{proxy.port}/0")
        server.set("home", quality=0.7, engagement=0.3)
        events.wait("weights_applied", surface="home")
        assert steering.mix("home").weights == GOOD
        assert proxy.swallowed.wait(15.0)


def test_pushes_go_on_over_a_killed_connection(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    steer(poll_seconds=NEVER)
    events.wait("redis_connected")
    server.client.client_kill_filter(_type="normal", skipme=True)
    events.wait("redis_lost")
    events.wait("redis_connected", 2)
    server.set("home", quality=0.7, engagement=0.3)
    events.wait("weights_applied", surface="home")


def test_a_password_and_a_unix_socket_are_taken_from_the_url(
    server: RedisServer, steer: Steer
) -> None:
    server.client.hset("weights:home", mapping={"quality": "0.7", "engagement": "0.3"})
    server.client.config_set("requirepass", "p@ss/word")
    assert (
        steer(redis_url=f"redis://:p%40ss%2Fword@127.0.0.1:{server.port}").mix("home").weights
        == GOOD
    )
    assert steer(redis_url=f"unix://:p%40ss%2Fword@{server.socket}").mix("home").weights == GOOD


def test_a_prefix_keeps_two_stacks_in_one_redis_apart(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    steering = steer(prefix="prod:", poll_seconds=NEVER)
    server.set("home", quality=0.1)
    server.client.hset("prod:weights:home", mapping={"quality": "0.7", "engagement": "0.3"})
    events.wait("weights_applied", surface="home")
    assert steering.mix("home").weights == GOOD


def test_a_missing_field_takes_its_default(server: RedisServer, steer: Steer) -> None:
    server.set("home", quality=0.2)
    assert steer().mix("home").weights.values == {"quality": 0.2, "engagement": 0.5}


REFUSED = {
    "not a number": ({"quality": "much"}, "quality"),
    "empty": ({"quality": ""}, "quality"),
    "a comma for a point": ({"quality": "0,7"}, "quality"),
    "hexadecimal": ({"quality": "0x1"}, "quality"),
    "not a number by name": ({"quality": "nan"}, "quality"),
    "infinite": ({"engagement": "inf"}, "engagement"),
    "beyond float64": ({"engagement": "1e999"}, "engagement"),
    "an unknown objective": ({"quality": "0.2", "clicks": "0.2"}, "clicks"),
    "above its bound": ({"quality": "0.2", "engagement": "1.01"}, "1.01"),
    "below its bound": ({"quality": "-0.01"}, "-0.01"),
    "a value outside UTF-8": ({"quality": b"\xff0.2"}, r"\xff"),
    "a field outside UTF-8": ({b"\xfequality": "0.2"}, r"\xfe"),
}


@pytest.mark.parametrize(("fields", "named"), REFUSED.values(), ids=REFUSED)
def test_a_refused_set_changes_nothing(
    server: RedisServer,
    steer: Steer,
    events: Events,
    fields: dict[str | bytes, str | bytes],
    named: str,
) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    steering = steer(poll_seconds=NEVER)
    server.client.hset("weights:home", mapping=fields)  # type: ignore[arg-type]  # bytes are what is tested
    event = events.wait("weights_refused", surface="home")
    assert steering.mix("home").weights == GOOD
    assert named in event["reason"]
    assert event["version"] == GOOD.version


def test_the_same_refused_set_is_logged_once_and_another_again(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    steer()
    server.set("home", quality="much")
    events.wait("weights_refused")
    for _ in range(3):
        read_once_more(server, events)
    assert len(events.all("weights_refused")) == 1
    server.set("home", quality="more")
    events.wait("weights_refused", 2)


def test_a_good_set_after_a_refused_one_is_applied(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    server.set("home", quality=7)
    steering = steer()
    assert steering.mix("home").weights == DEFAULT
    server.set("home", quality=0.7, engagement=0.3)
    events.wait("weights_applied", surface="home")
    assert steering.mix("home").weights == GOOD


def test_a_key_that_is_not_a_hash_is_refused_and_disturbs_no_other_surface(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    server.client.set("weights:home", "quality=0.7")
    server.set("other", quality=0.7, engagement=0.3)
    steering = steer()
    assert "WRONGTYPE" in events.wait("weights_refused", surface="home")["reason"]
    assert steering.snapshot() == {"home": Mix(DEFAULT), "other": Mix(GOOD)}
    server.client.delete("weights:home")
    server.client.rpush("weights:home", "0.7")
    read_once_more(server, events)
    assert steering.mix("home").weights == DEFAULT


def test_a_deleted_hash_changes_nothing(server: RedisServer, steer: Steer, events: Events) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    steering = steer()
    server.client.delete("weights:home")
    read_once_more(server, events)
    assert steering.mix("home").weights == GOOD


def test_hashes_of_unknown_surfaces_and_arms_are_left_alone(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    steering = steer()
    server.set("nowhere", clicks=9)
    server.set("home:canary", quality=0.9)
    read_once_more(server, events)
    assert steering.mix("home").weights == DEFAULT
    assert events.all("weights_refused") == []
    with pytest.raises(KeyError):
        steering.mix("nowhere")


def test_a_snapshot_that_was_read_never_changes(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    steering = steer()
    before = steering.snapshot()
    server.set("home", quality=0.7, engagement=0.3)
    events.wait("weights_applied", surface="home")
    assert before["home"].weights == DEFAULT
    assert steering.snapshot()["home"].weights == GOOD


def test_a_change_builds_the_mix_of_its_own_surface_again_and_no_others(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    steering = steer()
    before = steering.snapshot()
    server.set("home", quality=0.7, engagement=0.3)
    events.wait("weights_applied", surface="home")
    after = steering.snapshot()
    assert after["home"] is not before["home"]
    assert after["other"] is before["other"]


def test_in_a_storm_of_writes_every_snapshot_is_one_set_written_whole(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    written = [Weights.of({"quality": n / 2000, "engagement": 1 - n / 2000}) for n in range(2001)]
    steering = steer(poll_seconds=NEVER)
    for weights in (written[0], *written[1:]):
        server.set("home", **weights.values)
        assert steering.mix("home").weights == DEFAULT or steering.mix("home").weights in written
    events.wait("weights_applied", surface="home", version=written[-1].version)
    applied = [event["version"] for event in events.all("weights_applied", surface="home")]
    order = [weights.version for weights in written]
    assert len(applied) > 1
    assert [order.index(version) for version in applied] == sorted(
        order.index(version) for version in applied
    )


def test_thousands_of_pushes_before_a_reply_are_taken_in(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    # The client's own reading of pushes is recursive and ends at a thousand of them.
    held, freed = threading.Event(), threading.Event()

    def hold(event: str, /, **fields: object) -> None:
        events(event, **fields)
        if fields.get("version") == GOOD.version:
            held.set()
            freed.wait(15.0)

    steer(on_event=hold, poll_seconds=NEVER)
    server.set("home", quality=0.7, engagement=0.3)
    assert held.wait(15.0)
    for n in range(3000):
        server.set("home", quality=n / 3000, engagement=0.5)
    freed.set()
    events.wait(
        "weights_applied", surface="home", values={"quality": 2999 / 3000, "engagement": 0.5}
    )
    assert events.all("redis_lost") == []


def test_the_age_counts_from_the_last_read(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    clock = HandClock()
    steering = steer(clock=clock, poll_seconds=NEVER)
    server.kill()
    events.wait("redis_lost")
    clock.now = 107.5
    assert steering.age_seconds() == 7.5


def test_the_age_is_infinite_if_redis_never_answered(
    stopped_server: RedisServer, steer: Steer
) -> None:
    assert steer().age_seconds() == math.inf
