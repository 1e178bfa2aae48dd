"""`trimtab experiment plan`: how much traffic a verdict would need."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.commands.outcomes.building import FEED, HOUR, KEY, JoinTopics
from tests.commands.running import Ended, trimtab
from workers.codec.formats import Format
from workers.codec.outcomes import encode_feed_outcomes, encode_sums_key
from workers.commands.experiment_plan import plan_document, plan_lines, plan_shares
from workers.errors import Failure
from workers.outcomes.records import HOUR_MS
from workers.outcomes.sums import ClusterSums, Sums
from workers.outcomes.traffic import Traffic
from workers.settings import SETTINGS

TRAFFIC = Traffic(
    seen=2_800_000,
    takes=140_000,
    rate=0.05,
    design_effect=3.0,
    missing=None,
    first_hour=HOUR,
    end_hour=HOUR + 7 * 24,
    seen_per_day=400_000.0,
)


def lines(
    traffic: Traffic = TRAFFIC, lift: float = 0.03, shares: tuple[float, ...] = (0.05,)
) -> str:
    measured = plan_shares("home", traffic, lift=lift, tuned_for=None, shares=shares)
    shown = plan_lines(measured)
    assert [line for line in shown if len(line) > 100] == []
    return "\n".join(shown)


def test_the_plan_says_how_much_each_share_needs_and_what_it_rests_on() -> None:
    assert lines(shares=(0.05, 0.5)).splitlines() == [
        "home: to find a lift of +3.0 %",
        "arm's share  seen if looked at once  days  seen if looked at always  days",
        "        5 %                 538,996    27                 1,218,859    61",
        "       50 %               1,024,092   5.1                 2,315,832    12",
        "",
        "So many items must the readers of the arm see until a lift of this size is found with a probability",
        "of 80 %. Control has the rest of the users. Looking always costs this much if the experiment is",
        "tuned for lifts of 10 %; tuned for the lift that you look for, it costs least.",
        "Measured on 2,800,000 items seen in feeds of control and 140,000 takes: take-rate 5.00 %, design",
        "effect 3.0. (The variance is larger by this factor than if all items seen were independent, because",
        "readers differ and come back.)",
        "Traffic was measured from 2025-11-23 12:00Z to 2025-11-30 12:00Z: 400,000 items seen a day.",
    ]


def needed(lift: float) -> dict[str, float]:
    """What an arm with half of the users needs."""
    measured = plan_shares("home", TRAFFIC, lift=lift, tuned_for=None, shares=[0.5])
    rows: Any = plan_document(measured)["shares"]
    row: dict[str, float] = rows[0]
    return row


def test_half_of_the_users_need_about_a_million_seen_and_more_than_twice_that_under_peeking() -> (
    None
):
    row = needed(0.03)
    assert row["seen_once"] == pytest.approx(1.0e6, rel=0.05)
    assert row["seen_always"] / row["seen_once"] == pytest.approx(2.3, rel=0.05)
    assert row["days_once"] == pytest.approx(row["seen_once"] / 200_000, rel=1e-6)


def test_a_larger_lift_needs_less_and_a_negative_one_is_as_good() -> None:
    assert needed(0.06)["seen_once"] < needed(0.03)["seen_once"] / 3
    assert needed(-0.03)["seen_once"] == pytest.approx(needed(0.03)["seen_once"], rel=0.1)


def test_without_a_whole_hour_the_days_are_not_known() -> None:
    shown = lines(TRAFFIC._replace(seen_per_day=None, end_hour=HOUR))
    assert "How many days that takes is not known yet" in shown
    assert shown.splitlines()[2].split()[-1] == "-"


def test_less_than_a_day_is_said_to_mislead() -> None:
    shown = " ".join(lines(TRAFFIC._replace(end_hour=HOUR + 5)).split())
    assert "expected 24 whole hours, got 5" in shown


def test_too_little_is_an_error_that_says_what_is_missing() -> None:
    few = TRAFFIC._replace(
        rate=None, design_effect=None, missing="takes: got 7, expected at least 100"
    )
    with pytest.raises(Failure, match=r"home: too little is counted .*: takes: got 7, expected"):
        lines(few)


class Counted:
    """Sums of several hours on a Kafka."""

    def __init__(self, topics: JoinTopics) -> None:
        self.topics = topics

    def write_hours(self, count: int) -> None:
        """100 items seen and 10 taken in each cluster and hour, the last hour is not over."""
        for hour in range(HOUR, HOUR + count):
            key = KEY._replace(hour=hour)
            cluster = ClusterSums(feeds=10, items=100, seen=100, takes=10)
            sums = Sums(clusters={number: replace(cluster) for number in range(256)})
            value = encode_feed_outcomes(key, 0, hour * HOUR_MS + 1, sums, Format.JSON)
            self.topics.write(self.topics.sums, encode_sums_key(key), value)

    def run(self, *words: object) -> Ended:
        environment = {
            SETTINGS["kafka"].variable: self.topics.cluster.bootstrap,
            SETTINGS["topic_feed_outcomes"].variable: self.topics.sums,
        }
        return trimtab("experiment", "plan", *words, **environment)


def test_the_command_measures_the_surface_itself(kafka: str) -> None:
    counted = Counted(JoinTopics(kafka))
    counted.topics.write_sums(FEED, key=KEY._replace(surface="search"))
    ended = counted.run("home", "--lift", "5%")
    assert (ended.code, ended.out) == (1, "")
    assert "surface: got 'home', expected one that is counted" in ended.err

    counted.write_hours(4)
    ended = counted.run("home", "--lift", "5%", "--share", "10%", "--share", "50", "--json")
    assert ended.code == 0, ended.err
    printed: dict[str, Any] = json.loads(ended.out)
    assert printed["measured"] == {
        "seen": 102_400,
        "takes": 10_240,
        "take_rate": 0.1,
        "design_effect": 1.0,
        "from": (HOUR + 1) * HOUR_MS,
        "until": (HOUR + 3) * HOUR_MS,
        "seen_per_day": 24 * 25_600,
    }
    assert [row["share"] for row in printed["shares"]] == [0.1, 0.5]
    assert (printed["lift"], printed["tuned_for"], printed["power"]) == (0.05, 0.1, 0.8)

    ended = counted.run("search", "--lift", "5%")
    assert (ended.code, ended.out) == (1, "")
    assert "too little is counted to plan an experiment: takes: got 1," in ended.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lift", "much"], "got 'much', expected a percentage"),
        (["--lift", "0"], "got 0, expected a lift"),
        (["--lift", "-100%"], "expected a percentage above -100"),
        (["--lift", "3%", "--share", "100%"], "expected a percentage above 0 and below 100"),
        (["--lift", "3%", "--tuned-for", "x"], "--tuned-for: tuned_for: got 'x'"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_read(words: list[str], message: str) -> None:
    ended = trimtab("experiment", "plan", "home", *words, TRIMTAB_KAFKA="127.0.0.1:1")
    assert ended.code == 2
    assert message in ended.err
