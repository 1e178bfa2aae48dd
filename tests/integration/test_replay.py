"""A replay under other rules, and one of which nobody knows how far it had come: nothing is lost,
nothing doubled.
"""

import random
from collections import Counter
from collections.abc import Callable

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from tests.integration.harness import World, make_request
from tests.integration.test_report import Reported


def rename_surface(world: World, old: str, new: str) -> None:
    surfaces = world.folder / "surfaces.toml"
    surfaces.write_text(surfaces.read_text().replace(f"[surfaces.{old}]", f"[surfaces.{new}]"))


def send_raw(world: World, key: bytes, value: bytes) -> None:
    sender = world.sender()
    sender.send(key, value, [])
    sender.finish()


def test_what_is_refused_only_in_a_replay_becomes_a_dead_letter_and_what_was_refused_before_does_not_again(
    make_world: Callable[..., World],
) -> None:
    world, draw = make_world(partitions=1), random.Random(1)
    events = make_request("r", 4, draw)
    worker = world.start_worker()
    world.send(events[:1])
    send_raw(world, b"bad", b"{")
    world.send(
        [
            events[1]
            | {"candidates": [*events[1]["candidates"], {"item_id": "odd", "features": [1.0]}]}
        ]
    )
    assert len(world.read_letters(2, settle=0.1)) == 2
    assert worker.terminate() == 0

    rename_surface(world, "home", "house")
    worker, reported = world.start_worker(), Reported(world)
    worker.wait_for("event=judged_by_other_rules")
    letters = world.read_letters(4)
    assert [(letter.reason, letter.offset) for letter in letters] == [
        ("malformed", 1),
        ("refused-candidates", 2),
        ("unknown-surface", 0),
        ("unknown-surface", 2),
    ]
    reported.until(open_requests=0)
    assert reported.now()["counts"]["dead_letters"] == 2
    assert reported.now()["counts"]["settled"] == 1
    assert worker.terminate() == 0

    # Under the same rules again, and under the first ones: all of it is settled.
    for name in ("house", "home"):
        rename_surface(world, "house", name)
        worker = world.start_worker()
        worker.wait_for("event=restored")
        world.send(make_request(f"after-{name}", 3, draw, surface=name))
        assert [feed["request_id"] for feed in world.read_feeds(1)][-1:] == [f"after-{name}"]
        assert worker.terminate() == 0
    assert len(world.read_letters(4)) == 4
    assert world.read_feeds(2)[0]["request_id"] == "after-house"


def test_a_new_group_publishes_nothing_again_and_refuses_nothing_again(
    make_world: Callable[..., World],
) -> None:
    world, draw = make_world(partitions=2), random.Random(2)
    worker = world.start_worker()
    requests = [make_request(f"r{n}", 3, draw) for n in range(20)]
    world.send(event for events in requests for event in events)
    for number in range(4):
        send_raw(world, b"bad%d" % number, b"{")
    assert len(world.read_feeds(20, settle=0.1)) == 20
    world.send(requests[0][:1])  # a producer's retry, after its request was closed
    assert len(world.read_letters(5, settle=0.1)) == 5
    opened = make_request("open", 2, draw)
    world.send(opened[:1])
    assert worker.terminate() == 0
    unread = make_request("unread", 2, draw)
    world.send(unread)

    world.environment["TRIMTAB_GROUP"] = f"{world.name}-new"
    worker, reported = world.start_worker(), Reported(world)
    assert len(world.read_feeds(21)) == 21
    world.send(opened[1:])
    counts = Counter(feed["request_id"] for feed in world.read_feeds(22))
    assert set(counts.values()) == {1}
    assert len(counts) == 22
    assert len(world.read_letters(5)) == 5
    reported.until(open_requests=0)
    assert reported.now()["counts"]["settled"] == 60 + 4 + 1

    # A retry from now on is a real one.
    world.send(requests[1][:1])
    assert Counter(letter.reason for letter in world.read_letters(6)) == {"malformed": 4, "late": 2}
    assert worker.terminate() == 0


def test_after_lost_offsets_a_crash_in_mid_replay_still_refuses_nothing_again(
    make_world: Callable[..., World],
) -> None:
    world, draw = make_world(partitions=1), random.Random(3)
    worker = world.start_worker()
    world.send(event for n in range(30) for event in make_request(f"r{n}", 2, draw))
    send_raw(world, b"bad", b"{")
    assert len(world.read_feeds(30, settle=0.1)) == 30
    assert len(world.read_letters(1, settle=0.1)) == 1
    assert worker.terminate() == 0

    # As a crash leaves it after a first commit: a pointer that has not come past what was there.
    place = TopicPartition(world.candidates, 0, 10, '{"v":1,"scan":0,"time":0,"next":61}')
    moved = world.admin.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(world.name, [place])]
    )
    moved[world.name].result()
    worker = world.start_worker()
    world.send(make_request("after", 2, draw))
    assert len(world.read_feeds(31)) == 31
    assert len(world.read_letters(1)) == 1
    assert worker.terminate() == 0
