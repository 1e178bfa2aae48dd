"""A replay under other rules, and one without a pointer to how far it had come: nothing is lost,
nothing doubled.
"""

import random
from collections import Counter
from collections.abc import Callable

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from tests.rig.environment import Environment
from tests.rig.statuses import StatusReader
from tests.rig.traffic import make_request


def rename_surface(env: Environment, old: str, new: str) -> None:
    surfaces = env.folder / "surfaces.toml"
    surfaces.write_text(surfaces.read_text().replace(f"[surfaces.{old}]", f"[surfaces.{new}]"))


def send_raw(env: Environment, key: bytes, value: bytes) -> None:
    sender = env.sender()
    sender.send(key, value, [])
    sender.finish()


def test_what_is_refused_only_in_a_replay_becomes_a_dead_letter_and_what_was_refused_before_does_not_again(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(partitions=1)
    draw = random.Random(1)
    events = make_request("r", 4, draw)
    worker = env.start_worker()
    env.send(events[:1])
    send_raw(env, b"bad", b"{")
    env.send(
        [
            events[1]
            | {"candidates": [*events[1]["candidates"], {"item_id": "odd", "features": [1.0]}]}
        ]
    )
    assert len(env.read_letters(2, settle=0.1)) == 2
    assert worker.terminate() == 0

    rename_surface(env, "home", "house")
    worker = env.start_worker()
    status = StatusReader(env)
    worker.wait_for("event=judged_by_other_rules")
    letters = env.read_letters(4)
    assert [(letter.reason, letter.offset) for letter in letters] == [
        ("malformed", 1),
        ("refused-candidates", 2),
        ("unknown-surface", 0),
        ("unknown-surface", 2),
    ]
    status.until(open_requests=0)
    assert status.now()["counts"]["dead_letters"] == 2
    assert status.now()["counts"]["settled"] == 1
    assert worker.terminate() == 0

    # Under the same rules again, and under the first ones: all of it is settled.
    for name in ("house", "home"):
        rename_surface(env, "house", name)
        worker = env.start_worker()
        worker.wait_for("event=restored")
        env.send(make_request(f"after-{name}", 3, draw, surface=name))
        assert [feed["request_id"] for feed in env.read_feeds(1)][-1:] == [f"after-{name}"]
        assert worker.terminate() == 0
    assert len(env.read_letters(4)) == 4
    assert env.read_feeds(2)[0]["request_id"] == "after-house"


def test_a_new_group_publishes_nothing_again_and_refuses_nothing_again(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(partitions=2)
    draw = random.Random(2)
    worker = env.start_worker()
    requests = [make_request(f"r{n}", 3, draw) for n in range(20)]
    env.send(event for events in requests for event in events)
    for number in range(4):
        send_raw(env, b"bad%d" % number, b"{")
    assert len(env.read_feeds(20, settle=0.1)) == 20
    env.send(requests[0][:1])  # a producer's retry, after its request was closed
    assert len(env.read_letters(5, settle=0.1)) == 5
    opened = make_request("open", 2, draw)
    env.send(opened[:1])
    assert worker.terminate() == 0
    unread = make_request("unread", 2, draw)
    env.send(unread)

    env.variables["TRIMTAB_GROUP"] = f"{env.name}-new"
    worker = env.start_worker()
    status = StatusReader(env)
    assert len(env.read_feeds(21)) == 21
    env.send(opened[1:])
    counts = Counter(feed["request_id"] for feed in env.read_feeds(22))
    assert set(counts.values()) == {1}
    assert len(counts) == 22
    assert len(env.read_letters(5)) == 5
    status.until(open_requests=0)
    assert status.now()["counts"]["settled"] == 60 + 4 + 1

    # A retry from now on is a real one.
    env.send(requests[1][:1])
    assert Counter(letter.reason for letter in env.read_letters(6)) == {"malformed": 4, "late": 2}
    assert worker.terminate() == 0


def test_after_lost_offsets_a_crash_in_mid_replay_still_refuses_nothing_again(
    make_env: Callable[..., Environment],
) -> None:
    env = make_env(partitions=1)
    draw = random.Random(3)
    worker = env.start_worker()
    env.send(event for n in range(30) for event in make_request(f"r{n}", 2, draw))
    send_raw(env, b"bad", b"{")
    assert len(env.read_feeds(30, settle=0.1)) == 30
    assert len(env.read_letters(1, settle=0.1)) == 1
    assert worker.terminate() == 0

    # As a crash leaves it after a first commit: a pointer that has not come past what was there.
    place = TopicPartition(env.candidates, 0, 10, '{"v":1,"scan":0,"time":0,"next":61}')
    moved = env.admin.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(env.name, [place])]
    )
    moved[env.name].result()
    worker = env.start_worker()
    env.send(make_request("after", 2, draw))
    assert len(env.read_feeds(31)) == 31
    assert len(env.read_letters(1)) == 1
    assert worker.terminate() == 0
