"""What a preview says is what workers then publish; and arms, on the real stack."""

import random
from typing import Any

import pytest

from tests.integration.previews import AFTER, WORDS, again, again_id, read_feeds
from tests.rig.environment import Environment
from tests.rig.oracle import Oracle
from tests.rig.traffic import make_request
from workers.codec.feeds import decode_feed
from workers.ranking.experiment import Experiment
from workers.ranking.rerank import rerank


def asked(
    name: str, draw: random.Random, *, surface: str = "home", items: int = 25
) -> list[dict[str, Any]]:
    """The events of a request."""
    return make_request(name, items, draw, batch=5, surface=surface)


def test_a_preview_says_exactly_what_workers_publish_after_the_change(env: Environment) -> None:
    draw = random.Random(11)
    requests = {f"r{number}": asked(f"r{number}", draw) for number in range(40)}
    env.start_worker()
    env.send(event for events in requests.values() for event in events)
    before = read_feeds(env, 40)
    (preview,) = env.json_lines("weights", "preview", "home", *WORDS)

    (changed,) = env.json_lines("weights", "set", "home", *WORDS, "--reason", "as previewed")
    env.json_lines("weights", "wait", "home", "--version", changed["after"]["version"])
    env.send(event for events in requests.values() for event in again(events))
    after = read_feeds(env, 80)

    pairs = [(before[name], after[again_id(name)]) for name in requests]
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
    env: Environment,
) -> None:
    draw = random.Random(12)
    change = ("weights", "set", "home", *WORDS, "--reason", "x")
    env.start_worker()
    nothing = env.trimtab(*change, "--limit-churn", "1")
    assert (nothing.returncode, "no feed to judge by" in nothing.stderr) == (1, True)
    env.send(event for number in range(20) for event in asked(f"r{number}", draw))
    read_feeds(env, 20)
    (preview,) = env.json_lines("weights", "preview", "home", *WORDS)
    churn = preview["churn"]
    assert 0 < churn < 1

    refused = env.trimtab(*change, "--limit-churn", str(churn / 2))
    assert (refused.returncode, "of the first 10 would change" in refused.stderr) == (1, True)
    no = env.trimtab(*change, "--preview", input="n\n")
    assert (no.returncode, "FEEDS THAT CHANGE" in no.stderr) == (1, True)
    assert env.trimtab(*change, "--preview", input="").returncode == 1
    assert env.trimtab("weights", "history", "home").stdout == ""

    yes = env.trimtab(*change, "--preview", "--limit-churn", str(churn), input="y\n")
    assert yes.returncode == 0, yes.stderr
    (shown,) = env.json_lines("weights", "show", "home")
    assert shown["surfaces"][0]["weights"]["version"] == AFTER.version


def test_a_preview_counts_the_feeds_that_are_not_whole_and_takes_the_newest_of_the_surface(
    env: Environment,
) -> None:
    draw = random.Random(13)
    env.start_worker()
    for number in range(12):
        env.send(asked(f"h{number}", draw, items=5))
        env.send(asked(f"s{number}", draw, surface="search", items=10))
    records = env.records(env.feeds, 24, settle=0.5)
    # Feeds of one transaction may have one time. Then those of a higher partition are newer.
    records.sort(key=lambda record: (record.timestamp, record.partition, record.offset))
    feeds = [decode_feed(record.value, record.headers) for record in records]
    by_age = [feed.request_id for feed in feeds if feed.surface == "search"]
    words = ("weights", "preview", "search", "quality=0.9")
    assert env.json_lines(*words)[0]["incomplete"] == 12
    (newest,) = env.json_lines("weights", "margin", "search", "--last", "3")
    assert [request["request_id"] for request in newest["requests"]] == by_age[:-4:-1]
    assert len(by_age) == 12
    assert env.json_lines(*words, "--since", "1h")[0]["feeds"] == 12
    assert env.json_lines(*words, "--since", "2100-01-01T00:00Z")[0]["feeds"] == 0
    both = env.trimtab(*words, "--since", "1h", "--last", "1")
    assert (both.returncode, "--last: given with --since" in both.stderr) == (2, True)


def test_each_feed_names_its_users_arm_and_is_ranked_under_that_arms_weights(
    env: Environment,
) -> None:
    draw = random.Random(14)
    env.json_lines("weights", "set", "home", "--arm", "canary", *WORDS, "--reason", "try")
    env.json_lines("experiment", "start", "home", "canary=30", "--salt", "s")
    env.start_worker()
    requests = {f"r{number}": asked(f"r{number}", draw, items=6) for number in range(60)}
    env.send(event for events in requests.values() for event in events)
    drawn = Experiment("s", {"canary": 3000})
    oracle = Oracle(env.folder / "models")
    arms = set()
    for feed in env.read_feeds(60):
        arms.add(feed["arm"])
        assert feed["arm"] == drawn.assign(feed["user_id"])
        assert feed["weights"]["values"]["quality"] == {"canary": 0.1, "control": 0.5}[feed["arm"]]
        oracle.check(feed, requests[feed["request_id"]], completion="full")
    assert arms == {"canary", "control"}
