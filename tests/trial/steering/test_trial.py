"""The trial of steering judges what it claims: a tiny one on real servers, of which only the counts
are asserted.
"""

from collections import Counter

import pytest

from tests.rig.measured import measured_environment
from tests.rig.redis import started_redis
from tests.rig.times import MS, Span
from tests.trial.steering.applied import AppliedSeen
from tests.trial.steering.feeds import FeedSeen
from tests.trial.steering.judge import applying, count_feeds, ranked_against, ranked_before, stale
from tests.trial.steering.plan import Kind, plan, sets_of
from tests.trial.steering.report import Limits, Report
from tests.trial.steering.trial import run_trial
from tests.trial.steering.weights_history import DEFAULT_VERSION, Period, WeightsHistory, version_of

TINY = Limits(
    seed=3,
    changes=40,
    workers=2,
    rate=50,
    candidates=10,
    acknowledged=2,
    outages=1,
    outage_seconds=1,
    warm_up_seconds=1,
)


@pytest.fixture(scope="module")
def report(kafka: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("trial")
    env = measured_environment(kafka, redis_url, folder)
    with started_redis(folder / "own-redis") as redis:
        return run_trial(env, redis, TINY, lambda _: None)


def test_nothing_is_lost_doubled_torn_or_acknowledged_falsely(report: Report) -> None:
    assert not any(report.wrong.values()), report.wrong
    assert report.feeds.requests == report.feeds.feeds > 0


def test_everything_that_was_planned_was_tried(report: Report) -> None:
    assert sum(report.changes.kinds.values()) == 40
    assert set(report.changes.kinds) == set(Kind)
    assert report.changes.races == report.changes.kinds[Kind.RACE]
    assert report.changes.applying.times.count > 0
    assert report.acknowledged.times.count == 2
    assert [outage.name for outage in report.outages] == ["killed, left empty"]


def test_a_page_has_every_line(report: Report) -> None:
    page = "\n".join(report.lines())
    assert report.machine.cpu in page
    assert "seed 3" in page
    assert page.count("goal") == 4
    for named in (
        "HSET to applied",
        "ranked under the old",
        "push to applied",
        "calm before",
        "two operators at once",
    ):
        assert named in page
    for count in report.wrong:
        assert f"  0 {count}" in page


# The judge, on what never happens in a good run

A = "a" * 12
B = "b" * 12
C = "c" * 12
PERIODS = [
    Period(A, 0, 1 * MS, 10 * MS, 10 * MS),
    Period(B, 9 * MS, 10 * MS, 20 * MS, 20 * MS),
    Period(C, 19 * MS, 20 * MS),
]


def feed(request: int, ranked_at: int, version: str, whole: bool = True) -> FeedSeen:
    return FeedSeen(request, (ranked_at + 1) * MS, ranked_at, version, whole)


def test_what_is_lost_doubled_astray_or_not_whole_is_counted() -> None:
    feeds = [
        feed(0, 5, A),
        feed(0, 5, A),
        feed(2, 5, B),
        feed(3, 12, "unknown"),
        feed(4, 12, B, whole=False),
    ]
    counts = count_feeds([0] * 5, feeds, PERIODS)
    assert (counts.requests, counts.feeds) == (5, 5)
    assert (counts.lost, counts.doubled, counts.wrong_weights, counts.not_whole) == (1, 1, 2, 1)


def test_a_set_that_a_worker_skipped_is_left_out_and_its_time_is_not() -> None:
    reports = [AppliedSeen("w", A, 3, None), AppliedSeen("w", C, 25, 1.0)]
    found = applying(PERIODS, reports, workers=1)
    assert (found.left_out, found.left_out_stood_ms, found.never) == (1, 10.0, 0)
    assert (found.times.count, found.times.max_ms) == (2, 7.0)
    assert (found.or_later.count, found.or_later.max_ms) == (3, 17.0)
    assert applying(PERIODS, reports[:1], workers=1).never == 1


def test_a_feed_under_a_set_that_was_replaced_is_stale_since_then() -> None:
    found = stale(
        [feed(0, 5, A), feed(1, 14, A), feed(2, 30, C), feed(3, 30, A)], PERIODS, Span(0, 30 * MS)
    )
    assert (found.times.count, found.times.max_ms, found.share) == (1, 5.0, 0.5)


def test_a_worker_that_ranks_on_under_an_earlier_set_was_acknowledged_falsely() -> None:
    feeds = [feed(0, 15, A), feed(1, 25, B), feed(2, 25, C)]
    assert ranked_before(feeds, 12 * MS, PERIODS, B) == 1
    assert ranked_before(feeds, 21 * MS, PERIODS, C) == 1
    assert ranked_against(feeds, Span(11 * MS, 20 * MS), B) == 1


def test_a_history_knows_which_sets_were_in_force_and_until_when() -> None:
    history = WeightsHistory()
    good = {"quality": "0.2", "engagement": "0.8"}
    history.add(1, 2, good)
    history.add(3, 4, {**good, "quality": "nan"})
    history.add(5, 6, {**good, "quality": "0.3"})
    first = version_of(good)
    second = version_of({**good, "quality": "0.3"})
    assert first is not None
    assert second is not None
    assert history.periods() == [
        Period(DEFAULT_VERSION, 0, 0, 2, 2),
        Period(first, 1, 2, 4, 6),
        Period(second, 5, 6),
    ]
    assert history.version_in_force == second


@pytest.mark.parametrize(
    "wrong",
    [
        {"quality": "nan"},
        {"quality": ""},
        {"engagement": "1.000001"},
        {"clicks": "0.5"},
        {"quality": "-0.1"},
    ],
    ids=str,
)
def test_what_workers_must_refuse_is_no_set(wrong: dict[str, str]) -> None:
    assert version_of({"quality": "0.5", "engagement": "0.5", **wrong}) is None


def test_the_same_seed_plans_the_same_changes_and_no_two_sets_are_alike() -> None:
    def planned(seed: int) -> list[object]:
        return list(plan(200, seed, sets_of(seed, 400)))

    assert planned(1) == planned(1) != planned(2)
    written = Counter(
        text
        for sets in sets_of(1, 400)
        for text in (f"quality {sets['quality']}", f"e {sets['engagement']}")
    )
    assert set(written.values()) == {1}


def test_what_is_refused_never_comes_in_a_burst() -> None:
    alone = [
        change
        for change in plan(600, 1, sets_of(1, 1200))
        if change.kind not in {"whole", "torn", "two operators"}
    ]
    assert len(alone) > 20
    assert all(change.pause >= 0.05 for change in alone)
