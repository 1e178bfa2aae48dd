"""Open Bandit through real topics, the real join and the report.

Counts are exactly what the file says. The numbers of the report are those of the textbook, which
are computed here from single feeds, by formulas written apart from the project's.
"""

import hashlib
import json
import math
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.commands.running import Ended, trimtab
from workers.codec.outcomes import RequestOutcomes, decode_request_outcomes
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import read_topic

CLICKS = {
    "all": {"random": 38, "bts": 42},
    "men": {"random": 46, "bts": 69},
    "women": {"random": 46, "bts": 46},
}
HOUR_MS = 3_600_000

Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def name() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


def test_every_count_and_interval_is_what_the_file_says(
    kafka: str, name: str, tmp_path: Path
) -> None:
    def run(*words: object) -> Ended:
        ended = trimtab("outcomes", *words, TRIMTAB_KAFKA=kafka, TRIMTAB_HOME=str(tmp_path))
        assert ended.code == 0, ended.err
        return ended

    ended = run("replay", "open-bandit", "--name", name)
    assert "Every count is what the file says." in ended.out
    counts_are_those_of_the_file(run, name)

    cluster = Cluster(kafka)
    assert read_topic(cluster, f"{name}.interactions.dead-letters") == []
    closed = [
        decode_request_outcomes(record.value, record.headers)
        for record in read_topic(cluster, f"{name}.request-outcomes")
    ]
    assert len({feed.request_id for feed in closed}) == len(closed) == 60_000
    assert sum(feed.takes for feed in closed) == 287
    report_is_that_of_the_textbook(run, name, [feed for feed in closed if feed.surface == "men"])


def counts_are_those_of_the_file(run: Run, name: str) -> None:
    topic = ("--topic-feed-outcomes", f"{name}.feed-outcomes")
    for surface, clicks in CLICKS.items():
        rows = json.loads(run("counts", surface, "--by", "arm", *topic, "--json").out)["rows"]
        assert {row["label"]: row["takes"] for row in rows} == clicks
        for row in rows:
            assert (row["feeds"], row["items"], row["seen"]) == (10_000, 10_000, 10_000)

        by_position = json.loads(run("counts", surface, "--by", "position", *topic, "--json").out)
        assert [row["label"] for row in by_position["rows"]] == [0, 1, 2]
        assert sum(row["seen"] for row in by_position["rows"]) == 20_000
        assert sum(row["takes"] for row in by_position["rows"]) == sum(clicks.values())


def report_is_that_of_the_textbook(run: Run, name: str, men: list[RequestOutcomes]) -> None:
    """Without Redis and without a users stage."""
    topic = ("--topic-feed-outcomes", f"{name}.feed-outcomes")
    report = json.loads(run("report", "men", "--against", "random", *topic, "--json").out)
    arms = {row["arm"]: row for row in report["arms"]}
    assert {arm: row["takes"] for arm, row in arms.items()} == CLICKS["men"]
    for arm, row in arms.items():
        assert row["interval"] == pytest.approx(rate_interval(CLICKS["men"][arm], 10_000))
    assert arms["random"]["comparison"] is None

    comparison = arms["bts"]["comparison"]
    expected = textbook(men, tau=0.1)
    assert comparison["lift"] == pytest.approx(0.5, abs=1e-9)
    assert comparison["interval"]["low"] == pytest.approx(expected["low"], rel=1e-6)
    assert comparison["interval"]["high"] == pytest.approx(expected["high"], rel=1e-6)
    assert comparison["p"] == pytest.approx(expected["p"], rel=1e-6)
    assert 0.6 < comparison["p"] < 0.75
    assert arms["bts"]["verdict"] == "few takes"

    text = run("report", "men", "--against", "random", *topic).out
    (sentence,) = [line for line in text.splitlines() if line.startswith("bts: ")]
    assert sentence.startswith("bts: +50.0 % (95 %: ")
    assert sentence.endswith("), fewer than 100 takes")


def textbook(feeds: Sequence[RequestOutcomes], tau: float) -> dict[str, float]:
    """The always-valid interval of the lift of `bts` over `random`, and p: the least one at the end
    of any hour.
    """
    found: dict[str, float] = {}
    least_p = 1.0
    for hour in sorted({feed.published_at // HOUR_MS for feed in feeds}):
        until = [feed for feed in feeds if feed.published_at // HOUR_MS <= hour]
        treatment, variance_t = rate_and_variance([f for f in until if f.arm == "bts"])
        control, variance_c = rate_and_variance([f for f in until if f.arm == "random"])
        if not treatment or not control:
            continue

        theta = math.log(treatment / control)
        square = variance_t / treatment**2 + variance_c / control**2
        both = square + tau**2
        e_value = math.sqrt(square / both) * math.exp(theta**2 * tau**2 / (2 * square * both))
        least_p = min(least_p, 1 / e_value)
        half = math.sqrt(square * both / tau**2 * 2 * math.log(math.sqrt(both / square) / 0.05))
        found = {
            "low": math.exp(theta - half) - 1,
            "high": math.exp(theta + half) - 1,
            "p": least_p,
        }
    return found


def rate_interval(takes: int, seen: int) -> dict[str, float]:
    """The rates p that are 1.96 standard errors of their own from the measured one: the roots of
    (takes / seen - p)^2 = 1.96^2 p (1 - p) / seen.
    """
    rate = takes / seen
    square = 1.959963984540054**2 / seen
    half = math.sqrt((2 * rate + square) ** 2 - 4 * (1 + square) * rate**2)
    low = (2 * rate + square - half) / (2 * (1 + square))
    high = (2 * rate + square + half) / (2 * (1 + square))
    return {"low": low, "high": high}


def rate_and_variance(feeds: Sequence[RequestOutcomes]) -> tuple[float, float]:
    """The take-rate, and its variance over 256 clusters of users by the delta method."""
    takes = [0] * 256
    seen = [0] * 256
    for feed in feeds:
        digest = hashlib.sha256(f"cluster:{feed.user_id}".encode()).hexdigest()
        cluster = int(digest[:16], 16) % 256
        takes[cluster] += feed.takes
        seen[cluster] += feed.seen
    rate = sum(takes) / sum(seen)
    squares = sum((m - rate * d) ** 2 for m, d in zip(takes, seen, strict=True))
    return rate, squares * 256 / 255 / sum(seen) ** 2
