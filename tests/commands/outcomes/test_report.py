"""`trimtab outcomes report` on a real Kafka and a real Redis: what it reads, and what it can do
without. What it prints is tested in test_report_output.py.
"""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.commands.outcomes.building import HOUR, KEY, NOON, JoinTopics
from tests.commands.running import Ended, trimtab, write_surfaces
from tests.outcomes.building import sums
from workers.codec.formats import Format
from workers.codec.outcomes import encode_feed_outcomes, encode_sums_key
from workers.codec.user_outcomes import encode_user_sums, encode_user_sums_key
from workers.outcomes.user_sums import UserSums, UserSumsKey
from workers.settings import SETTINGS
from workers.steering.editor import SteeringEditor
from workers.streaming.topics import TopicPlan, create_topics
from workers.surfaces import load_surfaces

NO_REDIS = "redis://127.0.0.1:1"
PHASE = "0123456789ab"


class ReportTopics(JoinTopics):
    """The topics of the join and of the users stage, filled by the test."""

    def __init__(self, kafka: str) -> None:
        super().__init__(kafka)
        self.users = self.sums.replace("feed-outcomes", "user-outcomes")
        create_topics(kafka, [TopicPlan(self.users, 2)])

    def count_feeds(self, arm: str, take_rate: float, phase: str | None = PHASE) -> None:
        """Write 256,000 items seen by users of an arm in one hour."""
        key = KEY._replace(arm=arm, experiment=phase)
        of_arm = sums(seen=1_000, take_rate=take_rate, spread=0.2)
        value = encode_feed_outcomes(key, 0, NOON + 1, of_arm, Format.JSON)
        self.write(self.sums, encode_sums_key(key), value)

    def count_users(self, arm: str, take_rate: float, phase: str | None = PHASE) -> None:
        """Write that 1,000 new users saw these items."""
        key = UserSumsKey(HOUR, "home", arm, phase)
        takes = round(256_000 * take_rate)
        counted = UserSums(
            feeds=25_600, seen=256_000, takes=takes, users=1_000, new_users=1_000, last_offset=0
        )
        value = encode_user_sums(key, 0, counted)
        self.write(self.users, encode_user_sums_key(key), value)

    def report(self, *words: object, **environment: str) -> Ended:
        topics = {
            SETTINGS["kafka"].variable: self.cluster.bootstrap,
            SETTINGS["topic_feed_outcomes"].variable: self.sums,
            SETTINGS["topic_request_outcomes"].variable: self.requests,
            SETTINGS["topic_user_outcomes"].variable: self.users,
        }
        return trimtab("outcomes", "report", *words, **topics | environment)


@pytest.fixture
def report_topics(kafka: str) -> ReportTopics:
    return ReportTopics(kafka)


def printed(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.err
    document: dict[str, Any] = json.loads(ended.out)
    return document


def test_an_experiment_that_was_started_gets_its_verdict(
    report_topics: ReportTopics, redis_url: str, tmp_path: Path
) -> None:
    prefix = f"t{uuid.uuid4().hex[:8]}:"
    surfaces_file = write_surfaces(tmp_path)
    environment = {
        SETTINGS["redis"].variable: redis_url,
        SETTINGS["redis_prefix"].variable: prefix,
        SETTINGS["surfaces"].variable: str(surfaces_file),
    }
    for words in (
        ["weights", "set", "home", "--arm", "canary", "quality=0.2", "--reason", "bolder"],
        ["experiment", "start", "home", "canary=50", "--salt", "autumn"],
    ):
        ended = trimtab(*words, **environment)
        assert ended.code == 0, ended.err
    surface = load_surfaces(surfaces_file)["home"]
    with SteeringEditor(redis_url, prefix, 5.0) as editor:
        (phase,) = editor.read_phases(surface).experiments

    for arm, take_rate in (("control", 0.05), ("canary", 0.06)):
        report_topics.count_feeds(arm, take_rate, phase)
        report_topics.count_users(arm, take_rate, phase)
    report_topics.count_feeds("control", 0.5, phase=None)
    report_topics.count_users("control", 0.5, phase=None)

    document = printed(report_topics.report("home", "--json", **environment))
    assert (document["salt"], document["steering_missing"]) == ("autumn", None)
    assert document["warnings"] == []
    control, canary = document["arms"]
    assert (control["seen"], control["take_rate"]) == (256_000, 0.05)
    assert (canary["verdict"], canary["users"]) == ("better", 1_000)
    assert [found["shares"] for found in document["phases"]] == [{"control": 50.0, "canary": 50.0}]
    users = {"compared": 3, "differences": [], "not_compared": None}
    assert document["checks"]["users"] == users

    ended = report_topics.report("home", "--by", "phase", "--against", "canary", **environment)
    assert "control: -16.7 % (95 %: -21.2 to -11.9), worse" in ended.out.splitlines()
    assert f"phase {phase}: " in ended.out


def test_a_report_is_printed_without_redis_and_without_a_users_stage(
    report_topics: ReportTopics, tmp_path: Path
) -> None:
    report_topics.count_feeds("control", 0.05)
    report_topics.count_feeds("canary", 0.06)
    surfaces = str(write_surfaces(tmp_path))
    missing = {
        "--redis is not set": {},
        "surface 'home' is not in": {
            SETTINGS["redis"].variable: NO_REDIS,
            SETTINGS["surfaces"].variable: str(tmp_path / "surfaces-of-others.toml"),
        },
        "127.0.0.1:1": {
            SETTINGS["redis"].variable: NO_REDIS,
            SETTINGS["surfaces"].variable: surfaces,
        },
    }
    Path(tmp_path / "surfaces-of-others.toml").write_text(
        Path(surfaces).read_text().replace("surfaces.home", "surfaces.other")
    )
    for reason, environment in missing.items():
        document = printed(report_topics.report("home", "--json", **environment))
        assert reason in document["steering_missing"]
        _, canary = document["arms"]
        assert canary["verdict"] == "users not counted"
        assert canary["comparison"]["lift"] == pytest.approx(0.2)
    assert document["checks"]["users"]["not_compared"] == (
        "trimtab outcomes users has counted no feed of this surface"
    )


def test_tuned_for_takes_the_place_of_the_plan(report_topics: ReportTopics) -> None:
    for arm, take_rate in (("control", 0.05), ("canary", 0.06)):
        report_topics.count_feeds(arm, take_rate)
        report_topics.count_users(arm, take_rate)

    def verdict(*words: str) -> tuple[float, str]:
        document = printed(report_topics.report("home", "--json", *words))
        return document["tuned_for"], document["arms"][1]["verdict"]

    assert verdict() == (0.1, "plan not known")
    tuned_for, with_tuned_for = verdict("--tuned-for", "5%")
    assert tuned_for == 0.05
    assert with_tuned_for != "plan not known"


def test_nothing_to_report_ends_with_1_and_says_why(report_topics: ReportTopics) -> None:
    ended = report_topics.report("home")
    assert (ended.code, ended.out) == (1, "")
    assert "no feed is counted yet" in ended.err

    report_topics.count_feeds("control", 0.05)
    ended = report_topics.report("hone")
    assert (ended.code, ended.out) == (1, "")
    assert "surface: got 'hone', expected one that is counted" in ended.err

    ended = report_topics.report("home", "--against", "canary")
    assert (ended.code, ended.out) == (1, "")
    assert "against: got 'canary', expected an arm with counted feeds: control" in ended.err

    ended = report_topics.report("home", "--since", "1d")
    assert (ended.code, ended.out) == (1, "")
    assert "since then" in ended.err
