"""Outcomes by user under adversity: feeds are closed, and processes of the users stage are killed
again and again. At the end every sum is the oracle's, and they balance with the sums over feeds.

`make test` kills three times (tests/integration/test_users.py), `make trial ARGS=users` ten times,
behind a real join.
"""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from tests.rig.environment import REQUEST_PARTITIONS, Environment
from tests.rig.process import Process, pause, until
from tests.rig.streams import Stream
from tests.rig.topics import read_to_end
from tests.rig.traffic import now_ms
from workers.codec.partitioner import partition_of
from workers.ranking.experiment import Experiment

_ANSWER_SECONDS = 30.0
_FIELDS = ("feeds", "seen", "takes", "users", "new_users", "misassigned", "unchecked")
SALT = "users"

Key = tuple[int, str, str, str | None]
Counts = dict[str, int]


class OutcomeWriter:
    """Writes closed feeds, as the join writes them. Every tenth transaction is aborted."""

    def __init__(self, env: Environment, phases: Mapping[str, Experiment], seed: int) -> None:
        self.feeds = 0
        self._env = env
        self._phases = phases
        self._draw = random.Random(seed)
        self._producer = env.cluster.transactional(f"{env.name}-closed-feeds", 100_000)
        self._producer.init_transactions(_ANSWER_SECONDS)

    def write(self, count: int, *, is_aborted: bool = False) -> None:
        """Write feeds in one transaction."""
        self.begin()
        for _ in range(count):
            self.send(self.make_feed())
        if is_aborted:
            self._producer.flush(_ANSWER_SECONDS)
            self._producer.abort_transaction(_ANSWER_SECONDS)
        else:
            self.commit()
            self.feeds += count

    def begin(self) -> None:
        """Begin a transaction."""
        self._producer.begin_transaction()

    def commit(self) -> None:
        """Commit the transaction."""
        self._producer.commit_transaction(_ANSWER_SECONDS)

    def send(self, feed: dict[str, Any], partition: int | None = None) -> None:
        """Send a feed within the transaction, to the partition of its user if none is given."""
        key = feed["user_id"].encode()
        self._producer.produce(
            self._env.request_outcomes,
            json.dumps(feed).encode(),
            key,
            partition_of(key, REQUEST_PARTITIONS) if partition is None else partition,
            headers=[("content-type", b"application/json")],
        )

    def make_feed(self) -> dict[str, Any]:
        """A closed feed of a user, in a phase or in none."""
        draw = self._draw
        user_id = f"u{draw.randrange(400)}"
        phase = draw.choice([None, *self._phases])
        arm = "control"
        if phase is not None:
            arm = self._phases[phase].assign(user_id)
            if draw.random() < 0.05:
                arm = "stray"
        at = now_ms() - 3_600_000 * draw.randrange(3)
        seen = draw.randrange(8)
        feed = {
            "request_id": f"r{draw.getrandbits(40)}",
            "surface": draw.choice(["home", "list"]),
            "user_id": user_id,
            "arm": arm,
            "weights": "0123456789ab",
            "models": {"quality": 1},
            "completion": "full",
            "published_at": at,
            "closed_at": at + 3000,
            "items": 8,
            "seen": seen,
            "takes": draw.randint(0, seen),
            "outcomes": [],
        }
        return feed if phase is None else feed | {"experiment": phase}


class OutcomeStream(Stream):
    """A thread that writes about 200 closed feeds a second until the end of the `with` block."""

    def __init__(self, writer: OutcomeWriter) -> None:
        super().__init__("closed-feeds")
        self._writer = writer

    def _run(self) -> None:
        transactions = 0
        while not self._stopping.wait(0.1):
            transactions += 1
            self._writer.write(20, is_aborted=transactions % 10 == 0)


PHASES: Mapping[str, Experiment] = {
    "00000000000a": Experiment(SALT, {"canary": 1000}),
    "00000000000b": Experiment(SALT, {"canary": 3300}),
}
"""Two phases of one experiment, by ids that no history knows."""


def kill_users(
    env: Environment, times: int, say: Callable[[str], None] = lambda _: None
) -> Process:
    """Kill the only process of the users stage and start another, `times` times. Returns the last.

    Each is killed at a moment of its own, once it has published sums.
    """
    draw = random.Random(times)
    for number in range(times):
        process = env.start_users()
        _wait_for_more(env, process)
        pause(draw.uniform(0.0, 2.0))
        process.kill()
        say(f"killed the users stage {number + 1} times")
    return env.start_users()


def wait_until_counted(env: Environment, process: Process) -> None:
    """Wait until everything in request-outcomes is counted."""
    ends: dict[int, int] = {}
    for message in read_to_end(env.kafka, env.request_outcomes):
        ends[message.partition()] = message.offset() + 1

    def is_counted() -> bool:
        progress: dict[int, int] = {}
        for message in read_to_end(env.kafka, env.user_outcomes):
            row = json.loads(message.value() or b"")
            if row["kind"] == "progress":
                progress[message.partition()] = row["next_offset"]
        return all(progress.get(partition, 0) >= end for partition, end in ends.items())

    process.wait_until(is_counted)


def published_sums(env: Environment) -> dict[Key, Counts]:
    """The sums in user-outcomes, added up over the partitions."""
    latest: dict[tuple[int, Key], dict[str, Any]] = {}
    for message in read_to_end(env.kafka, env.user_outcomes):
        row = json.loads(message.value() or b"")
        if row["kind"] == "progress":
            continue
        assert row["partition"] == message.partition()
        place = (message.partition(), _key_of(row, row["hour"]))
        known = latest.get(place)
        if known is None or known["last_offset"] <= row["last_offset"]:
            latest[place] = row

    totals: dict[Key, Counts] = defaultdict(lambda: dict.fromkeys(_FIELDS, 0))
    for (_, key), row in latest.items():
        for name in _FIELDS:
            totals[key][name] += row[name]
    return dict(totals)


def summed_over_feeds(env: Environment) -> dict[Key, tuple[int, int, int]]:
    """Feeds, seen and takes of the latest sums in feed-outcomes, by the keys of sums by user."""
    latest: dict[tuple[int, bytes | None], dict[str, Any]] = {}
    for message in read_to_end(env.kafka, env.feed_outcomes):
        latest[message.partition(), message.key()] = json.loads(message.value() or b"")
    totals: dict[Key, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    for row in latest.values():
        key = _key_of(row, row["hour"])
        feeds, seen, takes = totals[key]
        totals[key] = (feeds + row["feeds"], seen + row["seen"], takes + row["takes"])
    return dict(totals)


def expected_sums(env: Environment, known: Mapping[str, Experiment]) -> dict[Key, Counts]:
    """The sums of what is committed in request-outcomes, counted at once. `known` are the phases
    whose document the stage can find.
    """
    totals: dict[Key, Counts] = defaultdict(lambda: dict.fromkeys(_FIELDS, 0))
    seen_in_phase: set[tuple[str, str, str]] = set()
    seen_in_experiment: set[tuple[str, str, str]] = set()
    for message in read_to_end(env.kafka, env.request_outcomes):
        row = json.loads(message.value() or b"")
        counts = totals[_key_of(row, row["published_at"])]
        counts["feeds"] += 1
        counts["seen"] += row["seen"]
        counts["takes"] += row["takes"]
        phase = row.get("experiment")
        if phase is None:
            continue

        user = (row["surface"], phase, row["user_id"])
        counts["users"] += user not in seen_in_phase
        seen_in_phase.add(user)
        experiment = known.get(phase)
        if experiment is None:
            counts["unchecked"] += 1
            continue
        newcomer = (row["surface"], experiment.salt, row["user_id"])
        counts["new_users"] += newcomer not in seen_in_experiment
        seen_in_experiment.add(newcomer)
        counts["misassigned"] += experiment.assign(row["user_id"]) != row["arm"]
    return dict(totals)


def _key_of(row: Mapping[str, Any], at: int) -> Key:
    return at // 3_600_000, row["surface"], row["arm"], row.get("experiment")


def _wait_for_more(env: Environment, process: Process) -> None:
    """Wait until sums are written that were not there at the call."""
    before = env.written(env.user_outcomes, REQUEST_PARTITIONS)
    until(
        lambda: (
            not process.is_running()
            or env.written(env.user_outcomes, REQUEST_PARTITIONS) > before >= 0
        ),
        process.logged,
    )
    assert process.is_running(), process.logged()
