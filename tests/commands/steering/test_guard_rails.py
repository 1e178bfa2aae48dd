"""`trimtab experiment` with a plan: guard rails are written with a start, shown, and asked at the end.

What was counted is made up; a real Kafka is in the trial.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands.running import Ended
from tests.outcomes.building import arm_hour, sums
from tests.rig.redis import RedisServer
from workers.commands import experiment_rails
from workers.steering.editor import SteeringEditor
from workers.steering.guard_rail import stop_arm
from workers.streaming.evidence import Evidence
from workers.streaming.topics import BrokerUnreachable
from workers.surfaces import load_surfaces

Run = Callable[..., Ended]
OUTCOMES = """
[surfaces.home.outcomes]
window_s = 60
seen = { kind = "view" }
take = { kind = "click" }
others = { hide = { kind = "hide" } }
"""
RAIL = "take_rate >= -20%"


@pytest.fixture
def surfaces(surfaces: Path) -> Path:
    """`home` counts outcomes, `search` does not."""
    surfaces.write_text(surfaces.read_text() + OUTCOMES)
    return surfaces


@pytest.fixture
def started(run: Run, server: RedisServer) -> Run:
    """An experiment with the arm `canary` and one guard rail."""
    arm = ("--arm", "canary", "quality=0.1", "--reason", "try")
    assert run("weights", "set", "home", *arm).code == 0
    start = ("experiment", "start", "home", "canary=5", "--salt", "s", "--tuned-for", "5%")
    assert run(*start, "--guard", RAIL).code == 0
    return run


class Counted:
    """Stands for Kafka: the canary's take-rate is this, control's is 10 %."""

    def __init__(self, take_rate: float, server: RedisServer, surfaces: Path) -> None:
        self.take_rate = take_rate
        self._server = server
        self._surface = load_surfaces(surfaces)["home"]

    def __call__(self, *_: object, **__: object) -> Evidence:
        with SteeringEditor(self._server.url, "") as editor:
            phase = next(iter(editor.read_phases(self._surface).experiments))
        feeds = {
            arm_hour("control", phase=phase): sums(seen=1000, take_rate=0.1),
            arm_hour("canary", phase=phase): sums(seen=1000, take_rate=self.take_rate, spread=0.3),
        }
        return Evidence("home", frozenset({"home"}), feeds, {0: 1}, None, None, None)


@pytest.fixture
def count(
    monkeypatch: pytest.MonkeyPatch, server: RedisServer, surfaces: Path
) -> Callable[[float], None]:
    def count(take_rate: float) -> None:
        counted = Counted(take_rate, server, surfaces)
        monkeypatch.setattr(experiment_rails, "read_evidence", counted)

    return count


def with_kafka(run: Run, *words: str) -> Ended:
    return run(*words, "--kafka", "localhost:1")


def in_redis(server: RedisServer, key: str) -> dict[str, str]:
    found: dict[str, str] = server.client.hgetall(key)  # type: ignore[assignment]  # no async client
    return found


def test_a_start_writes_the_plan_with_the_experiment(server: RedisServer, started: Run) -> None:
    assert in_redis(server, "plan:home") == {"salt": "s", "tuned_for": "5", "guard:1": RAIL}
    assert in_redis(server, "experiment:home") == {"salt": "s", "canary": "5"}


def test_a_start_without_a_plan_writes_one_without_guard_rails(
    server: RedisServer, run: Run
) -> None:
    run("weights", "set", "search", "--arm", "canary", "engagement=0.1", "--reason", "x")
    run("experiment", "start", "search", "canary=5")
    salt = in_redis(server, "experiment:search")["salt"]
    assert in_redis(server, "plan:search") == {"salt": salt, "tuned_for": "10"}


@pytest.mark.parametrize(
    ("surface", "guard", "message"),
    [
        ("home", "clicks <= 5%", "--guard: got 'clicks', expected one of: take_rate, deadline"),
        ("home", "take_rate", "--guard: got 'take_rate', expected METRIC >= BOUND"),
        ("home", "take_rate >= -200%", "--guard: take_rate: got a bound of -2 of control"),
        ("search", "take_rate >= -2%", "the surface 'search' counts no outcomes"),
    ],
)
def test_a_guard_rail_that_nobody_could_judge_is_refused_before_anything_is_written(
    server: RedisServer, run: Run, surface: str, guard: str, message: str
) -> None:
    run("weights", "set", surface, "--arm", "canary", "engagement=0.1", "--reason", "x")
    ended = run("experiment", "start", surface, "canary=5", "--guard", guard)
    assert ended.code == 2
    assert message in ended.err
    assert in_redis(server, f"experiment:{surface}") == in_redis(server, f"plan:{surface}") == {}


def test_a_ramp_keeps_the_plan(server: RedisServer, started: Run) -> None:
    before = in_redis(server, "plan:home")
    assert started("experiment", "ramp", "home", "canary=20").code == 0
    assert in_redis(server, "plan:home") == before


@pytest.mark.parametrize(
    ("take_rate", "standing"), [(0.1, "clear"), (0.05, "broken"), (0.08, "not yet")]
)
def test_show_says_where_each_arm_is(
    started: Run, count: Callable[[float], None], take_rate: float, standing: str
) -> None:
    count(take_rate)
    printed = with_kafka(started, "experiment", "show", "home")
    assert printed.code == 0
    assert f"tuned for 5 %, guard rails: {RAIL}" in printed.out
    assert f"canary: {RAIL}: {standing}" in printed.out

    document = json.loads(with_kafka(started, "experiment", "show", "home", "--json").out)
    assert document["plan"] == {"salt": "s", "applies": True, "tuned_for": 5, "rails": [RAIL]}
    (state,) = document["rails"]["canary"]["states"]
    assert (state["rail"], state["standing"]) == (RAIL, standing)


def test_show_without_kafka_says_so_and_shows_the_rest(
    started: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = started("experiment", "show", "home")
    assert printed.code == 0
    assert "canary    5 %" in printed.out
    assert "where the arms are is not known: --kafka is not set" in printed.out

    def unreachable(*_: object, **__: object) -> Evidence:
        raise BrokerUnreachable("no broker answers")

    monkeypatch.setattr(experiment_rails, "read_evidence", unreachable)
    document = json.loads(with_kafka(started, "experiment", "show", "home", "--json").out)
    assert document["rails"] is None
    assert document["rails_missing"] == "the evidence cannot be read: no broker answers"


def test_an_arm_that_clears_every_rail_is_promoted(
    server: RedisServer, started: Run, count: Callable[[float], None]
) -> None:
    count(0.1)
    assert with_kafka(started, "experiment", "promote", "home", "canary").code == 0
    assert in_redis(server, "weights:home")["quality"] == "0.1"


@pytest.mark.parametrize("take_rate", [0.05, 0.08])
def test_an_arm_that_does_not_clear_every_rail_is_promoted_only_by_force_with_a_reason(
    server: RedisServer, started: Run, count: Callable[[float], None], take_rate: float
) -> None:
    count(take_rate)
    promote = ("experiment", "promote", "home", "canary")
    ended = with_kafka(started, *promote)
    assert ended.code == 1
    assert f"canary: does not clear every guard rail: {RAIL}" in ended.err
    assert in_redis(server, "weights:home") == {}

    assert with_kafka(started, *promote, "--force").code == 2
    forced = with_kafka(started, *promote, "--force", "--reason", "the board wants it")
    assert forced.code == 0
    assert in_redis(server, "weights:home")["quality"] == "0.1"


def test_without_evidence_an_arm_is_promoted_only_by_force(
    server: RedisServer, started: Run
) -> None:
    ended = started("experiment", "promote", "home", "canary")
    assert ended.code == 1
    assert "--kafka is not set" in ended.err
    assert started("experiment", "promote", "home", "canary", "--force", "--reason", "x").code == 0


def test_the_plan_of_another_experiment_does_not_apply_and_is_shown_as_such(
    server: RedisServer, started: Run
) -> None:
    server.client.hset("plan:home", "salt", "older")
    assert "the plan does not apply: it is of another experiment, salt older" in (
        started("experiment", "show", "home").out
    )
    assert started("experiment", "promote", "home", "canary").code == 0


def test_a_plan_that_is_refused_is_shown_and_promotes_nothing(
    server: RedisServer, started: Run
) -> None:
    server.client.hset("plan:home", "guard:2", "hide")
    assert "plan refused: guard: got 'hide'" in started("experiment", "show", "home").out
    ended = started("experiment", "promote", "home", "canary")
    assert ended.code == 1
    assert "its guard rails are not known" in ended.err


def test_an_arm_that_a_guard_rail_stopped_gets_users_again_only_by_force_with_a_reason(
    server: RedisServer, started: Run, surfaces: Path
) -> None:
    with SteeringEditor(server.url, "") as editor:
        stop_arm(
            editor, load_surfaces(surfaces)["home"], salt="s", arm="canary", reason="it did harm"
        )
    shown = started("experiment", "show", "home").out
    assert "canary: stopped by a guard rail" in shown
    assert shown.count("it did harm") == 1

    ramp = ("experiment", "ramp", "home", "canary=5")
    refused = started(*ramp)
    assert refused.code == 1
    assert "canary: a guard rail stopped it: it did harm; --force with --reason" in refused.err
    assert started(*ramp, "--force").code == 2
    assert started("experiment", "start", "home", "canary=5", "--salt", "s").code == 1

    assert started(*ramp, "--force", "--reason", "more data").code == 0
    assert in_redis(server, "experiment:home")["canary"] == "5"
    document: dict[str, Any] = json.loads(started("experiment", "show", "home", "--json").out)
    assert document["stopped"] == {}
