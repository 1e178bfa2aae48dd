"""Samples, what Prometheus reads of them, and that nothing that is counted is forgotten."""

import gc
from dataclasses import asdict, fields

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from workers.counts import (
    LATENCY_BOUNDS_S,
    MAX_ARMS,
    MAX_SURFACES,
    OTHER,
    ClosedFacts,
    Counts,
    FeedFacts,
    Histogram,
    JoinCounts,
    JoinedCounts,
    RankedCounts,
)
from workers.metrics import join_samples, ranking_samples, users_samples
from workers.metrics.exposition import render
from workers.metrics.names import (
    DEAD_LETTERS,
    FEEDS,
    LATENCY,
    METRICS,
    READY,
    REDIS_CONTACT_SECONDS,
    Kind,
)
from workers.metrics.samples import Sample, Snapshot, decode, encode, histogram, sample, samples_by
from workers.steering.connection import RedisUse
from workers.steering.stage_status import StageReport
from workers.users.stage import UserCounts

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def snapshot(slot: int, *samples: Sample) -> Snapshot:
    return Snapshot("ranking", slot, samples)


def test_the_series_of_two_processes_are_in_one_family() -> None:
    text = render([snapshot(0, sample(READY, 1)), snapshot(1, sample(READY, 0))], "").text.decode()
    assert text.count("# TYPE trimtab_ready gauge") == 1
    assert 'trimtab_ready{slot="0",stage="ranking"} 1.0' in text
    assert 'trimtab_ready{slot="1",stage="ranking"} 0.0' in text


@pytest.mark.parametrize(("accept", "read"), [("", read_text), (OPENMETRICS, read_openmetrics)])
def test_every_metric_can_be_read_back(accept: str, read: object) -> None:
    samples = []
    for metric in METRICS.values():
        labels = [f'a "{label}"\n\\' for label in metric.labels]
        if metric.kind is Kind.HISTOGRAM:
            samples.append(histogram(metric, Histogram((1.0, 2.0)), *labels))
        else:
            samples.append(sample(metric, 1, *labels))
    text = render([snapshot(3, *samples)], accept, {0: True}).text.decode()
    families = {family.name: family for family in read(text)}  # type: ignore[operator]
    for name, metric in METRICS.items():
        family = families[name.removesuffix("_total")]
        assert family.type == metric.kind
        assert family.documentation == metric.help


def test_a_histogram_counts_what_is_not_above_each_bound() -> None:
    observed = Histogram((0.5, 1.0))
    for value in (0.1, 0.5, 0.7, 3.0):
        observed.observe(value)
    one = histogram(LATENCY, observed, "home")
    assert one.buckets == ((0.5, 2), (1.0, 3), (float("inf"), 4))
    assert one.value == pytest.approx(4.3)
    text = render([snapshot(0, one)], "").text.decode()
    labels = 'slot="0",stage="ranking",surface="home"'
    assert f'trimtab_feed_latency_seconds_bucket{{le="+Inf",{labels}}} 4.0' in text
    assert f"trimtab_feed_latency_seconds_count{{{labels}}} 4.0" in text


def test_a_snapshot_survives_the_way_to_the_parent() -> None:
    one = snapshot(
        2, sample(REDIS_CONTACT_SECONDS, float("inf")), *samples_by(DEAD_LETTERS, {"late": 3})
    )
    assert decode(encode(one)) == one


def test_a_snapshot_of_another_version_is_refused() -> None:
    unknown = Snapshot("ranking", 0, (Sample("trimtab_old", (), 1.0),))
    with pytest.raises(ValueError, match="trimtab_old"):
        decode(encode(unknown))


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="surface"):
        sample(FEEDS, 1, "home")
    with pytest.raises(ValueError, match="surface"):
        histogram(LATENCY, Histogram((1.0,)))


def test_a_committed_feed_counts_by_surface_arm_and_completion_and_its_latency() -> None:
    ranked = RankedCounts()
    ranked.note_feed(FeedFacts("home", "control", "full", 1_000), now_ms=1_200)
    ranked.note_feed(FeedFacts("home", "control", "full", 5_000), now_ms=1_200)  # a clock ahead
    assert ranked.feeds == {("home", "control", "full"): 2}
    assert ranked.latency["home"].total == pytest.approx(0.2)
    assert sum(ranked.latency["home"].counts) == 2
    assert ranked.latency["home"].counts[LATENCY_BOUNDS_S.index(0.25)] == 1


def test_every_counter_of_the_loop_is_exported() -> None:
    with_labels = {"feeds", "dead_letters"}
    assert {one.name for one in fields(Counts)} == ranking_samples.OF_COUNTS.keys() | with_labels
    with_labels = {"closed", "dead_letters"}
    assert {one.name for one in fields(JoinCounts)} == join_samples.OF_COUNTS.keys() | with_labels


def test_no_scrape_leaves_a_cycle() -> None:
    ranked = RankedCounts()
    ranked.note_feed(FeedFacts("home", "control", "full", 1_000), now_ms=1_200)

    def scrape() -> None:
        latency = histogram(LATENCY, ranked.latency["home"], "home")
        one = snapshot(0, latency, *samples_by(FEEDS, ranked.feeds))
        render([decode(encode(one))], OPENMETRICS)
        render([one], "")

    scrape()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            scrape()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_labels_are_bounded_whatever_names_come_in_records() -> None:
    names = 10_000
    ranked = RankedCounts()
    joined = JoinedCounts()
    for number in range(names):
        ranked.note_feed(FeedFacts("home", f"arm-{number}", "full", 1_000), now_ms=1_200)
        joined.note_closed(ClosedFacts("home", f"arm-{number}", seen=2, takes=1))
        joined.note_closed(ClosedFacts(f"surface-{number}", "control", seen=2, takes=1))

    assert len(ranked.feeds) == MAX_ARMS + 1
    assert len(joined.closed) == MAX_ARMS + MAX_SURFACES + 1
    assert ranked.feeds["home", OTHER, "full"] == names - MAX_ARMS
    assert joined.closed["home", OTHER] == names - MAX_ARMS
    assert joined.seen.keys() == joined.takes.keys() == joined.closed.keys()
    # Nothing is lost in the sums.
    assert sum(ranked.feeds.values()) == names
    assert sum(joined.seen.values()) == 4 * names

    ranked.note_feed(FeedFacts("home", "arm-0", "marker", 1_000), now_ms=1_200)
    assert ranked.feeds["home", "arm-0", "marker"] == 1


def test_every_counter_of_the_users_stage_is_exported() -> None:
    report = StageReport(
        partitions=(0, 1), lag={0: 3, 1: 4}, closed_until=5_000, counts=asdict(UserCounts(feeds=2))
    )
    state = users_samples.UsersState(
        turned_s=0.5,
        broker_up=True,
        redis={"phases": RedisUse(5, 1)},
        stops={("home", "bold"): 1},
        rails_wait_s=1.5,
    )
    samples = users_samples.users_samples(report, state)
    values = {one.name: one.value for one in samples}
    assert users_samples.OF_COUNTS.keys() == report.counts.keys()
    assert values["trimtab_users_feeds_total"] == 2
    assert (values["trimtab_lag_records"], values["trimtab_lag_records_max"]) == (7, 4)
    assert values["trimtab_outcomes_closed_until_seconds"] == 5
    assert Sample("trimtab_guard_rail_stops_total", ("home", "bold"), 1.0) in samples
    assert values["trimtab_loop_same_step_seconds"] == 0.5
    assert (values["trimtab_broker_up"], values["trimtab_guard_rails_wait_seconds"]) == (1, 1.5)
    assert Sample("trimtab_redis_calls_total", ("phases",), 5.0) in samples
    assert Sample("trimtab_redis_failures_total", ("phases",), 1.0) in samples


def test_a_stage_without_redis_or_that_judges_no_guard_rails_shows_none_of_it() -> None:
    report = StageReport(counts=asdict(UserCounts()))
    samples = users_samples.users_samples(
        report, users_samples.UsersState(turned_s=0.5, broker_up=False)
    )
    names = {one.name for one in samples}
    assert not names & {"trimtab_redis_up", "trimtab_guard_rails_wait_seconds"}
