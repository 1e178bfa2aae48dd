"""Header names that are not UTF-8, as a producer in another language may write them, wherever
headers are read.
"""

import json
import random
from collections.abc import Callable
from typing import Any

from tests.rig.environment import Environment
from tests.rig.oracle import Oracle
from tests.rig.traffic import in_protobuf, make_request
from tests.streaming.raw import RawHeaders, send_raw

NOT_UTF8: RawHeaders = [(b"content-type", b"application/json"), (b"x-\xe9tat", b"1")]


def by_request(feeds: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {feed["request_id"]: feed for feed in feeds}


def test_a_header_name_that_is_not_utf8_stops_no_worker_no_restore_and_no_tool(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(partitions=1)
    draw = random.Random(1)

    def send(topic: str, key: str, value: bytes) -> None:
        send_raw(env.kafka, topic, 0, key.encode(), value, NOT_UTF8)

    # Events: ranked by the format that their bytes show, or refused for what is wrong with them.
    sent = {name: make_request(name, 6, draw, batch=3) for name in ("json", "protobuf")}
    first = env.start_worker()
    first.wait_for("event=restored")
    for in_json, other in zip(sent["json"], sent["protobuf"], strict=True):
        send(env.candidates, "json", json.dumps(in_json).encode())
        send(env.candidates, "bad", b"{")
        send(env.candidates, "protobuf", in_protobuf(other))
    feeds = by_request(env.read_feeds(2))
    oracle = Oracle(env.folder / "models")
    for name, events in sent.items():
        oracle.check(feeds[name], events, completion="full")
    letters = env.read_letters(2)
    assert [(letter.reason, letter.key, letter.value, letter.headers) for letter in letters] == [
        ("malformed", b"bad", b"{", [])
    ] * 2
    first.kill()

    # A feed of somebody else's hand: a restore finds its request.
    foreign = make_request("foreign", 2, draw, batch=2)
    send(env.feeds, "", json.dumps(feeds["json"] | {"request_id": "foreign"}).encode())
    second = env.start_worker()
    second.wait_for("event=restored")
    assert "foreign_feed" not in second.logged()
    env.send(foreign)
    assert [letter.reason for letter in env.read_letters(3)] == ["malformed", "malformed", "late"]

    # Tools read on.
    tail = env.trimtab(
        "feeds", "tail", "--from-beginning", "--count", "3", "--timeout", "60", "--json"
    )
    assert tail.returncode == 0, tail.stderr
    assert by_request([json.loads(line) for line in tail.stdout.splitlines()]).keys() == {
        "json",
        "protobuf",
        "foreign",
    }
    preview = env.trimtab("weights", "preview", "home", "quality=0.9", "--last", "10", "--json")
    assert preview.returncode == 0, preview.stderr
    assert json.loads(preview.stdout)["feeds"] == 3
    send(env.letters, "odd", b"{}")
    listed = env.trimtab("dead-letters", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert [json.loads(line)["reason"] for line in listed.stdout.splitlines()] == [
        "malformed",
        "malformed",
        "late",
    ]
    assert "headers: got a name that is not UTF-8" in listed.stderr
    assert second.terminate() == 0
