"""Crash anywhere, commit anywhere: the same outcomes, the same sums and the same dead letters.

The logs are lists here. Everything else is the join that the process runs. The oracle holds the
whole partition in memory and knows nothing of commits.
"""

import math
from copy import deepcopy
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.outcomes.oracle import Expected, Record, counts, expected
from workers.outcomes.join import NO_TIME, Join, JoinMark
from workers.outcomes.records import ClosedFeed, FeedRecord, Interaction, SumsKey
from workers.outcomes.sums import Sums, SumsLedger
from workers.ranking.outcome_rules import OutcomeRule, OutcomeRules
from workers.ranking.refusal import EventRefused
from workers.ranking.request import Completion

HOUR = 3_600_000
RULES = {
    "home": OutcomeRules(
        window_s=2,
        seen=OutcomeRule("view"),
        take=OutcomeRule("dwell", at_least=30.0),
        others={"hide": OutcomeRule("hide"), "skim": OutcomeRule("dwell", at_least=1.0)},
    ),
    "list": OutcomeRules(window_s=1, seen=None, take=OutcomeRule("click")),
}


@dataclass
class Logs:
    """What the broker keeps: the input, the three outputs and the committed mark."""

    records: list[Record]
    closed: list[ClosedFeed] = field(default_factory=list)
    sums: list[tuple[SumsKey, Sums]] = field(default_factory=list)
    letters: list[tuple[int, str]] = field(default_factory=list)
    mark: JoinMark | None = None


class Life:
    """One life of the process, from a restore to a crash."""

    def __init__(self, logs: Logs, rules: dict[str, OutcomeRules] = RULES) -> None:
        self.logs = logs
        start = logs.mark or JoinMark(low_water=0, scan=0, time=NO_TIME, next=0)
        self.join = Join(start, rules)
        self.ledger = SumsLedger(len(logs.sums))
        for offset in range(start.scan, len(logs.sums)):
            key, sums = logs.sums[offset]
            self.ledger.restore(key, deepcopy(sums), offset)
        self.letters: list[tuple[int, str]] = []

    def take(self) -> bool:
        offset = self.join.next
        if offset >= len(self.logs.records):
            return False
        timestamp, record = self.logs.records[offset]
        self.join.observe(offset, timestamp)
        if isinstance(record, FeedRecord):
            self.join.take_feed(record, offset)
            return True
        if record is None:
            return True
        try:
            self.join.take_interaction(record, timestamp)
        except EventRefused as refusal:
            if not self.join.is_replayed(offset):
                self.letters.append((offset, refusal.reason.value))
        return True

    def commit(self, limit: int, idle_until: float = 0) -> None:
        self.join.close_due(int(min(idle_until, 2**62)))
        closed = self.join.take_due(limit)
        changed = self.ledger.add(closed)
        mark = self.join.mark(self.ledger)

        self.logs.closed += closed
        self.logs.sums += [(key, deepcopy(sums)) for key, sums in changed.items()]
        self.logs.letters += self.letters
        self.logs.mark = mark
        self.letters = []
        self.ledger.end = len(self.logs.sums)


@st.composite
def partitions(draw: st.DrawFn) -> list[Record]:
    """The records of a partition around the turn of an hour, in any order that a producer can write."""
    timestamp = 5 * HOUR - draw(st.integers(0, 4000))
    records: list[Record] = []
    for _ in range(draw(st.integers(5, 45))):
        timestamp += draw(st.integers(0, 700))
        # A broker that takes over may have a clock that is behind.
        shown = timestamp - draw(st.sampled_from([0, 0, 0, 900]))
        request_id = draw(st.sampled_from("abcdef"))
        surface = "list" if request_id in "ab" else "home"
        user_id = draw(st.sampled_from([f"u{request_id}"] * 5 + ["ü2"]))
        if draw(st.integers(0, 3)) == 0:
            item_ids = draw(st.lists(st.sampled_from("pqrsté"), unique=True, max_size=5))
            record: FeedRecord | Interaction = FeedRecord(
                request_id=request_id,
                surface=surface,
                user_id=f"u{request_id}",
                arm=draw(st.sampled_from(["control", "canary"])),
                experiment=draw(st.sampled_from([None, "0123456789ab"])),
                weights="w1",
                models=draw(st.sampled_from([{"quality": 1}, {"quality": 2, "engagement": 1}])),
                completion=draw(st.sampled_from([Completion.FULL, Completion.DEADLINE])),
                window_s=draw(st.sampled_from([RULES[surface].window_s, 3])),
                item_ids=tuple(item_ids),
                score_sums={"quality": draw(st.sampled_from([0.1, 0.7, 1e-9]))},
            )
        else:
            record = Interaction(
                request_id=request_id,
                surface=draw(st.sampled_from([surface] * 5 + ["home"])),
                user_id=user_id,
                item_id=draw(st.sampled_from("pqrstéz")),
                kind=draw(st.sampled_from(["view", "click", "dwell", "hide", "other"])),
                value=draw(st.sampled_from([None, 0.5, 5.0, 30.0])),
                at=shown,
            )
        records.append((shown, record))
    return only_first_feeds(records)


def only_first_feeds(records: list[Record]) -> list[Record]:
    """Without further feed records of a request whose window is over: no worker writes one."""
    dues: dict[str, int] = {}
    kept: list[Record] = []
    time = 0
    for timestamp, record in records:
        if isinstance(record, FeedRecord):
            due = dues.get(record.request_id)
            if due is not None and max(time, timestamp) > due:
                continue
            dues.setdefault(record.request_id, max(time, timestamp) + 1000 * record.window_s)
        time = max(time, timestamp)
        kept.append((timestamp, record))
    return kept


def outcomes_of(closed: list[ClosedFeed]) -> dict[str, list[set[str]]]:
    found = {}
    for feed in closed:
        marks = feed.marks or bytes(len(feed.item_ids))
        found[feed.request_id] = [
            {name for place, name in enumerate(feed.names) if bits >> place & 1} for bits in marks
        ]
    return found


def latest_sums(logs: Logs) -> dict[tuple[object, ...], dict[str, object]]:
    """The last record of each key, in the form in which the oracle has its counts."""
    tables: dict[tuple[object, ...], dict[str, object]] = {}
    for key, sums in logs.sums:
        table: dict[object, object] = {}
        for number, cluster in sums.clusters.items():
            table["feeds", number] = cluster.feeds
            table["deadline", number] = cluster.deadline_feeds
            table["items", number] = cluster.items
            table["seen", number] = cluster.seen
            table["take", number] = cluster.takes
            for name, count in cluster.others.items():
                table[name, number] = count
            for objective, score in cluster.scores.items():
                table["score", number, objective] = score
        for position, (seen, takes) in sums.positions.items():
            table["seen", "at", position] = seen
            table["take", "at", position] = takes
        tables[tuple(key)] = table  # type: ignore[assignment]
    return tables


def without_zeros(
    tables: dict[tuple[object, ...], dict[str, object]],
) -> dict[tuple[object, ...], dict[str, object]]:
    return {
        key: {name: count for name, count in table.items() if count}
        for key, table in tables.items()
    }


def check(logs: Logs, oracle: Expected) -> None:
    assert [feed.request_id for feed in logs.closed] == oracle.order
    assert outcomes_of(logs.closed) == oracle.outcomes
    assert sorted(logs.letters) == oracle.letters
    assert without_zeros(latest_sums(logs)) == without_zeros(counts(oracle))


def finish(logs: Logs) -> None:
    life = Life(logs)
    while life.take():
        pass
    life.commit(limit=10_000, idle_until=math.inf)


@given(partitions())
@settings(max_examples=200, deadline=None)
def test_undisturbed_the_join_comes_to_what_the_oracle_says(records: list[Record]) -> None:
    logs = Logs(records)
    finish(logs)
    check(logs, expected(records, RULES))


@given(partitions(), st.data())
@settings(max_examples=400, deadline=None)
def test_crashes_and_commits_anywhere_change_nothing(
    records: list[Record], data: st.DataObject
) -> None:
    logs = Logs(records)
    for _ in range(data.draw(st.integers(1, 4), "lives")):
        life = Life(logs)
        for _ in range(data.draw(st.integers(0, 40), "steps")):
            if data.draw(st.integers(0, 3), "commits") == 0:
                # An idle partition's clock is never ahead of the records that come later.
                later = [timestamp for timestamp, _ in records[life.join.next :]]
                idle_until = min(later, default=math.inf) if data.draw(st.booleans()) else 0
                life.commit(data.draw(st.integers(1, 3), "limit"), idle_until)
            else:
                life.take()
    finish(logs)
    check(logs, expected(records, RULES))


@given(partitions(), st.data())
@settings(max_examples=300, deadline=None)
def test_with_an_idle_clock_that_runs_ahead_every_feed_still_goes_out_once(
    records: list[Record], data: st.DataObject
) -> None:
    logs = Logs(records)
    feeds = {record.request_id for _, record in records if isinstance(record, FeedRecord)}
    for _ in range(3):
        life = Life(logs)
        for _ in range(data.draw(st.integers(0, 30), "steps")):
            if data.draw(st.integers(0, 3), "commits") == 0:
                ahead = life.join.stream_time + data.draw(st.sampled_from([0, 1500, 10_000]))
                life.commit(data.draw(st.integers(1, 3), "limit"), ahead)
            else:
                life.take()
    finish(logs)

    out = [feed.offset for feed in logs.closed]
    assert len(out) == len(set(out))
    assert {feed.request_id for feed in logs.closed} == feeds
    total = sum(
        cluster.feeds for sums in dict(logs.sums).values() for cluster in sums.clusters.values()
    )
    assert total == len(out)


@given(partitions(), st.data())
@settings(max_examples=200, deadline=None)
def test_changed_rules_emit_no_feed_twice_and_lose_none(
    records: list[Record], data: st.DataObject
) -> None:
    logs = Logs(records)
    others: list[dict[str, OutcomeRules]] = [
        RULES,
        {"home": RULES["list"]},
        {},
    ]
    for _ in range(4):
        life = Life(logs, data.draw(st.sampled_from(others), "rules"))
        for _ in range(data.draw(st.integers(0, 20), "steps")):
            if data.draw(st.integers(0, 3), "commits") == 0:
                life.commit(data.draw(st.integers(1, 3), "limit"))
            else:
                life.take()
    finish(logs)

    oracle = expected(records, RULES)
    assert [feed.request_id for feed in logs.closed] == oracle.order
    offsets = [offset for offset, _ in logs.letters]
    assert len(offsets) == len(set(offsets))


@given(st.lists(partitions(), min_size=2, max_size=3))
@settings(max_examples=50, deadline=None)
def test_the_sums_of_the_partitions_are_the_sums_of_the_whole(
    parts: list[list[Record]],
) -> None:
    takes = 0
    expected_takes = 0
    for records in parts:
        logs = Logs(records)
        finish(logs)
        for sums in dict(logs.sums).values():
            takes += sum(cluster.takes for cluster in sums.clusters.values())
        outcomes = expected(records, RULES).outcomes
        expected_takes += sum("take" in names for items in outcomes.values() for names in items)
    assert takes == expected_takes
