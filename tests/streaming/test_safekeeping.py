"""What would lose records later is found before the first run, with what mends it."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.builders import surface
from workers.streaming.clients import Cluster
from workers.streaming.preflight import Finding, SeenTopics
from workers.streaming.safekeeping import (
    offsets_findings,
    replication_findings,
    retention_findings,
    users_retention_findings,
)
from workers.streaming.topics import UsersTopics, WorkerTopics

CLUSTER = Cluster("broker:9092")
TOPICS = WorkerTopics("candidates", "feeds", "letters", "interactions")
HORIZON_MS = 30_000
LEAST_MS = HORIZON_MS + 3600 * 1000
SURFACES = {"home": replace(surface(name="home"), horizon_ms=HORIZON_MS)}
KEPT: Mapping[str, str] = {
    "retention.ms": str(7 * 24 * 3600 * 1000),
    "cleanup.policy": "delete",
    "min.insync.replicas": "2",
}


def seen(**changes: Mapping[str, str]) -> SeenTopics:
    """Topics that are kept well, with some values of their configurations changed."""
    configs = {}
    for name in ("candidates", "feeds", "letters", "interactions"):
        configs[name] = {**KEPT, **changes.get(name, {})}
    return SeenTopics(dict.fromkeys(configs, 4), configs)


def retention(**changes: Mapping[str, str]) -> list[Finding]:
    return list(retention_findings(CLUSTER, TOPICS, SURFACES, seen(**changes)))


def replication(
    *, brokers: int, replicas: int, in_sync: str = "2", names: tuple[str, ...] = ("candidates",)
) -> list[Finding]:
    configs = {name: {**KEPT, "min.insync.replicas": in_sync} for name in names}
    found = replication_findings(
        CLUSTER, configs=configs, replicas=dict.fromkeys(names, replicas), brokers=brokers
    )
    return list(found)


def test_topics_that_are_kept_well_have_no_finding() -> None:
    assert retention() == []
    assert replication(brokers=3, replicas=3) == []


@pytest.mark.parametrize(("retention_ms", "is_enough"), [(LEAST_MS, True), (LEAST_MS - 1, False)])
def test_candidates_outlive_the_longest_horizon_and_a_restart(
    retention_ms: int, is_enough: bool
) -> None:
    found = retention(candidates={"retention.ms": str(retention_ms)})
    if is_enough:
        assert found == []
        return
    (finding,) = found
    assert finding.stops
    assert f"retention.ms: got {retention_ms}, expected at least {LEAST_MS}" in finding.text
    assert finding.text.endswith(f"--entity-name candidates --add-config retention.ms={LEAST_MS}")


@pytest.mark.parametrize(
    ("candidates_ms", "feeds_ms", "is_enough"),
    [("-1", "-1", True), ("-1", "604800000", False), ("604800000", "-1", True)],
)
def test_feeds_are_kept_as_long_as_candidates(
    candidates_ms: str, feeds_ms: str, is_enough: bool
) -> None:
    found = retention(candidates={"retention.ms": candidates_ms}, feeds={"retention.ms": feeds_ms})
    assert (found == []) is is_enough
    if not is_enough:
        assert found[0].text.endswith(
            f"--entity-name feeds --add-config retention.ms={candidates_ms}"
        )


@pytest.mark.parametrize("name", ["candidates", "interactions"])
def test_an_input_that_is_compacted_stops(name: str) -> None:
    (finding,) = retention(**{name: {"cleanup.policy": "compact,delete"}})
    assert finding.stops
    assert f"topic '{name}': cleanup.policy: got compact,delete, expected delete" in finding.text


@pytest.mark.parametrize("name", ["candidates", "feeds", "interactions"])
def test_a_topic_that_is_deleted_for_its_size_is_warned_of(name: str) -> None:
    (finding,) = retention(**{name: {"retention.bytes": "1000000"}})
    assert not finding.stops
    assert f"topic '{name}': retention.bytes: got 1000000, expected -1" in finding.text
    assert finding.text.endswith(f"--entity-name {name} --add-config retention.bytes=-1")
    assert retention(**{name: {"retention.bytes": "-1"}}) == []


@pytest.mark.parametrize(
    ("key", "value", "stops"),
    [
        ("cleanup.policy", "compact", True),
        ("retention.ms", "3599999", True),
        ("retention.bytes", "1000000", False),
    ],
)
def test_outcomes_of_requests_are_kept_until_they_are_counted_by_user(
    key: str, value: str, stops: bool
) -> None:
    topics = UsersTopics("requests", "sums", "changelog")
    kept = SeenTopics({"requests": 4}, {"requests": KEPT})
    assert list(users_retention_findings(CLUSTER, topics, kept)) == []
    short = SeenTopics({"requests": 4}, {"requests": {**KEPT, key: value}})
    (finding,) = users_retention_findings(CLUSTER, topics, short)
    assert finding.stops == stops
    assert f"topic 'requests': {key}: got {value}" in finding.text


def test_a_topic_that_needs_more_replicas_in_sync_than_it_has_stops() -> None:
    (finding,) = replication(brokers=3, replicas=1, in_sync="2")[:1]
    assert finding.stops
    assert "every write is refused" in finding.text


def test_one_broker_is_one_warning() -> None:
    (finding,) = replication(brokers=1, replicas=1, in_sync="1", names=("candidates", "feeds"))
    assert not finding.stops
    assert finding.text.startswith("one broker")


def test_one_replica_on_several_brokers_is_warned_of_once() -> None:
    (finding,) = replication(brokers=3, replicas=1, in_sync="1", names=("candidates", "feeds"))
    assert not finding.stops
    assert finding.text.startswith("replicas of candidates, feeds: got 1, expected 3")


def test_three_replicas_of_which_one_is_enough_are_warned_of() -> None:
    (finding,) = replication(brokers=3, replicas=3, in_sync="1")
    assert not finding.stops
    assert "min.insync.replicas: got 1, expected 2" in finding.text


@pytest.mark.parametrize(("minutes", "count"), [(10_080, 0), (10_079, 1), (None, 0)])
def test_offsets_live_as_long_as_candidates(minutes: int | None, count: int) -> None:
    found = list(offsets_findings(minutes, ["candidates"], seen()))
    assert len(found) == count
    assert not any(finding.stops for finding in found)
