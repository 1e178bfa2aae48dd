"""A surface that drops items and looks features up, on the real stack."""

import json
import random
import struct
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from redis import Redis

from tests.integration.previews import AFTER, WORDS, again, again_id, read_feeds
from tests.rig.environment import SHELF, Environment
from tests.rig.oracle import Known, Oracle
from tests.rig.process import until
from tests.rig.redis import RedisServer
from tests.rig.traffic import make_request
from workers.ranking.rerank import rerank

Requests = dict[str, list[dict[str, Any]]]


@pytest.fixture
def shelf(env: Environment) -> Environment:
    surfaces = env.folder / "surfaces.toml"
    surfaces.write_text(surfaces.read_text() + SHELF)
    env.variables["TRIMTAB_LOOKUP_MS"] = (
        "60000"  # past any pause of this machine: these feeds skip nothing
    )
    return env


def asked(count: int, seed: int) -> tuple[Requests, dict[str, list[Any]]]:
    """Requests of which some candidates lack features; and what is known of those, and of what
    users have seen.
    """
    draw = random.Random(seed)
    known = dict[str, list[Any]]({"blocked:shelf": ["elsewhere"]})
    requests = {
        f"r{n}": make_request(f"r{n}", draw.randint(1, 30), draw, 7, surface="shelf")
        for n in range(count)
    }
    for number, (name, events) in enumerate(requests.items()):
        # Of every tenth request everything is dropped.
        share = 1.0 if number % 10 == 0 else 0.2
        seen = known[f"seen:u{name}"] = [f"{name}-absent"]
        for one in (candidate for event in events for candidate in event["candidates"]):
            (seen if draw.random() < share else []).append(one["item_id"])
            (known["blocked:shelf"] if draw.random() < 0.1 else []).append(one["item_id"])
            if draw.random() < 0.5:
                values = one.pop("features")
                if draw.random() < 0.8:
                    known[f"features:wide:{one['item_id']}"] = values
    return requests, known


def keep(redis: Redis, prefix: str, known: Known) -> None:
    """Put into Redis what is known."""
    for key, values in known.items():
        if key.startswith("features:"):
            redis.set(prefix + key, struct.pack(f"<{len(values)}f", *values))
        else:
            redis.sadd(prefix + key, *values)


def events_of(requests: Requests) -> list[dict[str, Any]]:
    return [event for events in requests.values() for event in events]


def ranked(
    env: Environment, events: Iterable[dict[str, Any]], known: Known
) -> dict[str, dict[str, Any]]:
    """The feeds that `rank` gives."""
    lines = [
        {"key": k, "features" if k.startswith("features:") else "members": v}
        for k, v in known.items()
    ]
    file = env.folder / "lookups.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    ended = env.trimtab(
        "rank", "-", "--lookups", str(file), input="\n".join(map(json.dumps, events))
    )
    assert ended.returncode == 0, ended.stderr
    return {feed["request_id"]: feed for feed in map(json.loads, ended.stdout.splitlines())}


@pytest.mark.parametrize("feeds_format", ["json", "protobuf"])
def test_feeds_are_those_of_the_oracle_and_those_that_rank_gives(
    shelf: Environment, feeds_format: str
) -> None:
    shelf.variables["TRIMTAB_FEEDS_FORMAT"] = feeds_format
    requests, known = asked(40, seed=31)
    redis = Redis.from_url(shelf.redis)
    keep(redis, f"{shelf.name}:", known)
    lacking = next(k for k in known if k.startswith("features:"))
    redis.append(f"{shelf.name}:{lacking}", b"\0")
    known = {key: values for key, values in known.items() if key != lacking}
    shelf.start_worker()
    shelf.send(events_of(requests))
    offline = ranked(shelf, events_of(requests), known)
    if feeds_format == "protobuf":
        ended = shelf.trimtab(
            "feeds", "tail", "--from-beginning", "--count", "40", "--timeout", "60", "--json"
        )
        published = [json.loads(line) for line in ended.stdout.splitlines()]
    else:
        published = shelf.read_feeds(40)
    feeds = {feed["request_id"]: feed for feed in published}
    assert len(published) == len(feeds) == 40
    oracle = Oracle(shelf.folder / "models")
    for request_id, events in requests.items():
        oracle.check(feeds[request_id], events, known, completion="full", refused=0)
        assert feeds[request_id] | {"ranked_at": 0} == offline[request_id] | {"ranked_at": 0}
        assert "skipped" not in feeds[request_id]
    reasons = {removal["reason"] for feed in feeds.values() for removal in feed.get("removed", [])}
    assert reasons == {"seen", "blocked"}
    assert any(feed.get("defaulted") for feed in feeds.values())
    assert any(feed["items"] == [] for feed in feeds.values())


def test_a_preview_says_exactly_what_workers_publish_after_the_change(shelf: Environment) -> None:
    shelf.variables["TRIMTAB_FEEDS_FORMAT"] = "protobuf"
    requests, known = asked(40, seed=32)
    keep(Redis.from_url(shelf.redis), f"{shelf.name}:", known)
    shelf.start_worker()
    shelf.send(events_of(requests))
    before = read_feeds(shelf, 40)
    (preview,) = shelf.json_lines("weights", "preview", "shelf", *WORDS)
    (changed,) = shelf.json_lines("weights", "set", "shelf", *WORDS, "--reason", "as previewed")
    shelf.json_lines("weights", "wait", "shelf", "--version", changed["after"]["version"])
    shelf.send(event for events in requests.values() for event in again(events))
    after = read_feeds(shelf, 80)

    pairs = [(old, after[again_id(name)]) for name, old in before.items()]
    for old, new in pairs:
        assert rerank(old, AFTER) == new._replace(
            request_id=old.request_id, ranked_at=old.ranked_at
        )
    ids = [[[item.item_id for item in feed.items] for feed in pair] for pair in pairs]
    assert (preview["feeds"], preview["incomplete"]) == (40, 0)
    assert preview["changed"] == {
        "any": sum(old != new for old, new in ids),
        "first_place": sum(old[:1] != new[:1] for old, new in ids),
        "first_10_items": sum(set(old[:10]) != set(new[:10]) for old, new in ids),
        "first_10_order": sum(old[:10] != new[:10] for old, new in ids),
    }
    assert any(feed.items == [] and feed.removed for feed in before.values())


@pytest.fixture
def own_redis(shelf: Environment, make_redis: Callable[..., RedisServer]) -> RedisServer:
    """A Redis that nobody else needs."""
    server: RedisServer = make_redis()
    server.start()
    shelf.variables["TRIMTAB_REDIS"] = server.url
    return server


def test_while_redis_is_frozen_feeds_go_on_and_say_so_and_afterwards_they_no_longer_do(
    shelf: Environment, own_redis: RedisServer
) -> None:
    shelf.variables["TRIMTAB_LOOKUP_MS"] = "200"
    requests, known = asked(400, seed=33)
    keep(own_redis.client, f"{shelf.name}:", known)
    worker = shelf.start_worker()
    names = iter(requests)
    sent = list[str]()

    def feeds_after(count: int) -> list[dict[str, Any]]:
        """Send `count` further requests, and return their feeds."""
        more = [next(names) for _ in range(count)]
        shelf.send(event for name in more for event in requests[name])
        sent.extend(more)
        return [
            feed for feed in shelf.read_feeds(len(sent), settle=0.0) if feed["request_id"] in more
        ]

    until(lambda: not any("skipped" in feed for feed in feeds_after(1)), worker.logged)
    own_redis.freeze()
    frozen = feeds_after(20)
    assert [feed["skipped"][:2] for feed in frozen] == [["seen", "blocked"]] * 20
    worker.wait_for("lookups_lost")
    own_redis.thaw()
    until(lambda: not any("skipped" in feed for feed in feeds_after(1)), worker.logged)
    worker.wait_for("lookups_back")

    feeds = shelf.read_feeds(len(sent))
    assert sorted(feed["request_id"] for feed in feeds) == sorted(sent)
    oracle = Oracle(shelf.folder / "models")
    for feed in feeds:
        oracle.check(feed, requests[feed["request_id"]], known, completion="full")
    assert worker.terminate() == 0
