"""`trimtab rank`: the worker's core on a file, the same bytes each time."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.commands.running import Ended, json_lines, trimtab, write_lines, write_surfaces
from tests.rig.oracle import Oracle
from tests.rig.traffic import interleave, make_request
from tests.scoring.building import add_model, embedding, mlp


@pytest.fixture
def settings(tmp_path: Path, models: Path) -> Mapping[str, str]:
    return {"TRIMTAB_SURFACES": str(write_surfaces(tmp_path)), "TRIMTAB_MODELS": str(models)}


@pytest.fixture
def two_surfaces(tmp_path: Path, models: Path) -> Mapping[str, str]:
    return {
        "TRIMTAB_SURFACES": str(write_surfaces(tmp_path, search=True)),
        "TRIMTAB_MODELS": str(models),
    }


def requests(count: int, seed: int = 1, **changes: Any) -> list[list[dict[str, Any]]]:
    draw = random.Random(seed)
    return [
        make_request(
            f"r{n}", draw.randint(1, 20), draw, draw.choice([1, 5]), requested_at=n, **changes
        )
        for n in range(count)
    ]


def feeds(ended: Ended) -> dict[str, dict[str, Any]]:
    assert (ended.code, ended.err) == (0, "")
    return {feed["request_id"]: feed for feed in json_lines(ended.out)}


def test_each_feed_is_the_oracles_however_events_are_interleaved(
    tmp_path: Path, models: Path, settings: Mapping[str, str]
) -> None:
    sent = requests(30)
    file = write_lines(tmp_path / "events.jsonl", interleave(sent, random.Random(2)))
    ranked = feeds(trimtab("rank", file, **settings))
    assert len(ranked) == 30

    oracle = Oracle(models)
    for events in sent:
        first = events[0]
        oracle.check(
            ranked[first["request_id"]], events, completion="full", ranked_at=first["requested_at"]
        )


def test_the_same_file_gives_the_same_bytes(tmp_path: Path, settings: Mapping[str, str]) -> None:
    file = write_lines(tmp_path / "events.jsonl", interleave(requests(5), random.Random(3)))
    first = trimtab("rank", file, **settings)
    assert first.out
    assert trimtab("rank", file, **settings) == first


def test_a_candidate_that_a_model_fails_on_is_removed_and_named_once_without_a_traceback(
    tmp_path: Path,
) -> None:
    models = tmp_path / "fallible"
    add_model(models, embedding(), "quality")
    add_model(models, mlp(seed=2), "engagement")
    settings = {"TRIMTAB_SURFACES": str(write_surfaces(tmp_path)), "TRIMTAB_MODELS": str(models)}
    sent = [make_request(f"r{n}", 4, random.Random(n), batch=4)[0] for n in range(3)]
    sound = json_lines(trimtab("rank", write_lines(tmp_path / "sound.jsonl", sent), **settings).out)
    for event in sent[1:]:
        event["candidates"][2]["features"][1] = 1000
    ended = trimtab("rank", write_lines(tmp_path / "events.jsonl", sent), **settings)
    assert ended.code == 0
    assert ended.err.startswith("quality/1: model-error: ")
    assert (ended.err.count("\n"), "Traceback" in ended.err) == (1, False)

    first, *others = json_lines(ended.out)
    assert first == sound[0]

    for feed, before in zip(others, sound[1:], strict=True):
        gone = f"{feed['request_id']}-i2"
        assert feed["removed"] == [{"item_id": gone, "reason": "model-error"}]
        kept = [item["item_id"] for item in before["items"] if item["item_id"] != gone]
        assert [item["item_id"] for item in feed["items"]] == kept


def test_more_requests_than_one_batch_holds_all_come_out_once(
    tmp_path: Path, settings: Mapping[str, str]
) -> None:
    draw = random.Random(4)
    sent = [make_request(f"r{n}", 1, draw)[0] for n in range(600)]
    ended = trimtab("rank", write_lines(tmp_path / "events.jsonl", sent), **settings)
    assert [feed["request_id"] for feed in json_lines(ended.out)] == [
        event["request_id"] for event in sent
    ]


def test_what_is_open_at_the_end_closes_as_deadline_in_order_of_first_event(
    tmp_path: Path, settings: Mapping[str, str]
) -> None:
    (a,), (b,), (c,) = ([request[0]] for request in requests(3, expected=50))
    ended = trimtab(
        "rank", write_lines(tmp_path / "events.jsonl", [b, c | {"last": True}, a]), **settings
    )
    assert [(feed["request_id"], feed["completion"]) for feed in json_lines(ended.out)] == [
        (c["request_id"], "marker"),
        (b["request_id"], "deadline"),
        (a["request_id"], "deadline"),
    ]


def test_nothing_is_late_however_far_apart_the_times_of_its_requests_are(
    tmp_path: Path, settings: Mapping[str, str]
) -> None:
    draw = random.Random(5)
    times = (2_000_000_000_000, 1, 253_402_300_799_999, 0)
    sent = [make_request(f"r{n}", 2, draw, 2, requested_at=at)[0] for n, at in enumerate(times)]
    ranked = feeds(trimtab("rank", write_lines(tmp_path / "events.jsonl", sent), **settings))
    assert [feed["ranked_at"] for feed in ranked.values()] == list(times)


def test_weights_on_the_command_line_change_the_order_and_stand_on_the_feed(
    tmp_path: Path, settings: Mapping[str, str]
) -> None:
    (events,) = requests(1)
    file = write_lines(tmp_path / "events.jsonl", events)
    default = feeds(trimtab("rank", file, **settings))["r0"]
    given = feeds(trimtab("rank", file, "--weights", "engagement=0, quality=1", **settings))["r0"]
    assert default["weights"]["values"] == {"quality": 0.5, "engagement": 0.5}
    assert given["weights"]["values"] == {"quality": 1.0, "engagement": 0.0}
    assert given["weights"]["version"] != default["weights"]["version"]
    assert [item["final_score"] for item in given["items"]] == [
        item["scores"]["quality"] for item in given["items"]
    ]


def test_an_objective_that_is_not_given_takes_its_default(
    tmp_path: Path, settings: Mapping[str, str]
) -> None:
    file = write_lines(tmp_path / "events.jsonl", requests(1)[0])
    ranked = feeds(trimtab("rank", file, "--weights", "quality=0.25", **settings))
    assert ranked["r0"]["weights"]["values"] == {"quality": 0.25, "engagement": 0.5}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("quality=nan", "quality: got 'nan', expected a finite number"),
        ("quality=1.5", "quality: got 1.5, expected 0.0 to 1.0"),
        (
            "speed=1",
            "speed: not an objective of this surface, expected one of: quality, engagement",
        ),
        ("quality", "got 'quality', expected objective=number"),
        ("=1", "got '=1', expected objective=number"),
        ("", "got '', expected objective=number"),
    ],
)
def test_weights_that_no_worker_would_apply_are_wrong_use(
    tmp_path: Path, settings: Mapping[str, str], weights: str, message: str
) -> None:
    file = write_lines(tmp_path / "events.jsonl", requests(1)[0])
    ended = trimtab("rank", file, "--weights", weights, **settings)
    assert (ended.code, ended.out) == (2, "")
    assert f"--weights: {message}" in ended.err


def of_two_surfaces() -> list[dict[str, Any]]:
    draw = random.Random(6)
    home, search = (
        make_request(name, 5, draw, 5, surface=name, requested_at=0)[0]
        for name in ("home", "search")
    )
    return [home, search]


def test_a_file_of_several_surfaces_is_ranked_by_each_surfaces_own_rules(
    tmp_path: Path, two_surfaces: Mapping[str, str]
) -> None:
    ranked = feeds(
        trimtab("rank", write_lines(tmp_path / "events.jsonl", of_two_surfaces()), **two_surfaces)
    )
    assert {name: len(feed["items"]) for name, feed in ranked.items()} == {"home": 5, "search": 2}
    assert list(ranked["search"]["models"]) == ["engagement"]


def test_one_surface_can_be_picked_and_weighted(
    tmp_path: Path, two_surfaces: Mapping[str, str]
) -> None:
    file = write_lines(tmp_path / "events.jsonl", of_two_surfaces())
    ranked = feeds(
        trimtab("rank", file, "--surface", "home", "--weights", "quality=1", **two_surfaces)
    )
    assert list(ranked) == ["home"]


def test_weights_that_fit_one_surface_of_several_name_the_other(
    tmp_path: Path, two_surfaces: Mapping[str, str]
) -> None:
    file = write_lines(tmp_path / "events.jsonl", of_two_surfaces())
    ended = trimtab("rank", file, "--weights", "quality=1", **two_surfaces)
    assert ended.code == 2
    assert "quality: not an objective" in ended.err
    assert "(surface 'search'; --surface picks one)" in ended.err


def test_a_surface_that_is_not_described_is_wrong_use(
    tmp_path: Path, settings: Mapping[str, str]
) -> None:
    ended = trimtab("rank", "-", "--surface", "nowhere", **settings)
    assert ended == (2, "", "Error: --surface: got 'nowhere', expected one of: home\n")


def test_refused_events_are_named_on_standard_error_and_the_rest_is_ranked(
    tmp_path: Path, settings: Mapping[str, str]
) -> None:
    (events,) = requests(1)
    file = write_lines(
        tmp_path / "events.jsonl", ["nonsense", *events, events[0] | {"surface": "nowhere"}]
    )
    ended = trimtab("rank", file, **settings)
    assert ended.code == 0
    assert [feed["request_id"] for feed in json_lines(ended.out)] == ["r0"]

    complaints = ended.err.splitlines()
    assert complaints[0].startswith(f"{file}:1: malformed: JSON: ")
    assert complaints[1].startswith(
        f"{file}:{len(events) + 2}: unknown-surface: surface: got 'nowhere'"
    )
    assert complaints[2] == "1 feeds; 2 events refused"


def test_one_bad_candidate_costs_its_siblings_nothing(
    tmp_path: Path, models: Path, settings: Mapping[str, str]
) -> None:
    (event,) = make_request("r", 3, random.Random(7), batch=3)
    spoilt = event | {
        "candidates": [event["candidates"][0] | {"features": []}, *event["candidates"][1:]]
    }
    ended = trimtab("rank", write_lines(tmp_path / "events.jsonl", [spoilt]), **settings)
    (feed,) = json_lines(ended.out)
    Oracle(models).check(
        feed, [event | {"candidates": event["candidates"][1:]}], completion="full", refused=1
    )
    assert "refused-candidates: candidates[0] feature-count" in ended.err


def test_if_nothing_could_be_ranked_it_ends_with_1(
    tmp_path: Path, settings: Mapping[str, str]
) -> None:
    ended = trimtab("rank", write_lines(tmp_path / "events.jsonl", ["nonsense"]), **settings)
    assert (ended.code, ended.out) == (1, "")


def test_an_empty_file_is_no_feed_and_no_fault(settings: Mapping[str, str]) -> None:
    assert trimtab("rank", "-", **settings) == (0, "", "")


def test_standard_input_is_ranked_as_a_file_is(tmp_path: Path, settings: Mapping[str, str]) -> None:
    file = write_lines(tmp_path / "events.jsonl", requests(1)[0])
    assert (
        trimtab("rank", "-", given=file.read_bytes(), **settings).out
        == trimtab("rank", file, **settings).out
    )


def test_without_a_model_for_an_objective_it_ends_with_1_and_names_it(
    tmp_path: Path, settings: Mapping[str, str]
) -> None:
    ended = trimtab("rank", "-", "--models", tmp_path / "nowhere", **settings)
    assert ended.code == 1
    assert "objective 'quality': no version" in ended.err


LOOKING_UP = """drop = { seen = "user", blocked = "surface" }
lookup_features = true
"""


@pytest.fixture
def looking_up(tmp_path: Path, settings: Mapping[str, str]) -> Mapping[str, str]:
    """A surface that looks up all that there is."""
    with Path(settings["TRIMTAB_SURFACES"]).open("a") as surfaces:
        surfaces.write(LOOKING_UP)
    return settings


def test_look_ups_come_from_a_file_and_are_on_the_feed(
    tmp_path: Path, looking_up: Mapping[str, str]
) -> None:
    draw = random.Random(6)
    (event,) = make_request("r", 5, draw, 5, user_id="u")
    bare = [
        {**one, "features": None} if place in (1, 2) else one
        for place, one in enumerate(event["candidates"])
    ]
    file = write_lines(tmp_path / "events.jsonl", [event | {"candidates": bare}])
    known = write_lines(
        tmp_path / "lookups.jsonl",
        [
            {"key": "seen:u", "members": ["r-i0"]},
            {"key": "seen:v", "members": ["r-i4"]},
            {"key": "features:wide:r-i1", "features": event["candidates"][1]["features"]},
        ],
    )
    feed = feeds(trimtab("rank", file, "--lookups", known, **looking_up))["r"]
    assert feed["removed"] == [{"item_id": "r-i0", "reason": "seen"}]
    assert (feed["defaulted"], "skipped" in feed) == (["r-i2"], False)

    whole = feeds(
        trimtab(
            "rank", write_lines(tmp_path / "whole.jsonl", [event]), "--lookups", known, **looking_up
        )
    )
    scores = [
        {item["item_id"]: item["scores"] for item in one["items"]} for one in (feed, whole["r"])
    ]
    assert scores[0]["r-i1"] == scores[1]["r-i1"]
    assert scores[0]["r-i2"] != scores[1]["r-i2"]


def test_without_a_file_feeds_name_what_was_not_looked_up(
    tmp_path: Path, looking_up: Mapping[str, str]
) -> None:
    (event,) = make_request("r", 2, random.Random(7), 2)
    event["candidates"][0]["features"] = {}
    feed = feeds(trimtab("rank", write_lines(tmp_path / "events.jsonl", [event]), **looking_up))[
        "r"
    ]
    assert (feed["skipped"], feed["defaulted"]) == (["seen", "blocked", "features"], ["r-i0"])
    assert len(feed["items"]) == 2


def test_a_wrong_line_of_look_ups_is_named(tmp_path: Path, looking_up: Mapping[str, str]) -> None:
    file = write_lines(tmp_path / "events.jsonl", requests(1)[0])
    known = write_lines(tmp_path / "lookups.jsonl", [{"key": "seen:u", "members": "a"}])
    ended = trimtab("rank", file, "--lookups", known, **looking_up)
    assert (ended.code, ended.out) == (2, "")
    assert (
        ended.err
        == f"Error: --lookups: {known}: line 1: members: got 'a', expected a list of item ids\n"
    )
