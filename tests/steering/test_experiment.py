"""Experiments from a real Redis: with their arms' weights of one instant, taken whole or refused
whole.
"""

import threading
from collections.abc import Callable

import pytest

from tests.builders import surface
from tests.rig.redis import RedisServer
from tests.steering.conftest import Events, read_once_more
from workers.ranking.experiment import MAX_ARMS, Experiment
from workers.ranking.mix import Mix
from workers.ranking.weights import Weights
from workers.steering import Follower

Steer = Callable[..., Follower]
NEVER = 3600.0
DEFAULT = Weights.of({"quality": 0.5, "engagement": 0.5})
GOOD = Weights.of({"quality": 0.7, "engagement": 0.3})
BOLD = Weights.of({"quality": 0.1, "engagement": 0.9})
CANARY = Experiment("s", {"canary": 500})
RUNNING = Mix(DEFAULT, CANARY, {"canary": BOLD})


@pytest.fixture
def running(server: RedisServer, steer: Steer) -> Follower:
    """A follower with an experiment in force, to which changes come by push alone."""
    server.set("home:canary", quality=0.1, engagement=0.9)
    server.experiment("home", salt="s", canary="5")
    steering = steer(poll_seconds=NEVER)
    assert steering.snapshot() == {"home": RUNNING, "other": Mix(DEFAULT)}
    return steering


def test_an_experiment_and_its_arm_are_applied_by_push(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    steering = steer(poll_seconds=NEVER)
    server.set("home:canary", quality=0.1, engagement=0.9)
    server.experiment("home", salt="s", canary="5")
    assert events.wait("experiment_applied") == {
        "event": "experiment_applied",
        "surface": "home",
        "salt": "s",
        "arms": {"canary": 5.0},
    }
    assert steering.mix("home") == RUNNING
    assert events.all("weights_applied", surface="home", arm="canary", version=BOLD.version)


def test_an_arm_with_users_and_without_weights_is_refused_until_its_set_comes(
    server: RedisServer, running: Follower, events: Events
) -> None:
    server.experiment("home", second="10")
    reason = events.wait("experiment_refused", surface="home")["reason"]
    assert reason == "second: has no weights that were ever valid, expected a set before its users"
    assert running.mix("home") == RUNNING
    server.set("home:second", quality=0.7, engagement=0.3)
    events.wait("experiment_applied", surface="home", arms={"canary": 5.0, "second": 10.0})
    both = Experiment("s", {"canary": 500, "second": 1000})
    assert running.mix("home") == Mix(DEFAULT, both, {"canary": BOLD, "second": GOOD})


def test_an_arm_at_0_needs_no_weights(
    server: RedisServer, running: Follower, events: Events
) -> None:
    server.experiment("home", later="0")
    events.wait("experiment_applied", surface="home", arms={"canary": 5.0, "later": 0.0})
    assert "later" not in running.mix("home").arms


@pytest.mark.parametrize("experiment_first", [True, False])
@pytest.mark.parametrize("poll_seconds", [NEVER, 0.05])
def test_experiment_and_arm_may_come_in_either_order(
    server: RedisServer, steer: Steer, events: Events, experiment_first: bool, poll_seconds: float
) -> None:
    steering = steer(poll_seconds=poll_seconds)
    steps: list[Callable[[], None]] = [
        lambda: server.experiment("home", salt="s", canary="5"),
        lambda: server.set("home:canary", quality=0.1, engagement=0.9),
    ]
    for step in steps if experiment_first else reversed(steps):
        step()
        read_once_more(server, events)
    events.wait("experiment_applied", surface="home")
    assert steering.mix("home") == RUNNING
    assert len(events.all("experiment_refused")) == experiment_first


def test_a_waiting_experiment_is_refused_once_however_many_other_arms_come(
    server: RedisServer, running: Follower, events: Events
) -> None:
    server.experiment("home", a="1", b="1", c="1")
    events.wait("experiment_refused")
    for arm in ("c", "b"):
        server.set(f"home:{arm}", quality=0.3)
        events.wait("weights_applied", arm=arm)
        read_once_more(server, events)
    assert len(events.all("experiment_refused")) == 1
    assert running.mix("home").experiment == CANARY


REFUSED: dict[str, tuple[dict[str | bytes, str | bytes], str]] = {
    "over 100": ({"canary": "60", "second": "41"}, "add up to 101 %"),
    "no percentage": ({"canary": "half"}, "canary: got 'half'"),
    "a control that is not the rest": (
        {"control": "90"},
        "control: got '90', expected the rest, 95",
    ),
    "no arm's name": ({"a b": "1"}, "arm: got 'a b'"),
    "an empty salt": ({"salt": ""}, "salt: got ''"),
    "a value outside UTF-8": ({"canary": b"\xff5"}, r"\xff5"),
    "a field outside UTF-8": ({b"\xfecanary": "5"}, r"\xfe"),
    "too many arms": ({f"a{n}": "0" for n in range(MAX_ARMS)}, "arms: got 101 of them"),
}


@pytest.mark.parametrize(("fields", "named"), REFUSED.values(), ids=REFUSED)
def test_an_experiment_that_is_wrong_in_one_field_changes_nothing(
    server: RedisServer,
    running: Follower,
    events: Events,
    fields: dict[str | bytes, str | bytes],
    named: str,
) -> None:
    server.client.hset("experiment:home", mapping=fields)  # type: ignore[arg-type]  # bytes are what is tested
    assert named in events.wait("experiment_refused", surface="home")["reason"]
    assert running.mix("home") == RUNNING


def test_an_experiment_that_lost_its_salt_changes_nothing(
    server: RedisServer, running: Follower, events: Events
) -> None:
    server.client.hdel("experiment:home", "salt")
    assert events.wait("experiment_refused")["reason"].startswith("salt: not given")
    assert running.mix("home") == RUNNING


def test_a_key_that_is_not_a_hash_is_not_an_experiment(
    server: RedisServer, running: Follower, events: Events
) -> None:
    server.client.set("experiment:home", "canary=5")
    assert "WRONGTYPE" in events.wait("experiment_refused")["reason"]
    assert running.mix("home") == RUNNING


@pytest.mark.parametrize("key", ["experiment:home", "weights:home:canary"])
def test_a_deleted_experiment_and_a_deleted_arm_change_nothing(
    server: RedisServer, running: Follower, events: Events, key: str
) -> None:
    server.client.delete(key)
    read_once_more(server, events)
    assert running.mix("home") == RUNNING
    assert events.all("experiment_refused") == []


def test_arms_at_0_end_an_experiment(
    server: RedisServer, running: Follower, events: Events
) -> None:
    server.experiment("home", canary="0")
    events.wait("experiment_applied", arms={"canary": 0.0})
    mix = running.mix("home")
    assert {mix.assign(f"u-{n}").arm for n in range(1000)} == {"control"}


def test_an_arms_set_follows_by_push_and_a_refused_one_leaves_the_last_good(
    server: RedisServer, running: Follower, events: Events
) -> None:
    server.set("home:canary", quality=0.7, engagement=0.3)
    event = events.wait("weights_applied", surface="home", arm="canary", version=GOOD.version)
    assert event["previous"] == BOLD.version
    server.set("home:canary", quality=7)
    assert events.wait("weights_refused", surface="home", arm="canary")["version"] == GOOD.version
    assert running.mix("home") == Mix(DEFAULT, CANARY, {"canary": GOOD})


def test_an_arm_that_is_renamed_takes_its_weights_along_with_the_change(
    server: RedisServer, running: Follower, events: Events
) -> None:
    with server.client.pipeline() as together:
        together.delete("experiment:home")
        together.hset("experiment:home", mapping={"salt": "t", "second": "50"})
        together.hset("weights:home:second", mapping={"quality": "0.7", "engagement": "0.3"})
        together.execute()
    events.wait("experiment_applied", salt="t")
    assert events.all("experiment_refused") == []
    read_once_more(server, events)
    assert running.mix("home") == Mix(DEFAULT, Experiment("t", {"second": 5000}), {"second": GOOD})


@pytest.mark.parametrize("arm", ["surface", "event", "level", "source", "version", "weights"])
def test_an_arm_may_have_any_name(
    server: RedisServer, steer: Steer, events: Events, arm: str
) -> None:
    server.set(f"home:{arm}", quality=0.1, engagement=0.9)
    server.experiment("home", **{"salt": "s", arm: "5"})
    assert steer().mix("home").arms == {arm: BOLD}
    assert events.wait("experiment_applied", surface="home")["arms"] == {arm: 5.0}


def test_the_most_arms_give_way_to_as_many_others(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    old, new = ([f"{begin}{n}" for n in range(MAX_ARMS)] for begin in "zb")
    for arm in (*old, *new):
        server.set(f"home:{arm}", quality=0.1)
    server.experiment("home", salt="s", **dict.fromkeys(old, "1"))
    steering = steer(poll_seconds=NEVER)
    assert set(steering.mix("home").arms) == set(old)
    with server.client.pipeline() as together:
        together.delete("experiment:home")
        together.hset(
            "experiment:home", "salt", "s", items=[word for arm in new for word in (arm, "1")]
        )
        together.execute()
    events.wait("experiment_applied", 2, surface="home")
    read_once_more(server, events)
    assert set(steering.mix("home").arms) == set(new)


def test_the_last_good_mix_with_experiment_and_arms_survives_a_restart_without_redis(
    server: RedisServer, running: Follower, steer: Steer, events: Events
) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    events.wait("weights_applied", surface="home", version=GOOD.version)
    running.stop()
    server.kill()
    assert steer().mix("home") == Mix(GOOD, CANARY, {"canary": BOLD})


def test_an_arm_deleted_before_a_restart_goes_on_from_the_disk(
    server: RedisServer, running: Follower, steer: Steer, events: Events
) -> None:
    running.stop()
    server.client.delete("weights:home:canary")
    server.experiment("home", canary="10")
    assert steer().mix("home") == Mix(DEFAULT, Experiment("s", {"canary": 1000}), {"canary": BOLD})
    assert events.all("experiment_refused") == []


# So many bytes of questions that Redis reads them in two pieces, between which others may write.
WIDE = "w" * 150
LAST = "z" * 64
FILLERS = [f"{n:064}" for n in range(MAX_ARMS - 1)]
_SWAP = """
for i = 1, 2 do redis.call('HSET', KEYS[i], 'quality', ARGV[i]) end
return redis.call('HSET', KEYS[3], KEYS[4], ARGV[3])
"""


def _is_whole(mix: Mix) -> bool:
    assert mix.experiment is not None
    control, arm = mix.weights.values["quality"], mix.arms[LAST].values["quality"]
    return mix.experiment.percent(LAST) / 100 == control and arm == 1 - control


def test_in_a_storm_of_swaps_every_snapshot_is_of_one_instant(
    server: RedisServer, steer: Steer
) -> None:
    swap = server.client.register_script(_SWAP)
    seen: list[Mix] = []
    over = threading.Event()

    def write(n: int) -> None:
        share = n % 99 + 1
        keys = [f"weights:{WIDE}", f"weights:{WIDE}:{LAST}", f"experiment:{WIDE}", LAST]
        swap(keys=keys, args=[f"{share / 100}", f"{1 - share / 100}", f"{share}"])

    def watch(steering: Follower) -> None:
        while not over.wait(0.0002):
            mix = steering.snapshot()[WIDE]
            if not seen or seen[-1] is not mix:
                seen.append(mix)

    server.experiment(WIDE, salt="s", **dict.fromkeys(FILLERS, "0"))
    write(0)
    steering = steer(poll_seconds=NEVER, surfaces={WIDE: surface(WIDE)})
    watcher = threading.Thread(target=watch, args=(steering,))
    watcher.start()
    for n in range(1, 12_000):
        write(n)
    over.set()
    watcher.join()
    assert len(seen) > 10
    assert [mix for mix in seen if not _is_whole(mix)] == []


def test_a_user_who_may_not_multi_still_gets_weights_and_experiment(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    commands = ["+hgetall", "+client", "+set", "+del", "+zadd", "+zrem", "+zremrangebyscore"]
    server.client.acl_setuser("w", enabled=True, passwords=["+pw"], keys=["*"], commands=commands)
    server.set("home", quality=0.7, engagement=0.3)
    server.set("home:canary", quality=0.1, engagement=0.9)
    steering = steer(redis_url=f"redis://w:pw@127.0.0.1:{server.port}/0", poll_seconds=NEVER)
    server.experiment("home", salt="s", canary="5")
    events.wait("experiment_applied", surface="home")
    assert steering.mix("home") == Mix(GOOD, CANARY, {"canary": BOLD})


def test_a_user_who_may_not_read_experiments_still_gets_weights(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    server.client.acl_setuser(
        "w", enabled=True, passwords=["+pw"], keys=["weights:*"], categories=["+@all"]
    )
    server.set("home", quality=0.7, engagement=0.3)
    steering = steer(redis_url=f"redis://w:pw@127.0.0.1:{server.port}/0", poll_seconds=NEVER)
    assert steering.mix("home") == Mix(GOOD)
    server.set("home", quality=0.1, engagement=0.9)
    events.wait("weights_applied", surface="home", version=BOLD.version)
    assert "no permissions" in events.wait("experiment_refused", surface="home")["reason"]
    assert events.all("weights_refused") == []
