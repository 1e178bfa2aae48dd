"""`trimtab weights`: as operators set them, roll them back, look at them and wait for them."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.commands.running import Ended, json_lines
from tests.rig.process import until
from tests.rig.redis import RedisServer
from tests.steering.conftest import Events
from workers.commands.redis_access import OpenSurface, RedisAt, SteeringAt
from workers.ranking.weights import Weights
from workers.steering import Follower
from workers.steering.editor import Change, ChangedMeanwhile

Run = Callable[..., Ended]
Steer = Callable[..., Follower]
HALF = {"quality": 0.5, "engagement": 0.5}


def open_home(server: RedisServer, surfaces: Path) -> AbstractContextManager[OpenSurface]:
    redis = RedisAt(server.url, prefix="", timeout_s=1.0)
    return SteeringAt(redis, surfaces).open("home")


def in_redis(server: RedisServer, arm: str = "") -> dict[str, str]:
    found: dict[str, str] = server.client.hgetall(f"weights:home{arm}")  # type: ignore[assignment]  # no async client
    return found


def entries(run: Run, *words: str) -> list[dict[str, Any]]:
    return json_lines(run("weights", "history", "home", "--json", *words).out)


def shown(run: Run) -> dict[str, Any]:
    (surface,) = json.loads(run("weights", "show", "home", "--json").out)["surfaces"]
    found: dict[str, Any] = surface
    return found


def test_a_set_is_written_whole_with_actor_and_reason(server: RedisServer, run: Run) -> None:
    ended = run("weights", "set", "home", "quality=0.6", "--reason", "calmer mornings")
    assert ended.code == 0
    assert in_redis(server) == {"quality": "0.6", "engagement": "0.5"}

    (entry,) = entries(run)
    assert (entry["actor"], entry["reason"], entry["revision"]) == ("ana", "calmer mornings", 1)
    assert (entry["before"], entry["after"]) == ({}, {"quality": "0.6", "engagement": "0.5"})
    assert entry["version"] == Weights.of({"quality": 0.6, "engagement": 0.5}).version


def test_a_set_without_a_reason_is_refused_before_anything_is_written(
    server: RedisServer, run: Run
) -> None:
    ended = run("weights", "set", "home", "quality=0.6")
    assert ended.code == 2
    assert "Missing option '--reason'" in ended.err
    assert in_redis(server) == {}


def test_what_is_not_named_stays_as_it_is_in_force(server: RedisServer, run: Run) -> None:
    run("weights", "set", "home", "quality=0.1", "engagement=0.2", "--reason", "x")
    run("weights", "set", "home", "engagement=0.9", "--reason", "x")
    assert in_redis(server) == {"quality": "0.1", "engagement": "0.9"}


def test_weights_that_are_not_named_stay_if_redis_holds_a_set_that_workers_refuse(
    server: RedisServer, run: Run
) -> None:
    run("weights", "set", "home", "quality=0.1", "engagement=0.2", "--reason", "x")
    server.set("home", engagement="much")
    run("weights", "set", "home", "quality=0.3", "--reason", "x")
    assert in_redis(server) == {"quality": "0.3", "engagement": "0.2"}


REFUSED = {
    "an unknown objective": (("clicks=1",), "clicks: not an objective of this surface"),
    "out of bounds": (("quality=1.5",), "quality: got 1.5, expected 0.0 to 1.0"),
    "not a number": (("quality=much",), "quality: got 'much', expected a finite number"),
    "not finite": (("quality=1e999",), "quality: got inf, expected a finite number"),
    "no pair": (("quality",), "weights: got 'quality', expected objective=number"),
}


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_what_workers_would_refuse_is_refused_before_it_is_written(
    server: RedisServer, run: Run, words: tuple[str, ...], message: str
) -> None:
    ended = run("weights", "set", "home", *words, "--reason", "x")
    assert ended.code == 2
    assert message in ended.err
    assert in_redis(server) == {}
    assert entries(run) == []


def test_the_same_set_again_is_no_change(server: RedisServer, run: Run) -> None:
    run("weights", "set", "home", "quality=0.6", "--reason", "x")
    again = json.loads(run("weights", "set", "home", "quality=0.6", "--reason", "y", "--json").out)
    assert (again["changed"], again["revision"]) == (False, 1)
    assert len(entries(run)) == 1


def test_a_set_that_expects_another_revision_or_version_is_not_written(
    server: RedisServer, run: Run
) -> None:
    run("weights", "set", "home", "quality=0.6", "--reason", "x")
    version = Weights.of({"quality": 0.6, "engagement": 0.5}).version
    for right in ("1", version):
        assert (
            run("weights", "set", "home", "quality=0.6", "--reason", "x", "--expect", right).code
            == 0
        )
    for wrong in ("0", "2", "0" * 12):
        ended = run("weights", "set", "home", "quality=0.7", "--reason", "x", "--expect", wrong)
        assert ended.code == 1
        assert f"expected {wrong}, is at version {version}, revision 1, changed by ana" in ended.err
    server.set("home", quality=0.9)
    assert run("weights", "set", "home", "quality=0.7", "--reason", "x", "--expect", "1").code == 1
    assert in_redis(server)["quality"] == "0.9"


def test_of_two_operators_at_once_one_wins_and_the_other_learns_by_whom(
    server: RedisServer, run: Run, surfaces: Path
) -> None:
    run("weights", "set", "home", "quality=0.5", "--reason", "x")
    together = threading.Barrier(2)
    ended: dict[str, BaseException | int] = {}

    def change(actor: str, quality: float) -> None:
        with open_home(server, surfaces) as opened:
            view = opened.editor.read_view(opened.surface)
            together.wait(15.0)
            try:
                wanted = Weights.of({"quality": quality, "engagement": 0.5})
                ended[actor] = opened.editor.write(
                    view, [Change(view.weights, wanted)], actor, "mine"
                )
            except ChangedMeanwhile as changed:
                ended[actor] = changed

    threads = [threading.Thread(target=change, args=one) for one in (("ben", 0.1), ("cleo", 0.9))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [actor for actor, end in ended.items() if end == 2]
    (loser,) = {"ben", "cleo"} - {winner}
    written = in_redis(server)["quality"]
    assert written == {"ben": "0.1", "cleo": "0.9"}[winner]
    assert f"changed meanwhile by {winner}, revision 2 (mine): quality 0.5 -> {written}" in str(
        ended[loser]
    )
    assert [entry["actor"] for entry in entries(run)] == ["ana", winner]


def test_a_change_to_an_arm_meanwhile_disturbs_no_change_to_the_surface(
    server: RedisServer, run: Run, surfaces: Path
) -> None:
    run("weights", "set", "home", "quality=0.5", "--reason", "x")
    with open_home(server, surfaces) as opened:
        view = opened.editor.read_view(opened.surface)
        run("weights", "set", "home", "--arm", "canary", "quality=0.1", "--reason", "x")
        assert opened.editor.write(view, [Change(view.weights, Weights.of(HALF))], "ben", "") == 3


def test_a_change_made_by_hand_is_recorded_before_the_next_one_of_the_tools(
    server: RedisServer, run: Run
) -> None:
    server.set("home", quality=0.9, engagement=0.1)
    run("weights", "set", "home", "quality=0.8", "--reason", "x")
    first, second = entries(run)
    assert (first["actor"], first["after"]) == ("unknown", {"quality": "0.9", "engagement": "0.1"})
    assert (second["actor"], second["before"]) == ("ana", first["after"])


def test_unset_writes_the_defaults_out(server: RedisServer, run: Run) -> None:
    server.set("home", quality=0.9)
    assert run("weights", "unset", "home").code == 0
    assert in_redis(server) == {"quality": "0.5", "engagement": "0.5"}


def test_a_rollback_goes_to_the_set_before_and_a_second_one_back(
    server: RedisServer, run: Run
) -> None:
    for quality in (0.1, 0.2, 0.3):
        run("weights", "set", "home", f"quality={quality}", "--reason", "x")
    run("weights", "rollback", "home")
    assert in_redis(server)["quality"] == "0.2"

    run("weights", "rollback", "home")
    assert in_redis(server)["quality"] == "0.3"

    run("weights", "rollback", "home", "1")
    assert in_redis(server)["quality"] == "0.1"

    version = Weights.of({"quality": 0.2, "engagement": 0.5}).version
    run("weights", "rollback", "home", version)
    assert in_redis(server)["quality"] == "0.2"
    assert [entry["reason"] for entry in entries(run)][3:] == ["rollback"] * 4


def test_the_rollback_of_the_first_change_goes_to_the_defaults(
    server: RedisServer, run: Run
) -> None:
    run("weights", "set", "home", "quality=0.1", "--reason", "x")
    run("weights", "rollback", "home")
    assert in_redis(server) == {"quality": "0.5", "engagement": "0.5"}


def test_a_rollback_over_what_workers_refuse_writes_what_they_stand_on(
    server: RedisServer, run: Run
) -> None:
    run("weights", "set", "home", "quality=0.1", "--reason", "x")
    run("weights", "set", "home", "quality=0.2", "--reason", "x")
    server.set("home", quality="much")
    run("weights", "rollback", "home")
    assert in_redis(server)["quality"] == "0.2"

    server.client.set("weights:home", "no hash")
    run("weights", "rollback", "home")
    assert in_redis(server)["quality"] == "0.2"


def test_a_rollback_to_what_is_not_kept_or_was_refused_is_refused(
    server: RedisServer, run: Run
) -> None:
    server.set("home", quality="much")
    run("weights", "set", "home", "quality=0.2", "--reason", "x")
    assert "revision 1: quality: got 'much'" in run("weights", "rollback", "home", "1").err

    missing = run("weights", "rollback", "home", "7")
    assert missing.code == 1
    assert "got '7', expected a version, a revision (kept are 1 to 2)" in missing.err


def test_diff_compares_revisions_versions_what_is_in_force_and_the_default(
    server: RedisServer, run: Run
) -> None:
    run("weights", "set", "home", "quality=0.25", "--reason", "x")
    run("weights", "set", "home", "quality=0.75", "--reason", "x")
    found = json.loads(run("weights", "diff", "home", "1", "now", "--json").out)
    assert found["difference"] == {"quality": 0.5, "engagement": 0.0}

    version = Weights.of({"quality": 0.25, "engagement": 0.5}).version
    found = json.loads(run("weights", "diff", "home", version, "default", "--json").out)
    assert found["difference"] == {"quality": 0.25, "engagement": 0.0}
    assert "0.25" in run("weights", "diff", "home", "1", "default").out


def test_show_prints_what_is_in_force_since_when_by_whom_and_on_which_workers(
    server: RedisServer, run: Run, steer: Steer, events: Events
) -> None:
    assert shown(run)["weights"]["values"] == HALF
    assert shown(run)["source"] == "default"

    run("weights", "set", "home", "quality=0.6", "--reason", "calmer mornings")
    steer(worker_id="w-1")
    steer(worker_id="w-2")
    run("weights", "wait", "home", "--workers", "2")
    found = shown(run)
    version = Weights.of({"quality": 0.6, "engagement": 0.5}).version
    assert found["weights"] == {"version": version, "values": {"quality": 0.6, "engagement": 0.5}}
    assert (found["revision"], found["actor"], found["reason"]) == (1, "ana", "calmer mornings")
    assert found["workers"] == {"w-1": version, "w-2": version}

    printed = run("weights", "show").out
    assert "home: quality 0.6, engagement 0.5" in printed
    assert 'by ana: "calmer mornings"' in printed
    assert "applied by 2 of 2 workers" in printed
    assert "search: engagement 1" in printed


def test_show_prints_what_workers_refuse(server: RedisServer, run: Run) -> None:
    run("weights", "set", "home", "quality=0.6", "--reason", "x")
    server.set("home", quality="much")
    found = shown(run)
    assert found["weights"]["values"]["quality"] == 0.6
    assert found["source"] == "last-good"
    assert "quality: got 'much'" in found["refused"]
    assert found["recorded"] is False


def test_wait_returns_once_every_worker_has_the_set(
    server: RedisServer, run: Run, steer: Steer
) -> None:
    for number in range(4):
        steer(worker_id=f"w-{number}")
    run(
        "weights",
        "wait",
        "home",
        "--version",
        Weights.of(HALF).version,
        "--workers",
        "4",
        "--timeout",
        "15",
    )
    for number in range(20):
        changed = json.loads(
            run("weights", "set", "home", f"quality={number / 100}", "--reason", "x", "--json").out
        )
        version = changed["after"]["version"]
        assert run("weights", "wait", "home", "--version", version, "--timeout", "15").code == 0
        assert shown(run)["workers"] == dict.fromkeys(("w-0", "w-1", "w-2", "w-3"), version)


def test_wait_names_who_does_not_have_the_set(server: RedisServer, run: Run, steer: Steer) -> None:
    steer(worker_id="w-1")
    assert run("weights", "wait", "home", "--version", Weights.of(HALF).version).code == 0

    ended = run("weights", "wait", "home", "--version", "0" * 12, "--timeout", "0")
    assert ended.code == 1
    assert f"not applied by all 1 workers: w-1 at {Weights.of(HALF).version}" in ended.err

    ended = run(
        "weights", "wait", "home", "--version", "0" * 12, "--timeout", "0", "--workers", "2"
    )
    assert "1 live workers, expected at least 2" in ended.err


def test_wait_without_workers_does_not_succeed(server: RedisServer, run: Run) -> None:
    run("weights", "set", "home", "quality=0.6", "--reason", "x")
    assert run("weights", "wait", "home", "--timeout", "0").code == 1


def test_watch_prints_changes_as_they_come_those_by_hand_too(
    server: RedisServer, run: Run, steer: Steer, surfaces: Path
) -> None:
    run("weights", "set", "home", "quality=0.1", "--reason", "before")
    steer()
    command = [
        sys.executable,
        "-m",
        "workers.cli",
        "weights",
        "watch",
        "home",
        "--count",
        "2",
        "--json",
    ]
    places = [f"--redis={server.url}", f"--surfaces={surfaces}"]
    with subprocess.Popen([*command, *places], stdout=subprocess.PIPE, text=True) as watching:
        until(lambda: any("xread" in one["cmd"] for one in server.client.client_list()))
        server.set("home", quality=0.2)
        until(lambda: len(entries(run)) == 2)
        run("weights", "set", "home", "quality=0.3", "--reason", "after")
        printed, _ = watching.communicate(timeout=30.0)
    assert [entry["actor"] for entry in json_lines(printed)] == ["unknown", "ana"]


def test_a_redis_that_is_gone_is_an_error_without_the_password(
    stopped_server: RedisServer, run: Run
) -> None:
    url = stopped_server.url.replace("//", "//ana:secret@")
    ended = run("weights", "show", TRIMTAB_REDIS=url)
    assert ended.code == 1
    assert "no Redis answers at redis:***@127.0.0.1" in ended.err
    assert "secret" not in ended.err


def test_an_unknown_surface_is_named_with_those_that_there_are(
    server: RedisServer, run: Run
) -> None:
    for words in (
        ("show",),
        ("history",),
        ("unset",),
        ("rollback",),
        ("wait",),
        ("diff", "1", "2"),
    ):
        ended = run("weights", words[0], "nowhere", *words[1:])
        assert ended.code == 2
        assert "surface: got 'nowhere', expected one of: home, search" in ended.err
