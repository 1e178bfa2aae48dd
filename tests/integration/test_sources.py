"""A surface with diversity and a limit a source, on the real stack."""

import json
import random
from typing import Any

import pytest

from tests.integration.previews import AFTER, WORDS, again, again_id, read_feeds
from tests.rig.environment import CROWD, Environment
from tests.rig.oracle import Oracle
from tests.rig.traffic import make_request
from workers.codec.feeds import decode_feed
from workers.ranking.rerank import rerank

Requests = dict[str, list[dict[str, Any]]]


@pytest.fixture
def crowd(env: Environment) -> Environment:
    surfaces = env.folder / "surfaces.toml"
    surfaces.write_text(surfaces.read_text() + CROWD)
    return env


def asked(count: int, seed: int) -> Requests:
    """Requests of 1 to 40 items: some of three sources, some of none, all by their numbers alone."""
    draw = random.Random(seed)
    requests = {
        f"r{n}": make_request(f"r{n}", draw.randint(1, 40), draw, 7, surface="crowd")
        for n in range(count)
    }
    for candidate in (
        c for events in requests.values() for event in events for c in event["candidates"]
    ):
        if draw.random() < 0.1:
            del candidate["source"]
    return requests


def events_of(requests: Requests) -> list[dict[str, Any]]:
    return [event for events in requests.values() for event in events]


def test_feeds_are_those_of_the_oracle_and_those_that_rank_gives(crowd: Environment) -> None:
    requests = asked(40, seed=21)
    crowd.start_worker()
    crowd.send(events_of(requests))
    feeds = {feed["request_id"]: feed for feed in crowd.read_feeds(40)}
    oracle = Oracle(crowd.folder / "models")
    for request_id, events in requests.items():
        oracle.check(feeds[request_id], events, completion="full", refused=0)
    assert any(item.get("adjustments") for feed in feeds.values() for item in feed["items"])
    assert any(feed.get("removed") for feed in feeds.values())

    ended = crowd.trimtab("rank", "-", input="\n".join(map(json.dumps, events_of(requests))))
    ranked = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(ranked) == 40
    assert all(
        feed | {"ranked_at": 0} == feeds[feed["request_id"]] | {"ranked_at": 0} for feed in ranked
    )


def test_a_preview_says_exactly_what_workers_publish_after_the_change(crowd: Environment) -> None:
    crowd.variables["TRIMTAB_FEEDS_FORMAT"] = "protobuf"
    requests = asked(40, seed=22)
    crowd.start_worker()
    crowd.send(events_of(requests))
    before = read_feeds(crowd, 40)
    (preview,) = crowd.json_lines("weights", "preview", "crowd", *WORDS)
    (margin,) = crowd.json_lines("weights", "margin", "crowd")

    (changed,) = crowd.json_lines("weights", "set", "crowd", *WORDS, "--reason", "as previewed")
    crowd.json_lines("weights", "wait", "crowd", "--version", changed["after"]["version"])
    crowd.send(event for events in requests.values() for event in again(events))
    after = read_feeds(crowd, 80)

    pairs = [(old, after[again_id(name)]) for name, old in before.items()]
    for old, new in pairs:
        published = new._replace(
            request_id=old.request_id, user_id=old.user_id, ranked_at=old.ranked_at
        )
        assert rerank(old, AFTER) == published
    ids = [[[item.item_id for item in feed.items] for feed in pair] for pair in pairs]
    assert (preview["feeds"], preview["incomplete"]) == (40, 0)
    assert preview["changed"] == {
        "any": sum(old != new for old, new in ids),
        "first_place": sum(old[0] != new[0] for old, new in ids),
        "first_10_items": sum(set(old[:10]) != set(new[:10]) for old, new in ids),
        "first_10_order": sum(old[:10] != new[:10] for old, new in ids),
    }
    overlaps = [len(set(old[:10]) & set(new[:10])) / min(10, len(old)) for old, new in ids]
    assert preview["overlap_at_10"] == pytest.approx(sum(overlaps) / len(overlaps), abs=1e-12)
    assert any(set(old) != set(new) for old, new in ids), (
        "an item that a limit kept out must come in somewhere"
    )
    assert (margin["ruled"], {request["exact"] for request in margin["requests"]}) == (40, {False})


def test_feeds_tail_shows_sources_and_what_was_taken_off(crowd: Environment) -> None:
    crowd.start_worker()
    crowd.send(events_of(asked(5, seed=23)))
    shown = crowd.trimtab("feeds", "tail", "--from-beginning", "--count", "5", "--timeout", "30")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("adjusted") == 5
    again = crowd.trimtab(
        "feeds", "tail", "--from-beginning", "--count", "5", "--timeout", "30", "--json"
    )
    assert {decode_feed(line.encode()).max_per_source for line in again.stdout.splitlines()} == {4}
