"""The traffic and the variance of a surface, for planning."""

from collections.abc import Mapping

import pytest

from tests.outcomes.building import HOUR, arm_hour, counts
from workers.outcomes.cluster_counts import ClusterCounts
from workers.outcomes.records import HOUR_MS, ArmHour
from workers.outcomes.traffic import Traffic, measure_traffic


def measured(feeds: Mapping[ArmHour, ClusterCounts], closed_until: int) -> Traffic:
    return measure_traffic(feeds, [None, 0, closed_until])


def hours_of(count: int, **changes: float) -> dict[ArmHour, ClusterCounts]:
    """Feeds of control in consecutive hours, 256 items seen in the first, twice as many in the
    second and so on.
    """
    feeds = {}
    for place in range(count):
        feeds[arm_hour("control", HOUR + place, None)] = counts(seen=place + 1, **changes)
    return feeds


def test_traffic_is_that_of_whole_hours_without_the_first_and_the_last() -> None:
    traffic = measured(hours_of(4, take_rate=0.5), (HOUR + 3) * HOUR_MS + 1_800_000)
    assert (traffic.first_hour, traffic.end_hour, traffic.hours) == (HOUR + 1, HOUR + 3, 2)
    assert traffic.seen_per_day == 24 * 256 * (2 + 3) / 2


def test_whole_days_are_measured_if_there_are_any() -> None:
    traffic = measured(hours_of(60, take_rate=0.5), (HOUR + 60) * HOUR_MS)
    assert (traffic.first_hour, traffic.end_hour) == (HOUR + 12, HOUR + 60)
    assert traffic.seen_per_day == 256 * sum(range(13, 61)) / 2


@pytest.mark.parametrize("closed_until", [HOUR * HOUR_MS + 5, (HOUR + 2) * HOUR_MS - 1])
def test_without_a_whole_hour_there_is_no_traffic_yet(closed_until: int) -> None:
    traffic = measured(hours_of(2, take_rate=0.5), closed_until)
    assert (traffic.hours, traffic.seen_per_day) == (0, None)
    assert traffic.missing is None


def test_all_arms_are_traffic_and_only_control_has_the_rate() -> None:
    feeds = {
        arm_hour("control", HOUR, None): counts(seen=1_000, take_rate=0.05),
        arm_hour("control", HOUR + 1): counts(seen=1_000, take_rate=0.05),
        arm_hour("canary", HOUR + 1): counts(seen=1_000, take_rate=0.5),
    }
    traffic = measured(feeds, (HOUR + 2) * HOUR_MS)
    assert traffic.seen_per_day == 24 * 512_000
    assert (traffic.seen, traffic.takes, traffic.rate) == (512_000, 25_600, 0.05)


def test_the_design_effect_is_the_variance_beside_that_of_independent_items() -> None:
    # Half of the clusters take 6 %, the others 4 %: the rates vary by (1 %)^2 between clusters.
    feeds = {arm_hour("control"): counts(seen=1_000, take_rate=0.05, spread=0.2)}
    traffic = measured(feeds, HOUR * HOUR_MS)
    assert traffic.design_effect == pytest.approx(1_000 * 0.01**2 / (0.05 * 0.95) * 256 / 255)


def test_readers_who_differ_less_than_chance_have_a_design_effect_of_1() -> None:
    feeds = {arm_hour("control"): counts(seen=1_000, take_rate=0.05)}
    assert measured(feeds, HOUR * HOUR_MS).design_effect == 1.0


@pytest.mark.parametrize(
    ("feeds", "missing"),
    [
        (counts(seen=1_000, take_rate=0.0), "takes: got 0, expected at least 100"),
        (counts(seen=10, take_rate=1.0), "takes: got 2,560 of as many items seen"),
        (
            counts(seen=1_000, take_rate=0.5, clusters=29),
            "users: got some in 29 of the 256 clusters",
        ),
    ],
)
def test_too_little_is_said_to_be_missing(feeds: ClusterCounts, missing: str) -> None:
    traffic = measured({arm_hour("control"): feeds}, HOUR * HOUR_MS)
    assert str(traffic.missing).startswith(missing)
    assert (traffic.rate, traffic.design_effect) == (None, None)


def test_the_feeds_of_an_arm_alone_have_no_rate_of_control() -> None:
    traffic = measured({arm_hour("canary"): counts(seen=1_000, take_rate=0.05)}, HOUR * HOUR_MS)
    assert traffic.missing == "takes: got 0, expected at least 100"
