"""`trimtab experiment`: a canary started, ramped, promoted and stopped, as ops do it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.commands.running import Ended, json_lines
from tests.rig.process import until
from tests.rig.redis import RedisServer
from tests.steering.conftest import Events
from workers.ranking.weights import Weights
from workers.steering import Follower

Run = Callable[..., Ended]
Steer = Callable[..., Follower]
CANARY = Weights.of({"quality": 0.1, "engagement": 0.9})


def in_redis(server: RedisServer, key: str) -> dict[str, str]:
    found: dict[str, str] = server.client.hgetall(key)  # type: ignore[assignment]  # no async client
    return found


def arm(run: Run, name: str = "canary", quality: float = 0.1) -> None:
    words = (f"quality={quality}", "engagement=0.9", "--reason", "try")
    assert run("weights", "set", "home", "--arm", name, *words).code == 0


def shown(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("experiment", "show", "home", "--json").out)
    return found


def test_a_canary_is_started_ramped_and_promoted_while_workers_follow(
    server: RedisServer, run: Run, steer: Steer, events: Events
) -> None:
    steering = steer()
    arm(run)
    assert run("experiment", "start", "home", "canary=5", "--salt", "s").code == 0
    assert in_redis(server, "experiment:home") == {"salt": "s", "canary": "5"}

    events.wait("experiment_applied", arms={"canary": 5.0})
    drawn = [steering.mix("home").assign(f"user-{number}") for number in range(2000)]
    assert 60 < sum(one[:2] == ("canary", CANARY) for one in drawn) < 140
    assert run("experiment", "ramp", "home", "canary=20.5").code == 0

    events.wait("experiment_applied", arms={"canary": 20.5})
    grown = [steering.mix("home").assign(f"user-{number}") for number in range(2000)]
    assert all(
        after.arm == "canary"
        for before, after in zip(drawn, grown, strict=True)
        if before.arm == "canary"
    )

    run("experiment", "promote", "home", "canary")
    until(lambda: steering.mix("home").weights == CANARY)
    assert all(
        steering.mix("home").assign(f"user-{number}")[:2] == ("control", CANARY)
        for number in range(2000)
    )


def test_a_promotion_is_one_step_with_two_entries(server: RedisServer, run: Run) -> None:
    arm(run)
    run("experiment", "start", "home", "canary=5")
    promoted = run("experiment", "promote", "home", "canary", "--reason", "it won")
    assert "  control  100 %  quality 0.1, engagement 0.9" in promoted.out
    assert in_redis(server, "weights:home") == {"quality": "0.1", "engagement": "0.9"}
    assert in_redis(server, "experiment:home")["canary"] == "0"

    made = json_lines(run("weights", "history", "home", "--json").out)
    assert [(one["document"], one["reason"]) for one in made[-2:]] == [
        ("weights", "it won"),
        ("experiment", "it won"),
    ]
    assert run("weights", "rollback", "home").code == 0
    assert in_redis(server, "weights:home") == {"quality": "0.5", "engagement": "0.5"}


def test_a_stopped_experiment_leaves_everybody_in_control_and_may_be_started_again(
    server: RedisServer, run: Run, steer: Steer
) -> None:
    steering = steer()
    arm(run)
    run("experiment", "start", "home", "canary=100")
    until(lambda: steering.mix("home").assign("u").arm == "canary")
    assert run("experiment", "stop", "home").code == 0

    until(lambda: steering.mix("home").assign("u").arm == "control")
    assert shown(run)["running"] is False
    assert "no experiment runs" in run("experiment", "show", "home").out
    assert run("experiment", "start", "home", "canary=100").code == 0

    until(lambda: steering.mix("home").assign("u").arm == "canary")


def test_show_prints_shares_weights_and_who_started_it(server: RedisServer, run: Run) -> None:
    assert shown(run) | {"running": False, "arms": {}, "control": 100.0} == shown(run)

    arm(run)
    run("experiment", "start", "home", "canary=5", "--salt", "s", "--reason", "does it help?")
    found = shown(run)
    assert (found["running"], found["salt"], found["control"]) == (True, "s", 95.0)
    assert found["arms"]["canary"]["percent"] == 5.0
    assert found["arms"]["canary"]["weights"]["version"] == CANARY.version
    assert (found["actor"], found["reason"]) == ("ana", "does it help?")

    printed = run("experiment", "show", "home").out
    assert "  control  95 %  quality 0.5, engagement 0.5" in printed
    assert "  canary    5 %  quality 0.1, engagement 0.9" in printed


def test_each_start_without_a_salt_makes_a_new_one(server: RedisServer, run: Run) -> None:
    arm(run)
    salts = set()
    for _ in range(2):
        run("experiment", "start", "home", "canary=5")
        salts.add(in_redis(server, "experiment:home")["salt"])
        run("experiment", "stop", "home")
    assert len(salts) == 2


SENSELESS = {
    "more than there are": (("canary=60", "bold=50"), "add up to 110 %, expected at most 100"),
    "more than all": (("canary=101",), "canary: got '101', expected 0 to 100 percent"),
    "less than none": (("canary=-5",), "canary: got '-5', expected 0 to 100 percent"),
    "no number": (("canary=five",), "canary: got 'five', expected 0 to 100 percent"),
    "finer than is drawn": (
        ("canary=0.001",),
        "canary: got '0.001', expected 0 to 100 percent, in hundredths",
    ),
    "no pair": (("canary",), "arms: got 'canary', expected arm=percent"),
    "no name of an arm": (("a:b=5",), "arm: got 'a:b'"),
    "control that is not the rest": (
        ("canary=5", "control=5"),
        "control: got '5', expected the rest, 95",
    ),
    "an arm without weights": (
        ("unarmed=5",),
        "arm: unarmed has no weights, expected a valid set first",
    ),
}


@pytest.mark.parametrize(("words", "message"), SENSELESS.values(), ids=SENSELESS)
def test_percentages_that_make_no_sense_are_refused_whole(
    server: RedisServer, run: Run, words: tuple[str, ...], message: str
) -> None:
    arm(run)
    arm(run, "bold")
    ended = run("experiment", "start", "home", *words)
    assert ended.code == 2
    assert message in ended.err
    assert in_redis(server, "experiment:home") == {}


def test_what_does_not_fit_the_running_experiment_is_refused(server: RedisServer, run: Run) -> None:
    arm(run)
    arm(run, "bold")
    for words in (("ramp", "home", "canary=5"), ("stop", "home"), ("promote", "home", "canary")):
        ended = run("experiment", *words)
        assert (ended.code, "home: no experiment runs" in ended.err) == (1, True)
    run("experiment", "start", "home", "canary=5")
    assert (
        "home: an experiment runs (canary 5 %)" in run("experiment", "start", "home", "bold=5").err
    )
    assert (
        "arm: got 'bold', expected one of the experiment's: canary"
        in run("experiment", "ramp", "home", "bold=5").err
    )
    assert run("experiment", "promote", "home", "bold").code == 2
    assert run("experiment", "ramp", "home", "canary=101").code == 2
    assert in_redis(server, "experiment:home")["canary"] == "5"


def test_weights_show_and_wait_know_the_arm(server: RedisServer, run: Run, steer: Steer) -> None:
    steer(worker_id="w-1")
    arm(run)
    assert run("weights", "wait", "home", "--arm", "canary", "--timeout", "0").code == 1

    run("experiment", "start", "home", "canary=5")
    assert run("weights", "wait", "home", "--arm", "canary", "--timeout", "15").code == 0

    (found,) = json.loads(run("weights", "show", "home", "--json").out)["surfaces"]
    assert found["arms"]["canary"]["workers"] == {"w-1": CANARY.version}
    assert found["experiment"] == {"canary": 5.0}


def test_an_arm_that_is_new_starts_from_the_surface_in_force(server: RedisServer, run: Run) -> None:
    server.set("home", quality=0.3, engagement=0.4)
    run("weights", "set", "home", "--arm", "canary", "quality=0.9", "--reason", "x")
    assert in_redis(server, "weights:home:canary") == {"quality": "0.9", "engagement": "0.4"}

    run("weights", "set", "home", "--arm", "control", "quality=0.8", "--reason", "x")
    assert in_redis(server, "weights:home") == {"quality": "0.8", "engagement": "0.4"}
