"""make_events.py writes whole requests of different posts, interleaved. The same arguments give the
same bytes.
"""

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from onnx_models import make_events
from onnx_models.event_encoding import varint
from onnx_models.features import NAMES, features
from onnx_models.posts import read_posts
from tests.onnx_models.builders import DATA, row, several_communities, write_csv
from workers.codec.generated.candidate_pb2 import CandidateEvent

ROOT = Path(__file__).parents[2]

Event = dict[str, Any]


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    """Forty posts of four communities that no model has seen."""
    return write_csv(tmp_path / "posts.csv", several_communities())


def made(posts: Path, requests: int = 20, candidates: int = 7, seed: int = 1, *more: str) -> bytes:
    """The output of make_events.py."""
    out = posts.with_name("events")
    counts = ["--requests", str(requests), "--candidates", str(candidates), "--seed", str(seed)]
    assert make_events.main([str(posts), *counts, "--out", str(out), *more]) == 0
    return out.read_bytes()


def lines(raw: bytes) -> list[Event]:
    return [json.loads(line) for line in raw.splitlines()]


def messages(raw: bytes) -> Iterator[CandidateEvent]:
    """Protobuf messages, each after its length as a varint."""
    while raw:
        length = shift = place = 0
        while True:
            length |= (raw[place] & 0x7F) << shift
            place += 1
            shift += 7
            if raw[place - 1] < 0x80:
                break

        yield CandidateEvent.FromString(raw[place : place + length])
        raw = raw[place + length :]


def by_request(events: list[Event]) -> dict[str, list[Event]]:
    requests = defaultdict(list)
    for event in events:
        requests[event["request_id"]].append(event)
    return requests


def candidates_of(events: list[Event]) -> list[dict[str, Any]]:
    candidates = list[dict[str, Any]]()
    for event in events:
        candidates += event["candidates"]
    return candidates


def test_each_request_comes_whole_with_distinct_posts(posts: Path) -> None:
    requests = by_request(lines(made(posts, requests=30, candidates=7)))
    assert len(requests) == 30
    for events in requests.values():
        items = [candidate["item_id"] for candidate in candidates_of(events)]
        assert len(items) == len(set(items)) == 7
        assert {event["expected"] for event in events} == {7}
        for key in ("surface", "user_id", "requested_at"):
            assert len({event[key] for event in events}) == 1


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (100, [7])])
def test_an_event_has_a_batch_of_candidates(posts: Path, batch: int, sizes: list[int]) -> None:
    requests = by_request(lines(made(posts, 5, 7, 1, "--batch", str(batch))))
    for events in requests.values():
        assert [len(event["candidates"]) for event in events] == sizes


def test_candidates_are_real_posts_of_several_communities(posts: Path) -> None:
    known = {each.item_id: each for each in read_posts(posts)}
    requests = by_request(lines(made(posts, requests=10, candidates=20)))
    for events in requests.values():
        candidates = candidates_of(events)
        assert len({candidate["source"] for candidate in candidates}) > 1

        for candidate in candidates:
            post = known[candidate["item_id"]]
            assert candidate["source"] == post.community
            assert candidate["features"] == list(features(post))


def test_events_conform_to_the_schema_of_candidate_events(posts: Path) -> None:
    schema = json.loads((ROOT / "schemas" / "candidate.schema.json").read_bytes())
    for event in lines(made(posts, 3)) + lines(made(posts, 3, 7, 1, "--by-name")):
        jsonschema.validate(event, schema, jsonschema.Draft202012Validator)


def test_features_by_name_are_the_features_by_position(posts: Path) -> None:
    positional = lines(made(posts))
    named = lines(made(posts, 20, 7, 1, "--by-name"))
    for candidate in candidates_of(named):
        assert list(candidate["features"]) == list(NAMES)
        candidate["features"] = list(candidate["features"].values())
    assert named == positional


def test_protobuf_carries_the_same_events_and_the_same_float32_values(posts: Path) -> None:
    expected = lines(made(posts, 20, 7, 1, "--batch", "3"))
    got = list(messages(made(posts, 20, 7, 1, "--batch", "3", "--format", "protobuf")))
    assert len(got) == len(expected)
    for message, event in zip(got, expected, strict=True):
        for key in ("request_id", "surface", "user_id", "requested_at", "expected"):
            assert getattr(message, key) == event[key]

        for candidate, wanted in zip(message.candidates, event["candidates"], strict=True):
            assert (candidate.item_id, candidate.source) == (wanted["item_id"], wanted["source"])
            assert candidate.features_f32 == np.array(wanted["features"], "<f4").tobytes()


def test_protobuf_by_name_carries_the_same_numbers(posts: Path) -> None:
    expected = lines(made(posts, 3, 7, 1, "--by-name"))
    got = messages(made(posts, 3, 7, 1, "--by-name", "--format", "protobuf"))
    for message, event in zip(got, expected, strict=True):
        for candidate, wanted in zip(message.candidates, event["candidates"], strict=True):
            assert dict(candidate.features_by_name) == wanted["features"]
            assert not candidate.features_f32


@pytest.mark.parametrize(
    "more", [(), ("--format", "protobuf"), ("--format", "protobuf", "--by-name")]
)
def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(
    posts: Path, more: tuple[str, ...]
) -> None:
    assert made(posts, 20, 7, 1, *more) == made(posts, 20, 7, 1, *more)
    assert made(posts, 20, 7, 1, *more) != made(posts, 20, 7, 2, *more)


def test_the_events_of_at_most_eight_requests_are_interleaved(posts: Path) -> None:
    order = [event["request_id"] for event in lines(made(posts, requests=50, candidates=10))]
    left = Counter(order)
    started: set[str] = set()
    most_in_flight = 0
    for request_id in order:
        started.add(request_id)
        left[request_id] -= 1
        in_flight = sum(left[each] > 0 for each in started)
        most_in_flight = max(most_in_flight, in_flight)

    assert 2 <= most_in_flight <= 8
    assert order != sorted(order)


def test_the_times_of_requests_rise(posts: Path) -> None:
    requests = by_request(lines(made(posts, requests=30)))
    times = [requests[name][0]["requested_at"] for name in sorted(requests)]
    assert times == sorted(set(times))


def test_the_surface_is_the_one_that_is_given(posts: Path) -> None:
    for event in lines(made(posts)):
        assert event["surface"] == "home"
    for event in lines(made(posts, 2, 7, 1, "--surface", "sidebar")):
        assert event["surface"] == "sidebar"


def test_a_request_may_take_every_post_there_is(posts: Path) -> None:
    (events,) = by_request(lines(made(posts, requests=1, candidates=40))).values()
    assert len(events) == 40


def test_one_community_is_enough_and_a_repeated_post_counts_once(tmp_path: Path) -> None:
    rows = [
        row("t3_a", title="First"),
        row("t3_b"),
        row("t3_a", title="Again, and longer than before"),
    ]
    twice = write_csv(tmp_path / "posts.csv", rows)
    once = write_csv(tmp_path / "once.csv", rows[:2])
    assert made(twice, 3, 2) == made(once, 3, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--requests", "0", "--candidates", "1", "--seed", "1"], "--requests: got '0'"),
        (["--requests", "1", "--candidates", "-1", "--seed", "1"], "--candidates: got '-1'"),
        (["--requests", "1", "--candidates", "x", "--seed", "1"], "--candidates: got 'x'"),
        (
            ["--requests", "1", "--candidates", "1", "--seed", "1", "--batch", "0"],
            "--batch: got '0'",
        ),
        (
            ["--requests", "1", "--candidates", "1", "--seed", "1", "--surface", ""],
            "--surface: got ''",
        ),
        (
            ["--requests", "1", "--candidates", "1", "--seed", "1", "--format", "xml"],
            "--format: invalid choice",
        ),
        (["--requests", "1", "--candidates", "41", "--seed", "1"], "--candidates 41: "),
        (["--requests", "1", "--candidates", "1"], "--seed"),
    ],
)
def test_wrong_use_says_what_was_expected(
    posts: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        make_events.main([str(posts), *words])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_file_that_does_not_exist_or_has_no_posts_is_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--requests", "1", "--candidates", "1", "--seed", "1"]
    no_posts = tmp_path / "no-posts.csv"
    no_posts.write_text("a,b\n1,2\n", encoding="utf-8")
    for path, message in ((tmp_path / "none.csv", "No such file"), (no_posts, "no column surface")):
        with pytest.raises(SystemExit) as stopped:
            make_events.main([str(path), *words])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("how", [["onnx_models/make_events.py"], ["-m", "onnx_models.make_events"]])
def test_it_runs_as_a_file_and_as_a_module(posts: Path, how: list[str]) -> None:
    words = [str(posts), "--requests", "2", "--candidates", "3", "--seed", "1"]
    run = subprocess.run([sys.executable, *how, *words], cwd=ROOT, capture_output=True, check=True)
    assert run.stdout == made(posts, 2, 3)


def test_a_reader_that_stops_reading_is_not_an_error() -> None:
    read, write = os.pipe()
    words = [str(DATA), "--requests", "200", "--candidates", "50", "--seed", "1"]
    command = [sys.executable, "onnx_models/make_events.py", *words]

    with subprocess.Popen(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE) as running:
        os.close(write)
        assert os.read(read, 1) == b"{"
        os.close(read)
        _, errors = running.communicate()
    assert (running.returncode, errors) == (0, b"")


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**14 - 1, 2**14, 2**32])
def test_a_varint_has_seven_bits_a_byte_lowest_first(number: int) -> None:
    raw = varint(number)
    assert sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(raw)) == number
    assert [byte >= 0x80 for byte in raw] == [True] * (len(raw) - 1) + [False]
