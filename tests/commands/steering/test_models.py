"""`trimtab models activate`, `rollback` and `status`: pins by hand and by time, with workers and
without.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.builders import surface
from tests.commands.running import Ended
from tests.rig.process import until
from tests.rig.redis import RedisServer
from tests.scoring.building import WIDE
from tests.steering.conftest import Events
from workers.ranking.pins import AvailableModels
from workers.ranking.version import MAX_VERSION
from workers.steering import Follower

Run = Callable[..., Ended]
Steer = Callable[..., Follower]
BY_TIME = 20261127031249
NO_WORKER = "no worker lives that could say which versions are available"


def have(steer: Steer, versions: Sequence[int]) -> Follower:
    """Start the steering of a worker that has these versions of `quality`, and one of `engagement`."""
    available = AvailableModels(
        {
            "quality": dict.fromkeys(versions, frozenset(WIDE.names)),
            "engagement": {1: frozenset(WIDE.names)},
        }
    )
    library = {o: {n: {"state": "loaded"} for n in found} for o, found in available.models.items()}
    return steer(
        surfaces={"home": surface(feature_set=WIDE)},
        available=lambda: available,
        report=lambda: {"library": library, "models": {"home": {"quality": max(versions)}}},
    )


def pinned(server: RedisServer) -> str | None:
    found: str | None = server.client.hget("models:home", "quality")  # type: ignore[assignment]  # no async client
    return found


def pin_by_hand(server: RedisServer, *versions: str) -> None:
    """Write pins one after the other, each once the worker has recorded the one before."""
    for count, version in enumerate(versions, 1):
        server.client.hset("models:home", "quality", version)
        until(partial(has_entries, server, count))


def has_entries(server: RedisServer, count: int) -> bool:
    return bool(server.client.xlen("history:home") == count)


def folder_of(tmp_path: Path, *versions: str) -> Path:
    for version in versions:
        (tmp_path / "models" / "quality" / version).mkdir(parents=True)
    return tmp_path / "models"


# Without a worker


def test_without_a_worker_or_a_history_a_rollback_names_the_versions_in_the_folder(
    server: RedisServer, run: Run, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, "1", "3", str(BY_TIME), "9" * 30)
    ended = run("models", "rollback", "quality", "--surface", "home", "--models", folder)
    assert (ended.code, ended.out, pinned(server)) == (1, "", None)
    assert ended.err == (
        f"Error: home: quality: {NO_WORKER}, and no other was pinned before; "
        f"{folder / 'quality'} holds {BY_TIME}, 3, 1: trimtab models activate quality VERSION\n"
    )


def test_without_a_worker_and_without_a_folder_a_rollback_is_an_error(
    server: RedisServer, run: Run
) -> None:
    ended = run("models", "rollback", "quality", TRIMTAB_MODELS="nowhere")
    assert ended.code == 1
    assert f"{NO_WORKER}, and no other was pinned before; nowhere/quality holds none" in ended.err


def test_without_a_worker_a_rollback_goes_to_what_was_pinned_before_and_a_second_one_back(
    server: RedisServer, run: Run
) -> None:
    for version in (3, BY_TIME):
        assert run("models", "activate", "quality", version).code == 0
    ended = run("models", "rollback", "quality", "--surface", "home")
    assert (ended.code, ended.out) == (0, "home: quality 3, revision 3\n")
    assert ended.err == f"home: {NO_WORKER}: what is pinned is not checked\n"

    run("models", "rollback", "quality")
    assert pinned(server) == str(BY_TIME)


def test_waiting_for_workers_does_not_succeed_if_none_lives(server: RedisServer, run: Run) -> None:
    ended = run("models", "activate", "quality", "3", "--wait", "0")
    assert ended.code == 1
    assert ended.err.endswith("Error: quality: not in force on all workers: no worker lives\n")
    assert pinned(server) == "3"


def test_an_objective_that_only_a_worker_could_know_is_refused_with_that(
    server: RedisServer, run: Run
) -> None:
    ended = run("models", "activate", "freshness", "1")
    assert ended.code == 2
    assert (
        "objective: got 'freshness', expected one of: quality, engagement; no worker lives that could"
        in ended.err
    )


# What was pinned by hand


@pytest.mark.parametrize(
    "odd", ["²", "٣", "5" * 5000, "-1", "+2", "01", "1.0", str(MAX_VERSION + 1), "2 ", ""]
)
def test_a_pin_that_is_no_version_is_refused_and_a_rollback_passes_it_over(
    server: RedisServer, run: Run, steer: Steer, events: Events, odd: str
) -> None:
    worker = have(steer, [1, 2])
    pin_by_hand(server, "1", odd, "2")
    refused = events.wait("models_refused", surface="home")
    assert "expected the number of a version, or 'latest'" in refused["reason"]

    worker.stop()
    assert run("models", "rollback", "quality", "--surface", "home").code == 0
    assert pinned(server) == "1"


def test_a_pin_that_is_no_version_is_passed_over_while_a_worker_lives_too(
    server: RedisServer, run: Run, steer: Steer
) -> None:
    have(steer, [1, 2])
    pin_by_hand(server, "1", "²", "5" * 5000, "2")
    assert run("models", "rollback", "quality").out == "home: quality 1, revision 5\n"


# Versions by time


@pytest.mark.parametrize("version", [BY_TIME, 2**53 + 1, MAX_VERSION])
def test_a_version_by_time_is_pinned_by_command_and_by_hand(
    server: RedisServer, run: Run, steer: Steer, events: Events, version: int
) -> None:
    steering = have(steer, [1, version])
    ended = run("models", "activate", "quality", version)
    assert (ended.code, ended.out) == (0, f"home: quality {version}, revision 1\n")

    events.wait("models_applied", surface="home")
    assert steering.mix("home").pins == {"quality": version}
    assert run("models", "rollback", "quality").out == "home: quality 1, revision 2\n"

    events.wait("models_applied", 2, surface="home")
    server.client.hset("models:home", "quality", str(version))
    events.wait("models_applied", 3, surface="home")
    assert steering.mix("home").pins == {"quality": version}

    found = json.loads(run("models", "status", "--json").out)
    assert [one["version"] for one in found["versions"] if one["objective"] == "quality"] == [
        1,
        version,
    ]
    assert f"quality/{version}  loaded" in run("models", "status").out


@pytest.mark.parametrize(
    "version", ["0", str(MAX_VERSION + 1), "20261127031249123456", "5" * 5000, "01"]
)
def test_what_can_be_no_version_cannot_be_pinned(
    server: RedisServer, run: Run, version: str
) -> None:
    ended = run("models", "activate", "quality", version)
    assert ended.code == 2
    assert f"versions are from 1 to {MAX_VERSION}" in ended.err
    assert pinned(server) is None


def test_a_folder_past_64_bits_that_a_worker_refuses_is_shown_as_it_is(
    server: RedisServer, run: Run, steer: Steer
) -> None:
    refused = {"state": "refused", "reason": "folder", "message": "folder: got it"}
    steer(
        surfaces={"home": surface()},
        report=lambda: {"library": {"quality": {int("9" * 200): refused}}},
    )
    ended = run("models", "status")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"quality/{'9' * 200}  refused: folder: folder: got it  (w-1)\n"


# What cannot be gone back to while a worker lives


def test_if_there_is_no_other_version_a_rollback_names_the_one_that_exists(
    server: RedisServer, run: Run, steer: Steer
) -> None:
    have(steer, [4])
    assert (
        "home: quality: no version is available but 4, in force"
        in run("models", "rollback", "quality").err
    )


def test_if_all_other_versions_are_higher_a_rollback_names_them(
    server: RedisServer, run: Run, steer: Steer, events: Events
) -> None:
    have(steer, [4, 5, 6])
    run("models", "activate", "quality", "4")
    ended = run("models", "rollback", "quality")
    assert "home: quality: no version below 4, in force, is available, only: 5, 6" in ended.err
