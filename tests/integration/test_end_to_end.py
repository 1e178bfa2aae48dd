"""Events in, feeds out: each against the oracle."""

import json
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from tests.rig.environment import Environment
from tests.rig.oracle import Oracle
from tests.rig.traffic import in_protobuf, interleave, make_request, now_ms, send_json
from workers.streaming.records import Headers
from workers.streaming.topics import TopicPlan, create_topics

PROTOBUF: Headers = [("content-type", b"application/x-protobuf")]


def by_request(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        grouped[event["request_id"]].append(event)
    return grouped


def test_every_feed_is_the_oracles_for_single_and_batch_events_of_two_surfaces(
    env: Environment,
) -> None:
    draw = random.Random(7)
    requests = [
        make_request(
            f"r{n}", draw.randint(1, 50), draw, batch=draw.choice([1, 7, 50]), surface=surface
        )
        for n in range(60)
        for surface in [draw.choice(["home", "search"])]
    ]
    events = interleave(requests, draw)
    env.start_worker()
    env.send(events)
    feeds = {feed["request_id"]: feed for feed in env.read_feeds(60)}
    oracle = Oracle(env.folder / "models")
    sent = by_request(events)
    assert feeds.keys() == sent.keys()
    for request_id, feed in feeds.items():
        oracle.check(feed, sent[request_id], completion="full", refused=0, arm="control")
    assert env.read_letters(0) == []


def test_protobuf_and_json_events_of_one_request_make_one_feed(env: Environment) -> None:
    draw = random.Random(8)
    events = make_request("mixed", 20, draw, batch=5)
    env.start_worker()
    sender = env.sender()
    for place, event in enumerate(events):
        if place % 2:
            send_json(sender, event)
        else:
            sender.send(b"mixed", in_protobuf(event), PROTOBUF)
    sender.finish()
    (feed,) = env.read_feeds(1)
    Oracle(env.folder / "models").check(feed, events, completion="full")


def test_requests_close_by_marker_by_deadline_and_by_deadline_of_an_idle_partition(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(deadline_ms=1500)
    draw = random.Random(9)
    marker = make_request("marker", 3, draw, expected=None)
    marker[-1]["last"] = True
    short = make_request("short", 5, draw)[:4]
    env.start_worker().wait_for("event=restored", times=4)
    env.send(marker + short)
    feeds = {feed["request_id"]: feed for feed in env.read_feeds(2)}
    oracle = Oracle(env.folder / "models")
    oracle.check(feeds["marker"], marker, completion="marker")
    oracle.check(feeds["short"], short, completion="deadline")


def test_a_backlog_older_than_every_deadline_truncates_nothing(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(deadline_ms=1500)
    draw = random.Random(10)
    events = interleave([make_request(f"r{n}", 20, draw) for n in range(40)], draw)
    env.send(events)
    env.start_worker()
    feeds = env.read_feeds(40)
    assert {feed["completion"] for feed in feeds} == {"full"}
    assert [len(feed["items"]) for feed in feeds] == [20] * 40


def test_one_bad_candidate_costs_a_feed_neither_its_siblings_nor_its_time(env: Environment) -> None:
    draw = random.Random(11)
    (event,) = make_request("r", 5, draw, batch=5)
    sound = [c for place, c in enumerate(event["candidates"]) if place not in (1, 3)]
    event["candidates"][1]["features"] = [1.0]
    event["candidates"][3]["features"][0] = "x"
    env.start_worker()
    env.send([event])
    (feed,) = env.read_feeds(1)
    Oracle(env.folder / "models").check(
        feed, [event | {"candidates": sound}], completion="full", refused=2
    )
    (letter,) = env.read_letters(1)
    assert letter.reason == "refused-candidates"
    assert "candidates[1] feature-count" in letter.message
    assert "candidates[3] feature-type" in letter.message


def test_what_is_refused_keeps_its_bytes_and_delays_nothing(env: Environment) -> None:
    draw = random.Random(12)
    good = make_request("good", 3, draw)
    env.start_worker().wait_for("event=restored", times=4)
    sender = env.sender()
    bad: dict[str, tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = {
        "malformed": (b"good", b'{"request_id": "good", ', []),
        "null-value": (b"good", None, []),
        "unknown-content-type": (
            b"good",
            b"<xml/>",
            [("content-type", b"text/xml"), ("trace", b"1")],
        ),
        "unknown-surface": (
            b"x",
            b'{"request_id":"x","surface":"no","user_id":"u","requested_at":1,"last":true,"candidates":[]}',
            [],
        ),
        "late": (
            b"old",
            b'{"request_id":"old","surface":"home","user_id":"u","requested_at":1,"last":true,"candidates":[]}',
            [],
        ),
        "requested-in-future": (
            b"f",
            b'{"request_id":"f","surface":"home","user_id":"u","requested_at":%d,'
            b'"last":true,"candidates":[]}' % (now_ms() + 120_000),
            [],
        ),
        "invalid-event": (
            b"i",
            b'{"request_id":"i","surface":"home","user_id":"u","requested_at":1,"candidates":[]}',
            [],
        ),
    }
    for place, (reason, (key, value, headers)) in enumerate(bad.items()):
        send_json(sender, good[place % 2])
        sender.send(key, value, [*headers, ("case", reason.encode())])
    sender.send(
        b"other",
        good_bytes := b'{"request_id":"good","surface":"home","user_id":"u","requested_at":1,'
        b'"last":true,"candidates":[]}',
        [("case", b"key-mismatch")],
    )
    sender.send(None, good_bytes, [("case", b"key-mismatch")])
    send_json(sender, good[0] | {"user_id": "another"})
    send_json(sender, good[2])
    sender.finish()
    (feed,) = env.read_feeds(1)
    Oracle(env.folder / "models").check(feed, good, completion="full")
    letters = env.read_letters(len(bad) + 3)
    assert sorted(letter.reason for letter in letters) == sorted(
        [*bad, "key-mismatch", "key-mismatch", "conflict"]
    )
    for letter in letters:
        if letter.reason in bad:
            key, value, headers = bad[letter.reason]
            assert (letter.key, letter.value) == (key, value)
            assert letter.headers == [*headers, ("case", letter.reason.encode())]


def test_a_900_kb_event_is_fine(env: Environment) -> None:
    draw = random.Random(13)
    (event,) = make_request("big", 60, draw, batch=60)
    event["padding"] = "x" * 850_000
    env.start_worker()
    env.send([event])
    (feed,) = env.read_feeds(1)
    assert len(feed["items"]) == 60


def test_feeds_in_protobuf_are_read_back_as_the_same_feed(make_env: Any) -> None:
    env = make_env(variables={"TRIMTAB_FEEDS_FORMAT": "protobuf"})
    events = make_request("r", 10, random.Random(14), batch=10)
    env.start_worker()
    env.send(events)
    shown = env.trimtab(
        "feeds", "tail", "--from-beginning", "--count", "1", "--timeout", "60", "--json"
    )
    assert shown.returncode == 0, shown.stderr

    Oracle(env.folder / "models").check(json.loads(shown.stdout), events, completion="full")


def test_a_feed_too_large_for_its_topic_is_cut_to_the_best_items_and_stops_nothing(
    make_env: Any,
) -> None:
    env = make_env(partitions=1)
    small = f"{env.name}.small"
    create_topics(env.kafka, [TopicPlan(small, 1, {"max.message.bytes": "5000"})])
    env.variables["TRIMTAB_TOPIC_FEEDS"] = env.feeds = small
    draw = random.Random(15)
    env.start_worker()
    env.send(event for n in range(20) for event in make_request(f"r{n}", 50, draw, batch=50))
    feeds = env.read_feeds(20)
    assert len({feed["request_id"] for feed in feeds}) == len(feeds) == 20
    for feed in feeds:
        assert feed["truncated"] == 50 - len(feed["items"]) > 0
        assert [item["position"] for item in feed["items"]] == list(range(len(feed["items"])))


def test_a_dead_letter_too_large_for_its_topic_is_cut_and_stops_nothing(make_env: Any) -> None:
    env = make_env(partitions=1)
    small = f"{env.name}.small"
    create_topics(env.kafka, [TopicPlan(small, 1, {"max.message.bytes": "5000"})])
    env.variables["TRIMTAB_TOPIC_DEAD_LETTERS"] = env.letters = small
    env.start_worker().wait_for("event=dead_letters_small")
    sender = env.sender()
    sender.send(b"bad", b"x" * 100_000, [("case", b"large")])
    sender.finish()
    env.send(make_request("r", 5, random.Random(16)))
    assert len(env.read_feeds(1)) == 1
    (letter,) = env.read_letters(1)
    assert (letter.reason, letter.key) == ("malformed", b"bad")
    assert (letter.value or b"") + b"x" * (100_000 - len(letter.value or b"")) == b"x" * 100_000
