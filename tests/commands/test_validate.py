"""`trimtab validate`: it shows beforehand what a worker would refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]

from tests.commands.running import trimtab, write_lines, write_surfaces
from tests.contract.golden import INDEX, SCHEMAS, Entry, value_of
from workers.codec.generated.interaction_pb2 import Interaction as WireInteraction

EVENT: dict[str, Any] = {
    "request_id": "r-1",
    "surface": "home",
    "user_id": "u",
    "requested_at": 1,
    "expected": 1,
    "candidates": [{"item_id": "a", "features": [1.5, 8, 0]}],
}


@pytest.fixture(scope="session")
def surfaces(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The surfaces that the golden examples are meant for, as a file."""
    lines = []
    for name, described in INDEX["surfaces"].items():
        features = described["feature_set"]
        lines += [f"[feature_sets.{features['name']}]", f"names = {json.dumps(features['names'])}"]
        lines += [f"[feature_sets.{features['name']}.defaults]"]
        lines += [f"{key} = {value}" for key, value in features["defaults"].items()]
        lines += [f"[surfaces.{name}]", f'feature_set = "{features["name"]}"']
        lines += [f"objectives = {json.dumps(described['objectives'])}"]
        lines += [
            f"{key} = {described[key]}" for key in ("deadline_ms", "horizon_ms", "max_candidates")
        ]
        lines += ["lookup_features = true"] if described.get("lookup_features") else []
        lines += [f"weights = {{ {', '.join(f'{o} = 0.5' for o in described['objectives'])} }}"]
    path = tmp_path_factory.mktemp("validate") / "surfaces.toml"
    path.write_text("\n".join(lines))
    return str(path)


def validated(surfaces: str, file: Path | str, *words: str, given: bytes = b"") -> dict[str, Any]:
    ended = trimtab("validate", file, *words, "--json", given=given, TRIMTAB_SURFACES=surfaces)
    found: dict[str, Any] = json.loads(ended.out)
    assert ended.code == (1 if found["refused"] else 0)
    return found


# A file of events has no keys, no headers and no null values: those a producer's client must get
# right.
_OF_RECORDS = ("null-value", "unknown-content-type", "key-mismatch")


def in_a_file(entry: Entry) -> bool:
    value = value_of(entry) or b""
    if entry["code"] in _OF_RECORDS or not entry["file"].endswith((".json", ".pb")):
        return False
    return bool(value.strip()) and b"\n" not in value and not value.startswith(b"\0")


def as_file(entry: Entry, path: Path) -> tuple[Path, str]:
    """The example as the one event of a file, and its format."""
    value = value_of(entry) or b""
    if entry["file"].endswith(".pb"):
        path.write_bytes(_VarintBytes(len(value)) + value)
        return path, "protobuf"
    path.write_bytes(value + b"\n")
    return path, "json"


REFUSED = list(filter(in_a_file, INDEX["refused"]))


@pytest.mark.parametrize("entry", REFUSED, ids=lambda entry: entry["file"])
def test_what_the_worker_refuses_is_refused_with_the_same_code(
    surfaces: str, tmp_path: Path, entry: Entry
) -> None:
    file, form = as_file(entry, tmp_path / "events")
    (refusal,) = validated(surfaces, file, "--format", form)["refused"]
    codes = (refusal["reason"], refusal["message"])
    assert entry["code"] == refusal["reason"] or f" {entry['code']}: " in refusal["message"], codes
    assert entry["message"] in refusal["message"]


def test_the_golden_examples_refuse_for_nearly_every_reason() -> None:
    assert {entry["code"] for entry in REFUSED} >= {"malformed", "invalid-event", "unknown-surface"}


ACCEPTED = [
    e
    for e in INDEX["accepted"]
    if e["file"].endswith((".json", ".pb")) and not e["file"].count("framed")
]


@pytest.mark.parametrize("entry", ACCEPTED, ids=lambda entry: entry["file"])
def test_what_the_worker_accepts_is_accepted(surfaces: str, tmp_path: Path, entry: Entry) -> None:
    file, form = as_file(entry, tmp_path / "events")
    found = validated(surfaces, file, "--format", form)
    assert (found["events"], found["refused"]) == (1, [])


def test_a_refused_event_is_named_with_file_line_code_and_message(
    surfaces: str, tmp_path: Path
) -> None:
    file = write_lines(tmp_path / "events.jsonl", [EVENT, "", EVENT | {"surface": "nowhere"}])
    ended = trimtab("validate", file, TRIMTAB_SURFACES=surfaces)
    assert ended.code == 1
    assert ended.out.splitlines() == [
        f"{file}:3: unknown-surface: surface: got 'nowhere', expected one of: home, shelf",
        "2 events of 1 requests: 1 refused",
    ]


def test_events_of_one_request_that_contradict_each_other_are_a_conflict(
    surfaces: str, tmp_path: Path
) -> None:
    events = [EVENT | {"expected": 3}, EVENT | {"expected": 3, "user_id": "another"}]
    found = validated(surfaces, write_lines(tmp_path / "events.jsonl", events))
    assert [(refusal["line"], refusal["reason"]) for refusal in found["refused"]] == [
        (2, "conflict")
    ]


def test_an_event_for_a_request_that_is_closed_is_late(surfaces: str, tmp_path: Path) -> None:
    found = validated(surfaces, write_lines(tmp_path / "events.jsonl", [EVENT, EVENT]))
    assert [(refusal["line"], refusal["reason"]) for refusal in found["refused"]] == [(2, "late")]


def test_times_are_not_judged(surfaces: str, tmp_path: Path) -> None:
    events = [
        EVENT | {"request_id": str(at), "requested_at": at} for at in (2_000_000_000_000, 0, 1_000)
    ]
    assert validated(surfaces, write_lines(tmp_path / "events.jsonl", events))["refused"] == []


def test_names_that_the_feature_set_lacks_and_names_that_are_missing_are_warnings(
    surfaces: str, tmp_path: Path
) -> None:
    named = [{"item_id": i, "features": {"age_hours": 1, "titel_words": 2}} for i in "ab"]
    file = write_lines(tmp_path / "events.jsonl", [EVENT | {"expected": 2, "candidates": named}])
    ended = trimtab("validate", file, TRIMTAB_SURFACES=surfaces)
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "warning: unknown feature 'titel_words' in 2 candidates: ignored",
        "warning: missing feature 'title_words' in 2 candidates: default",
        "warning: missing feature 'is_video' in 2 candidates: default",
        "1 events of 1 requests: 0 refused",
    ]

    found = validated(surfaces, file)
    assert found["unknown_features"] == {"titel_words": 2}
    assert found["missing_features"] == {"title_words": 2, "is_video": 2}


def test_features_by_position_are_no_reason_to_warn(surfaces: str, tmp_path: Path) -> None:
    found = validated(surfaces, write_lines(tmp_path / "events.jsonl", [EVENT]))
    assert (found["unknown_features"], found["missing_features"]) == ({}, {})


def test_a_request_that_does_not_close_is_a_warning(surfaces: str, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "events.jsonl", [EVENT | {"expected": 2}])
    ended = trimtab("validate", file, TRIMTAB_SURFACES=surfaces)
    assert ended.code == 0
    assert "warning: 1 requests do not close: they would wait for their deadline" in ended.out
    assert validated(surfaces, file)["unfinished"] == 1


def test_standard_input_is_read_and_its_format_is_detected(surfaces: str) -> None:
    one = json.dumps(EVENT).encode() + b"\n"
    assert validated(surfaces, "-", given=one)["events"] == 1

    protobuf = next(value_of(e) for e in INDEX["accepted"] if e["file"].endswith("fast-lane.pb"))
    assert protobuf is not None
    assert validated(surfaces, "-", given=_VarintBytes(len(protobuf)) + protobuf)["events"] == 1


# Interactions

INTERACTIONS: dict[str, Any] = json.loads(
    (SCHEMAS / "golden" / "interactions.json").read_text(encoding="utf-8")
)
CLICK: dict[str, Any] = {
    "request_id": "r-1",
    "surface": "home",
    "user_id": "u",
    "item_id": "t3_a",
    "kind": "click",
    "at": 1,
}


@pytest.fixture(scope="session")
def outcome_surfaces(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Surfaces of which `home` has the outcomes of the golden examples, and `search` has none."""
    path = write_surfaces(tmp_path_factory.mktemp("validate-interactions"), search=True)
    rules = INTERACTIONS["outcomes"]["home"]
    lines = ["[surfaces.home.outcomes]", f"window_s = {rules['window_s']}"]
    lines += [f'seen = {{ kind = "{rules["seen"]["kind"]}" }}']
    take = rules["take"]
    lines += [f'take = {{ kind = "{take["kind"]}", at_least = {take["at_least"]} }}']
    lines += [f'others = {{ hide = {{ kind = "{rules["others"]["hide"]["kind"]}" }} }}']
    with path.open("a") as file:
        file.write("\n".join(["", *lines, ""]))
    return str(path)


def interaction_in_a_file(entry: Entry) -> bool:
    value = value_of(entry) or b"\0"
    is_framed = value[:1] == b"\0"
    is_line = not entry["file"] or entry["file"].endswith(".pb") or b"\n" not in value
    return entry.get("code") not in _OF_RECORDS and is_line and not is_framed


GOLDEN_INTERACTIONS = [
    entry
    for entry in [*INTERACTIONS["accepted"], *INTERACTIONS["refused"]]
    if interaction_in_a_file(entry)
]


@pytest.mark.parametrize("entry", GOLDEN_INTERACTIONS, ids=lambda entry: entry["file"])
def test_an_interaction_is_judged_as_the_join_does(
    outcome_surfaces: str, tmp_path: Path, entry: Entry
) -> None:
    file, form = as_file(entry, tmp_path / "interactions")
    found = validated(outcome_surfaces, file, "--interactions", "--format", form)
    assert found["interactions"] == 1
    if "code" not in entry:
        assert found["refused"] == []
        return
    (refusal,) = found["refused"]
    assert refusal["reason"] == entry["code"]
    assert entry["message"] in refusal["message"]


def test_golden_interactions_are_accepted_in_both_formats_and_refused() -> None:
    accepted = {entry["file"][-3:] for entry in GOLDEN_INTERACTIONS if "code" not in entry}
    refused = {entry["code"] for entry in GOLDEN_INTERACTIONS if "code" in entry}
    assert accepted == {".pb", "son"}
    assert refused == {"malformed", "invalid-event", "unknown-surface"}


def test_kinds_and_surfaces_that_count_for_nothing_are_warnings(
    outcome_surfaces: str, tmp_path: Path
) -> None:
    lines = [
        CLICK,
        CLICK | {"kind": "view"},
        CLICK | {"kind": "dwell", "value": 1},
        CLICK | {"surface": "search"},
        CLICK | {"at": None},
    ]
    file = write_lines(tmp_path / "interactions.jsonl", lines)
    ended = trimtab("validate", "--interactions", file, TRIMTAB_SURFACES=outcome_surfaces)
    assert ended.code == 1
    assert ended.out.splitlines() == [
        f"{file}:5: invalid-event: at: got None, expected an integer of milliseconds since the"
        " epoch, 0 to 253402300799999",
        "warning: kind 'click' in 1 interactions: not named by surface 'home', counts for nothing",
        "warning: surface 'search' in 1 interactions: has no outcomes, they count for nothing",
        "5 interactions: 1 refused",
    ]
    found = validated(outcome_surfaces, file, "--interactions")
    assert found["unnamed_kinds"] == {"home": {"click": 1}}
    assert found["without_outcomes"] == {"search": 1}


def test_what_only_the_stream_shows_is_not_judged(outcome_surfaces: str, tmp_path: Path) -> None:
    lines = [CLICK | {"kind": "view", "request_id": "no-feed", "at": 253402300799999}]
    file = write_lines(tmp_path / "interactions.jsonl", lines)
    ended = trimtab("validate", "--interactions", file, TRIMTAB_SURFACES=outcome_surfaces)
    assert ended == (0, "1 interactions: 0 refused\n", "")


def test_the_format_of_interactions_is_detected(outcome_surfaces: str) -> None:
    value = WireInteraction(**CLICK).SerializeToString()
    given = _VarintBytes(len(value)) + value
    found = validated(outcome_surfaces, "-", "--interactions", given=given)
    assert (found["interactions"], found["refused"]) == (1, [])
