"""The trial of users: behind a real join, the only process of the users stage is killed again and
again while 200 feeds a second flow. At the end every sum is the oracle's, and all of them balance
with the sums over feeds.

`make test` does the same with three kills and without a join: tests/integration/test_users.py. The
runs are in tests/rig/user_runs.py.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tests.rig.environment import Environment
from tests.rig.feed_writer import FeedWriter, make_feed
from tests.rig.outcome_judge import written_requests
from tests.rig.outcome_runs import Plan, outcomes_environment
from tests.rig.process import Process
from tests.rig.servers import Servers
from tests.rig.streams import Stream
from tests.rig.user_runs import (
    PHASES,
    expected_sums,
    kill_users,
    published_sums,
    summed_over_feeds,
    wait_until_counted,
)

_FEEDS = 10
_EVERY_SECONDS = 0.05
_SHOWN = 20


@dataclass(frozen=True)
class UsersReport:
    """What was done, and every key whose sums are not right."""

    kills: int
    feeds: int
    keys: int
    users: int
    wrong_sums: list[str]
    not_balanced: list[str]
    seconds: float

    @property
    def wrong(self) -> dict[str, int]:
        """How much is wrong."""
        return {
            "sums that are not the oracle's": len(self.wrong_sums),
            "sums that do not balance with those over feeds": len(self.not_balanced),
        }

    def as_json(self) -> dict[str, Any]:
        """The same figures, for `--json`."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The report as a page."""
        yield f"users    {self.kills} kills of the users stage; {self.seconds:.0f} s"
        yield f"  equal   {self.keys:,} sums of {self.feeds:,} feeds and {self.users:,} users"
        yield f"  wrong   {len(self.wrong_sums):,} sums, {len(self.not_balanced):,} not balanced"
        for line in [*self.wrong_sums, *self.not_balanced][:_SHOWN]:
            yield f"    {line}"


class _Feeds(Stream):
    """A thread that writes 200 feeds a second until the end of the `with` block, half of them in a
    phase of an experiment.
    """

    def __init__(self, env: Environment, window_s: int, seed: int) -> None:
        super().__init__("feeds")
        self.feeds = 0
        self._writer = FeedWriter(env, {"home": window_s, "list": window_s + 1})
        self._draw = random.Random(seed)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due += _EVERY_SECONDS
            feeds = []
            for _ in range(_FEEDS):
                changes: dict[str, Any] = {"user_id": f"u{self._draw.randrange(2000)}"}
                if self._draw.random() < 0.5:
                    changes["experiment"] = self._draw.choice(list(PHASES))
                surface = self._draw.choice(["home", "list"])
                feeds.append(make_feed(f"r{self.feeds}", surface, items=3, **changes))
                self.feeds += 1
            self._writer.write(*feeds)


def run_users_trial(
    servers: Servers, kills: int, seed: int, say: Callable[[str], None]
) -> UsersReport:
    """Run it in an environment of its own."""
    began = time.monotonic()
    plan = Plan(seed=seed)
    folder = servers.folder / "users"
    folder.mkdir()
    with outcomes_environment(servers.kafka, servers.redis, folder, plan) as env:
        env.variables["TRIMTAB_REDIS"] = ""
        env.create_outcome_topics()
        env.create_user_topics()
        join = env.start_join()
        join.wait_for("event=restored")
        stream = _Feeds(env, plan.window_s, seed)
        with stream:
            last = kill_users(env, kills, say)
        _finish(env, join, last, stream.feeds)
        say("judging")

        sums = published_sums(env)
        expected = expected_sums(env, known={})
        over_feeds = summed_over_feeds(env)
        wrong: list[str] = []
        for key in sorted(sums.keys() | expected.keys(), key=str):
            if sums.get(key) != expected.get(key):
                wrong.append(f"{key}: {sums.get(key)}, expected {expected.get(key)}")
        balance = {
            key: (counts["feeds"], counts["seen"], counts["takes"]) for key, counts in sums.items()
        }
        not_balanced: list[str] = []
        for key in sorted(balance.keys() | over_feeds.keys(), key=str):
            if balance.get(key) != over_feeds.get(key):
                not_balanced.append(f"{key}: {balance.get(key)}, over feeds {over_feeds.get(key)}")
        return UsersReport(
            kills=kills,
            feeds=sum(counts["feeds"] for counts in sums.values()),
            keys=len(sums),
            users=sum(counts["users"] for counts in sums.values()),
            wrong_sums=wrong,
            not_balanced=not_balanced,
            seconds=round(time.monotonic() - began, 1),
        )


def _finish(env: Environment, join: Process, users: Process, feeds: int) -> None:
    """Wait until every feed is closed and counted, and let both stages drain."""
    join.wait_until(lambda: len(written_requests(env)) == feeds)
    wait_until_counted(env, users)
    assert users.terminate() == 0, users.logged()
    assert join.terminate() == 0, join.logged()
