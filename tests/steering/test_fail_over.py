"""Redis fails over and keeps its connections: the old master becomes a replica, and the address
leads to another.
"""

import threading
from collections.abc import Callable, Iterator

import pytest

from tests.builders import surface
from tests.rig.process import until
from tests.rig.redis import RedisServer
from tests.steering.conftest import Events, read_once_more
from tests.steering.peers import Forwarder, Peer
from tests.steering.test_follower import HandClock
from workers.ranking.lookup import NO_RESULT, LookupQuery, LookupResult, SetKey
from workers.ranking.mix import Mix
from workers.ranking.weights import Weights
from workers.steering import Follower
from workers.steering.editor import Change, RedisMoved, RedisReadOnly, SteeringEditor
from workers.steering.lookups import Lookups

Steer = Callable[..., Follower]
NEVER = 3600.0
HOME = surface("home")
GOOD = Weights.of({"quality": 0.7, "engagement": 0.3})
NEXT = Weights.of({"quality": 0.1, "engagement": 0.9})
HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"
UNBLOCKED = b"-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n"
REFUSED = "READONLY You can't write against a read only replica."


@pytest.fixture
def new(server: RedisServer, make_redis: Callable[..., RedisServer]) -> RedisServer:
    """A replica of `server`, which is to take its place."""
    replica = make_redis()
    replica.start()
    follow(replica, server)
    return replica


@pytest.fixture
def address(server: RedisServer) -> Iterator[Forwarder]:
    with Forwarder(server.port) as forwarder:
        yield forwarder


def follow(replica: RedisServer, master: RedisServer) -> None:
    """Make it a replica, and wait until it has what the master has."""
    replica.client.replicaof("127.0.0.1", str(master.port))
    until(lambda: replica.client.info("replication")["master_link_status"] == "up")


def fail_over(old: RedisServer, new: RedisServer) -> None:
    """The new one becomes the master and the old one its replica; every connection stays."""
    new.client.replicaof("NO", "ONE")
    follow(old, new)


def lose_master(replica: RedisServer) -> None:
    """A replica whose master is gone and that gives no old answers."""
    replica.client.config_set("replica-serve-stale-data", "no")
    replica.client.replicaof("127.0.0.1", "1")


def is_there(server: RedisServer, worker: str = "w-1") -> bool:
    return server.client.exists(f"workers:status:{worker}") == 1


# Workers


def test_a_worker_goes_where_the_address_leads_once_its_server_takes_no_writes(
    server: RedisServer, new: RedisServer, address: Forwarder, steer: Steer, events: Events
) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    reached = threading.Semaphore(0)
    steering = steer(redis_url=address.url, on_connected=reached.release)
    until(lambda: new.client.xlen("history:home") == 1)
    fail_over(server, new)
    address.target = new.port
    events.wait("redis_connected", 2)
    assert steering.mix("home").weights == GOOD
    assert events.all("redis_read_only") == [{"event": "redis_read_only", "reason": REFUSED}]
    assert [reached.acquire(blocking=False) for _ in range(3)] == [True, True, False]

    until(lambda: is_there(new))
    new.set("home", quality=0.1, engagement=0.9)
    events.wait("weights_applied", version=NEXT.version)
    until(lambda: new.client.xlen("history:home") == 2)
    steering.stop()
    assert new.client.exists("workers:status:w-1", "workers:live") == 0
    for event in ("status_denied", "history_denied", "weights_refused", "steering_failed"):
        assert events.all(event) == []


def test_while_the_address_still_leads_to_the_old_server_it_is_logged_once_and_tried_again(
    server: RedisServer, new: RedisServer, address: Forwarder, steer: Steer, events: Events
) -> None:
    steering = steer(redis_url=address.url)
    fail_over(server, new)
    for _ in range(3):
        assert address.calls.acquire(timeout=15.0)
    new.set("home", quality=0.7, engagement=0.3)
    events.wait("weights_applied", version=GOOD.version)
    assert (len(events.all("redis_read_only")), len(events.all("redis_connected"))) == (1, 1)
    address.target = new.port
    events.wait("redis_connected", 2)
    until(lambda: is_there(new))
    assert steering.mix("home").weights == GOOD


def test_a_worker_at_a_replica_follows_the_weights_over_few_connections_and_logs_it_once(
    server: RedisServer, new: RedisServer, steer: Steer, events: Events
) -> None:
    clock = HandClock()
    with Forwarder(new.port) as replica:
        steering = steer(redis_url=replica.url, poll_seconds=NEVER, clock=clock)
        # The first connection is left for the one that the address leads to; the next one stays.
        assert all(replica.calls.acquire(timeout=15.0) for _ in range(2))
        for count in range(1, 6):
            server.set("home", quality=count / 10)
            events.wait("weights_applied", count, surface="home")
        assert steering.mix("home").weights.values["quality"] == 0.5
        assert replica.count() == 0

        # Its stays become longer, up to a limit.
        for stay_s in (1.0, 2.0, 4.0, 5.0, 5.0):
            clock.now += stay_s - 0.01
            read_once_more(server, events)
            assert replica.count() == 0
            clock.now += 0.02
            assert replica.calls.acquire(timeout=15.0)
            read_once_more(server, events)
        steering.stop()
    assert [one["reason"] for one in events.all("redis_read_only")] == [REFUSED]
    assert len(events.all("redis_connected")) == 1
    for event in ("redis_lost", "status_denied", "history_denied"):
        assert events.all(event) == []


def test_a_change_whose_record_was_lost_in_the_fail_over_is_recorded_again(
    server: RedisServer, new: RedisServer, address: Forwarder, steer: Steer
) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    steer(redis_url=address.url)
    until(lambda: new.client.xlen("history:home") == 1)
    new.client.replicaof("NO", "ONE")
    new.client.delete("history:home")
    follow(server, new)
    address.target = new.port
    until(lambda: new.client.xlen("history:home") == 1)


def test_a_replica_that_becomes_the_master_is_followed_as_a_master(
    server: RedisServer, new: RedisServer, steer: Steer, events: Events
) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    steer(redis_url=new.url)
    events.wait("redis_read_only")
    assert not is_there(new)
    new.client.replicaof("NO", "ONE")
    events.wait("redis_connected", 2)
    until(lambda: is_there(new) and new.client.xlen("history:home") == 1)


def test_a_master_that_has_lost_its_replicas_and_takes_no_writes_is_left(
    server: RedisServer, new: RedisServer, address: Forwarder, steer: Steer, events: Events
) -> None:
    steer(redis_url=address.url)
    server.client.config_set("min-replicas-to-write", "1")
    new.client.replicaof("NO", "ONE")
    address.target = new.port
    assert "NOREPLICAS" in events.wait("redis_read_only")["reason"]
    events.wait("redis_connected", 2)
    until(lambda: is_there(new))


def test_a_replica_without_its_master_changes_nothing_and_is_left(
    server: RedisServer, new: RedisServer, address: Forwarder, steer: Steer, events: Events
) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    steering = steer(redis_url=address.url)
    new.client.replicaof("NO", "ONE")
    lose_master(server)
    assert events.wait("redis_lost")["reason"].startswith("MASTERDOWN Link with MASTER is down")
    for _ in range(3):
        assert address.calls.acquire(timeout=15.0)
    assert steering.snapshot()["home"] == Mix(GOOD)
    assert len(events.all("redis_lost")) == 1
    assert events.all("weights_refused") == events.all("experiment_refused") == []
    address.target = new.port
    events.wait("redis_connected", 2)
    until(lambda: is_there(new))


def test_denied_writes_are_not_taken_for_those_of_a_replica(
    server: RedisServer, address: Forwarder, steer: Steer, events: Events
) -> None:
    server.client.acl_setuser(
        "w", enabled=True, passwords=["+pw"], keys=["*"], commands=["+hgetall", "+client"]
    )
    steer(redis_url=address.url.replace("//", "//w:pw@"))
    events.wait("status_denied")
    read_once_more(server, events)
    assert (len(events.all("redis_connected")), events.all("redis_read_only"), address.count()) == (
        1,
        [],
        1,
    )


# Look-ups


def test_look_ups_leave_a_replica_without_its_master(
    server: RedisServer, new: RedisServer, address: Forwarder, events: Events
) -> None:
    seen = SetKey("seen", "u")
    asked, known = LookupQuery({seen: ["a", "b"]}, {}), LookupResult({seen: frozenset("a")}, {})
    server.client.sadd("seen:u", "a")
    until(lambda: new.client.exists("seen:u") == 1)
    with Lookups(address.url, "", NEVER, events) as look_up:
        assert look_up(asked) == known
        new.client.replicaof("NO", "ONE")
        lose_master(server)
        assert look_up(asked) == NO_RESULT
        assert "MASTERDOWN" in events.wait("lookups_lost")["error"]
        assert events.all("lookup_denied") == []
        address.target = new.port
        until(lambda: look_up(asked) == known)
        events.wait("lookups_back")


def test_look_ups_go_where_the_address_leads_once_they_know_that_redis_may_have_moved(
    server: RedisServer, new: RedisServer, address: Forwarder, events: Events
) -> None:
    seen = SetKey("seen", "u")
    asked = LookupQuery({seen: ["a", "b"]}, {})
    with Lookups(address.url, "", NEVER, events) as look_up:
        look_up.reconnect()
        assert look_up(asked) == LookupResult({seen: frozenset()}, {})
        new.client.replicaof("NO", "ONE")
        new.client.sadd("seen:u", "b")
        address.target = new.port
        assert look_up(asked) == LookupResult({seen: frozenset()}, {})
        look_up.reconnect()
        for _ in range(3):
            assert look_up(asked) == LookupResult({seen: frozenset("b")}, {})
    assert address.count() == 2
    assert events.all("lookups_lost") == []


# Tools


def test_a_change_made_over_a_connection_to_the_old_master_is_made_on_the_new_one(
    server: RedisServer, new: RedisServer, address: Forwarder
) -> None:
    with SteeringEditor(address.url, "") as editor:
        view = editor.read_view(HOME)
        fail_over(server, new)
        address.target = new.port
        assert editor.write(view, [Change(view.weights, GOOD)], "ana", "why") == 1
    assert new.client.hgetall("weights:home") == {"quality": "0.7", "engagement": "0.3"}


def test_a_change_on_a_replica_is_refused_and_named_as_such(
    server: RedisServer, new: RedisServer
) -> None:
    with SteeringEditor(new.url, "") as editor:
        view = editor.read_view(HOME)
        with pytest.raises(RedisReadOnly) as refused:
            editor.write(view, [Change(view.weights, GOOD)], "ana", "why")
    assert str(refused.value) == (
        f"redis: {new.url} takes no writes (is it a replica?), so the change was not made: {REFUSED}; "
        "expected the address of the current master"
    )


def test_what_cannot_be_read_on_a_replica_without_its_master_is_named(server: RedisServer) -> None:
    with SteeringEditor(server.url, "") as editor:
        lose_master(server)
        with pytest.raises(
            RedisMoved, match=f"redis: {server.url} cannot be read now: MASTERDOWN "
        ):
            editor.read_view(HOME)


def test_following_a_history_goes_on_with_the_new_master(
    server: RedisServer, new: RedisServer, address: Forwarder
) -> None:
    with SteeringEditor(address.url, "") as editor, SteeringEditor(server.url, "") as before:
        view = before.read_view(HOME)
        before.write(view, [Change(view.weights, GOOD)], "ana", "on the old one")
        entries = editor.follow_history(HOME, 0)
        assert next(entries).reason == "on the old one"
        until(lambda: new.client.xlen("history:home") == 1)
        fail_over(server, new)
        address.target = new.port
        with SteeringEditor(new.url, "") as after:
            view = after.read_view(HOME)
            after.write(view, [Change(view.weights, NEXT)], "ana", "on the new one")
        assert next(entries).reason == "on the new one"


def test_following_the_history_fails_if_a_second_server_interrupts_at_once() -> None:
    with (
        Peer(HELLO, UNBLOCKED) as peer,
        SteeringEditor(f"redis://127.0.0.1:{peer.port}", "") as editor,
    ):
        with pytest.raises(RedisMoved, match="UNBLOCKED force unblock"):
            next(editor.follow_history(HOME, 0))
        assert [peer.calls.acquire(blocking=False) for _ in range(3)] == [True, True, False]
