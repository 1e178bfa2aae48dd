"""The last good set on disk: kept for each surface, ignored if it cannot be trusted."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builders import HOME, surface
from tests.rig.redis import RedisServer
from tests.steering.conftest import PATIENCE_S, Events
from workers.ranking.mix import Mix
from workers.ranking.pins import ANY_VERSION, AvailableModels, Pins
from workers.ranking.version import MAX_VERSION
from workers.ranking.weights import WeightRules, Weights
from workers.steering import Follower, last_good
from workers.steering.documents import (
    EXPERIMENT,
    MODELS,
    WEIGHTS,
    Applied,
    DocumentId,
    Source,
)
from workers.steering.last_good import LastGood, LastGoodFile, LastGoodIgnored
from workers.steering.surface_state import SurfaceState

Steer = Callable[..., Follower]
RULES = HOME.weight_rules
KEY = "weights:home"
DEFAULT = RULES.default()
GOOD = Weights.of({"quality": 0.7, "engagement": 0.3})
KEPT = Mix(GOOD)


def values_of(mix: Mix) -> dict[DocumentId, Any]:
    """The values that make up a mix, by document."""
    values: dict[DocumentId, Any] = {DocumentId(WEIGHTS): mix.weights}
    if mix.experiment is not None:
        values[DocumentId(EXPERIMENT)] = mix.experiment
    if mix.pins:
        values[DocumentId(MODELS)] = Pins(mix.pins)
    values |= {DocumentId(WEIGHTS, arm): weights for arm, weights in mix.arms.items()}
    values |= {DocumentId(MODELS, arm): Pins(pins) for arm, pins in mix.arm_pins.items()}
    return values


def save(home: Path, key: str, mix: Mix) -> None:
    last_good.save(home, last_good.file_of(key, values_of(mix), DEFAULT))


def load(home: Path, key: str, rules: WeightRules = RULES) -> Mix | None:
    kept = last_good.load(
        home, key, surface(weight_rules=rules, objectives=tuple(rules.defaults)), ANY_VERSION
    )
    if kept is None:
        return None
    values: dict[DocumentId, Any] = {DocumentId(WEIGHTS): rules.default(), **kept.values}
    states = {one: Applied(value, Source.LAST_GOOD, 0) for one, value in values.items()}
    return SurfaceState.of(states).mix


def kept_in_time(home: Path, mix: Mix) -> bool:
    """Whether this mix comes to be what is kept."""
    patience = time.monotonic() + PATIENCE_S
    while (kept := load(home, KEY)) != mix and time.monotonic() < patience:
        pass
    return kept == mix


def test_what_was_kept_is_read_back_exactly(tmp_path: Path) -> None:
    exact = Weights.of({"quality": 0.1 + 0.2, "engagement": 1e-17})
    save(tmp_path / "new" / "home", KEY, Mix(exact))
    assert load(tmp_path / "new" / "home", KEY) == Mix(exact)


def test_a_missing_file_is_not_an_error(tmp_path: Path) -> None:
    assert load(tmp_path, KEY) is None


def test_two_prefixes_and_odd_names_of_surfaces_do_not_meet(tmp_path: Path) -> None:
    keys = ["weights:home", "prod:weights:home", "weights:../home", "weights:a/b", "weights:é"]
    sets = [Weights.of({"quality": n / 10, "engagement": 0.5}) for n in range(len(keys))]
    for key, weights in zip(keys, sets, strict=True):
        save(tmp_path, key, Mix(weights))
    assert [load(tmp_path, key) for key in keys] == [Mix(weights) for weights in sets]


def test_nothing_unfinished_stays_behind(tmp_path: Path) -> None:
    save(tmp_path, KEY, KEPT)
    assert list(tmp_path.iterdir()) == [last_good.path_of(tmp_path, KEY)]


def test_a_set_that_the_surface_no_longer_allows_is_ignored(tmp_path: Path) -> None:
    save(tmp_path, KEY, KEPT)
    with pytest.raises(LastGoodIgnored, match="engagement: not an objective"):
        load(tmp_path, KEY, WeightRules({"quality": 0.5}, {}))
    with pytest.raises(LastGoodIgnored, match=r"quality: got 0\.7"):
        load(
            tmp_path, KEY, WeightRules({"quality": 0.1, "engagement": 0.3}, {"quality": (0.0, 0.5)})
        )


def test_an_objective_added_since_takes_its_default(tmp_path: Path) -> None:
    save(tmp_path, KEY, KEPT)
    rules = WeightRules({"quality": 0.5, "engagement": 0.5, "freshness": 0.1}, {})
    assert load(tmp_path, KEY, rules) == Mix(
        Weights.of({"quality": 0.7, "engagement": 0.3, "freshness": 0.1})
    )


SET = {"version": GOOD.version, "values": dict(GOOD.values)}
SOUND = {"key": KEY, "weights": SET, "experiment": None, "arms": {}}
SPOILT = {
    "empty": b"",
    "cut short": json.dumps(SOUND).encode()[:40],
    "not text": b"\xff\xfe\x00",
    "another shape": b'{"weights": [1, 2]}',
    "nested without end": b"[" * 100_000,
    "another's key": json.dumps(SOUND | {"key": "staging:weights:home"}).encode(),
    "values changed by hand": json.dumps(
        SOUND | {"weights": SET | {"values": {"quality": 0.9, "engagement": 0.3}}}
    ).encode(),
    "an arm without a set": json.dumps(
        SOUND | {"experiment": {"salt": "s", "canary": "5"}}
    ).encode(),
    "an experiment of too much": json.dumps(
        SOUND | {"experiment": {"salt": "s", "canary": "101"}}
    ).encode(),
    "a weight as text": json.dumps(
        SOUND | {"weights": SET | {"values": {"quality": "0.7", "engagement": 0.3}}}
    ).encode(),
}


@pytest.mark.parametrize("content", SPOILT.values(), ids=SPOILT)
def test_a_damaged_file_is_ignored_and_logged(
    content: bytes, stopped_server: RedisServer, steer: Steer, events: Events, tmp_path: Path
) -> None:
    path = last_good.path_of(tmp_path / "home", KEY)
    path.parent.mkdir()
    path.write_bytes(content)
    assert steer().mix("home").weights == DEFAULT
    (event,) = events.all("last_good_ignored", surface="home")
    assert str(path) in event["reason"]


def test_a_folder_in_the_place_of_the_file_is_ignored(tmp_path: Path) -> None:
    last_good.path_of(tmp_path, KEY).mkdir()
    with pytest.raises(LastGoodIgnored):
        load(tmp_path, KEY)


def test_a_home_that_cannot_be_written_is_logged_once_and_stops_nothing(
    server: RedisServer, steer: Steer, events: Events, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    steering = steer(home=tmp_path / "file" / "home")
    for n in range(1, 4):
        server.set("home", quality=n / 10)
        events.wait("weights_applied", n, surface="home")
    assert steering.mix("home").weights.values["quality"] == 0.3
    steering.stop()
    assert len(events.all("last_good_unwritable")) == 1


def test_workers_that_write_at_once_spoil_nothing(tmp_path: Path) -> None:
    sets = [Weights.of({"quality": n / 8, "engagement": 1 - n / 8}) for n in range(8)]
    read: list[Mix | None] = []
    save(tmp_path, KEY, KEPT)

    def write(weights: Weights) -> None:
        for _ in range(50):
            save(tmp_path, KEY, Mix(weights))
            read.append(load(tmp_path, KEY))

    writers = [threading.Thread(target=write, args=(weights,)) for weights in sets]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(read) == 400
    assert all(mix is not None and mix.weights in sets for mix in read)


def test_a_disk_that_hangs_delays_no_change_and_keeps_the_last_one_when_it_goes_on(
    server: RedisServer,
    steer: Steer,
    events: Events,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writing = threading.Event()
    freed = threading.Event()
    write = last_good.save

    def hang(home: Path, file: LastGoodFile) -> None:
        writing.set()
        freed.wait()
        write(home, file)

    monkeypatch.setattr(last_good, "save", hang)
    steering = steer(poll_seconds=3600.0)
    server.set("home", quality=0.1)
    assert writing.wait(PATIENCE_S)
    try:
        server.set("home", quality=0.2)
        events.wait("weights_applied", 2, surface="home")
        assert load(tmp_path / "home", KEY) is None
    finally:
        freed.set()
    assert kept_in_time(tmp_path / "home", steering.mix("home"))


def test_what_is_applied_last_is_kept_though_steering_stops_at_once(
    server: RedisServer, steer: Steer, events: Events, tmp_path: Path
) -> None:
    steering = steer(poll_seconds=3600.0)
    for count in range(1, 4):
        server.set("home", quality=count / 10)
        events.wait("weights_applied", count, surface="home")
    steering.stop()
    assert kept_in_time(tmp_path / "home", Mix(Weights.of({"quality": 0.3, "engagement": 0.5})))


def test_in_a_storm_that_never_pauses_the_sets_are_kept_all_the_same(
    server: RedisServer, steer: Steer, tmp_path: Path
) -> None:
    steer()
    kept: set[str] = set()
    patience = time.monotonic() + PATIENCE_S
    turn = 0
    while len(kept) < 4 and time.monotonic() < patience:
        turn += 1
        server.set("home", quality=turn % 1000 / 1000)
        mix = load(tmp_path / "home", KEY)
        kept |= {mix.weights.version} if mix else set()
    assert len(kept) == 4


def test_pins_are_kept_and_left_out_if_a_pinned_version_is_gone(tmp_path: Path) -> None:
    pinned = Mix(GOOD, pins={"quality": 2}, arm_pins={"canary": {"quality": 3}})
    save(tmp_path, KEY, pinned)
    there = AvailableModels({"quality": {2: frozenset("a"), 3: frozenset("b")}})
    assert last_good.load(tmp_path, KEY, HOME, there) == LastGood(values_of(pinned))
    kept = last_good.load(tmp_path, KEY, HOME, AvailableModels({"quality": {2: frozenset("a")}}))
    reason = "models: quality: version 3 is not available, expected one of: 2"
    assert kept == LastGood(values_of(Mix(GOOD)), (reason,))


def test_a_pinned_version_by_time_is_kept(tmp_path: Path) -> None:
    pinned = Mix(
        GOOD, pins={"quality": 20261127031249}, arm_pins={"canary": {"quality": MAX_VERSION}}
    )
    save(tmp_path, KEY, pinned)
    assert last_good.load(tmp_path, KEY, HOME, ANY_VERSION) == LastGood(values_of(pinned))


def test_a_set_with_an_objective_that_has_no_model_any_more_is_ignored(tmp_path: Path) -> None:
    mix = Mix(Weights.of({"quality": 0.7, "engagement": 0.3, "freshness": 0.1}))
    save(tmp_path, KEY, mix)
    there = AvailableModels({"freshness": {1: frozenset("a")}})
    assert last_good.load(tmp_path, KEY, HOME, there) == LastGood(values_of(mix))
    with pytest.raises(LastGoodIgnored, match="freshness: not an objective"):
        last_good.load(tmp_path, KEY, HOME, AvailableModels())
