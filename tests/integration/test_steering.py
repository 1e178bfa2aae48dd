"""What a preview says is what workers then publish; and arms, on the real stack."""

import json
import random
from typing import Any

import pytest

from tests.integration.harness import World, make_request
from tests.integration.oracle import Oracle
from workers.codec.feeds import decode_feed
from workers.ranking.experiment import Experiment
from workers.ranking.feed import Feed
from workers.ranking.rerank import rerank
from workers.ranking.weights import Weights

AFTER = Weights.of({"quality": 0.1, "engagement": 0.9})
WORDS = ("quality=0.1", "engagement=0.9")


def command(world: World, *words: str) -> dict[str, Any]:
    ended = world.trimtab(*words, "--json")
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def feeds_of(world: World, count: int) -> dict[str, Feed]:
    found = [decode_feed(r.value, r.headers) for r in world.records(world.feeds, count, 0.5)]
    assert len(found) == count
    return {feed.request_id: feed for feed in found}


def asked(
    name: str, draw: random.Random, *, surface: str = "home", items: int = 25
) -> list[dict[str, Any]]:
    """A request; by its name alone the same candidates each time."""
    return make_request(name, items, draw, batch=5, surface=surface)


def renamed(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event | {"request_id": name} for event in events]


def test_a_preview_says_exactly_what_workers_publish_after_the_change(world: World) -> None:
    draw = random.Random(11)
    requests = {f"r{number}": asked(f"r{number}", draw) for number in range(40)}
    world.start_worker()
    world.send(event for events in requests.values() for event in events)
    before = feeds_of(world, 40)
    preview = command(world, "weights", "preview", "home", *WORDS)

    changed = command(world, "weights", "set", "home", *WORDS, "--reason", "as previewed")
    command(world, "weights", "wait", "home", "--version", changed["after"]["version"])
    world.send(
        event for name, events in requests.items() for event in renamed(events, f"{name}-again")
    )
    after = {name: feed for name, feed in feeds_of(world, 80).items() if name.endswith("-again")}

    pairs = [(before[name], after[f"{name}-again"]) for name in requests]
    for old, new in pairs:
        assert rerank(old, AFTER).items == new.items
        assert new.weights == AFTER
    first = [(old.items[0].item_id, new.items[0].item_id) for old, new in pairs]
    tens = [
        ({i.item_id for i in old.items[:10]}, {i.item_id for i in new.items[:10]})
        for old, new in pairs
    ]
    assert (preview["feeds"], preview["skipped"], preview["incomplete"]) == (40, 0, 0)
    assert preview["changed"]["first_place"] == sum(one != other for one, other in first)
    assert preview["changed"]["first_10_items"] == sum(one != other for one, other in tens)
    overlap = sum(len(one & other) / 10 for one, other in tens) / len(tens)
    assert preview["overlap_at_10"] == pytest.approx(overlap, abs=1e-12)


def test_a_change_that_would_alter_too_much_is_not_written_and_one_that_is_previewed_asks(
    world: World,
) -> None:
    draw = random.Random(12)
    change = ("weights", "set", "home", *WORDS, "--reason", "x")
    world.start_worker()
    nothing = world.trimtab(*change, "--limit-churn", "1")
    assert (nothing.returncode, "no feed to judge by" in nothing.stderr) == (1, True)
    world.send(event for number in range(20) for event in asked(f"r{number}", draw))
    feeds_of(world, 20)
    churn = command(world, "weights", "preview", "home", *WORDS)["churn"]
    assert 0 < churn < 1

    refused = world.trimtab(*change, "--limit-churn", str(churn / 2))
    assert (refused.returncode, "of the first 10 would change" in refused.stderr) == (1, True)
    no = world.trimtab(*change, "--preview", input="n\n")
    assert (no.returncode, "FEEDS THAT CHANGE" in no.stderr) == (1, True)
    assert world.trimtab(*change, "--preview", input="").returncode == 1
    assert world.trimtab("weights", "history", "home").stdout == ""

    yes = world.trimtab(*change, "--preview", "--limit-churn", str(churn), input="y\n")
    assert yes.returncode == 0, yes.stderr
    assert (
        command(world, "weights", "show", "home")["surfaces"][0]["weights"]["version"]
        == AFTER.version
    )


def test_a_preview_counts_the_feeds_that_are_not_whole_and_takes_the_newest_of_the_surface(
    world: World,
) -> None:
    draw = random.Random(13)
    world.start_worker()
    for number in range(12):
        world.send(asked(f"h{number}", draw, items=5))
        world.send(asked(f"s{number}", draw, surface="search", items=10))
    feeds_of(world, 24)
    words = ("weights", "preview", "search", "quality=0.9")
    assert command(world, *words)["incomplete"] == 12
    newest = command(world, "weights", "margin", "search", "--last", "3")
    assert [request["request_id"] for request in newest["requests"]] == ["s11", "s10", "s9"]
    assert command(world, *words, "--since", "1h")["feeds"] == 12
    assert command(world, *words, "--since", "2100-01-01T00:00Z")["feeds"] == 0
    both = world.trimtab(*words, "--since", "1h", "--last", "1")
    assert (both.returncode, "--last: given with --since" in both.stderr) == (2, True)


def test_each_feed_names_its_users_arm_and_is_ranked_under_that_arms_weights(world: World) -> None:
    draw = random.Random(14)
    command(world, "weights", "set", "home", "--arm", "canary", *WORDS, "--reason", "try")
    command(world, "experiment", "start", "home", "canary=30", "--salt", "s")
    world.start_worker()
    requests = {f"r{number}": asked(f"r{number}", draw, items=6) for number in range(60)}
    world.send(event for events in requests.values() for event in events)
    drawn, oracle = Experiment("s", {"canary": 3000}), Oracle(world.folder / "models")
    arms = set()
    for feed in world.read_feeds(60):
        arms.add(feed["arm"])
        assert feed["arm"] == drawn.assign(feed["user_id"])
        assert feed["weights"]["values"]["quality"] == {"canary": 0.1, "control": 0.5}[feed["arm"]]
        oracle.check(feed, requests[feed["request_id"]], completion="full")
    assert arms == {"canary", "control"}
