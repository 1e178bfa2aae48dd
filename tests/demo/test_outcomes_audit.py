"""What the demo of outcomes claims, and that each claim can fail."""

import json
from dataclasses import replace
from typing import Any

import click
import pytest

from demo.audit import Audit
from demo.outcomes_audit import (
    Answer,
    Books,
    Compared,
    OutcomesResult,
    Stop,
    Totals,
    follow_stop,
)
from demo.terminal import WIDTH, command_lines, compared_lines, fact_lines, look_lines
from workers.steering.history import HistoryEntry

CLEAN = Audit(
    requests=10,
    feeds=10,
    lost=[],
    doubled=[],
    torn=[],
    partial=[],
    by_weights={},
    by_model={},
)
BOOKS = Books(
    interactions=107,
    refused=2,
    counted=105,
    over_feeds=Totals(10, 98, 5),
    over_users=Totals(10, 98, 5),
)
STOP = Stop(
    revision=5,
    actor="guard-rail",
    reason="take_rate >= -10%: broken",
    after_ms=20_000,
    back_ms=7,
    first_ms=90,
    users=3,
    feeds_after=12,
    elsewhere=0,
)
BETTER = Compared("canary", 0.12, 0.12, lift=0.3, low=0.1, high=0.5, true_lift=0.29)
HARMFUL = Compared("risky", 0.05, 0.05, lift=-0.5, low=-0.6, high=-0.2, true_lift=-0.45)
GOOD = OutcomesResult(
    audit=CLEAN,
    winner="canary",
    harmful="risky",
    bound=-0.1,
    books=BOOKS,
    stop=STOP,
    decided_after_ms=15_000,
    compared={"canary": BETTER, "risky": HARMFUL},
    promoted=True,
)


@pytest.mark.parametrize(
    "changes",
    [
        {"audit": replace(CLEAN, lost=["r1"])},
        {"audit": replace(CLEAN, doubled=["r1"])},
        {"books": replace(BOOKS, counted=104)},
        {"books": replace(BOOKS, over_users=Totals(10, 98, 4))},
        {"books": replace(BOOKS, over_feeds=Totals(9, 98, 5), over_users=Totals(9, 98, 5))},
        {"stop": replace(STOP, back_ms=5_001)},
        {"stop": replace(STOP, elsewhere=1)},
        {"stop": replace(STOP, feeds_after=0)},
        {"compared": {"canary": replace(BETTER, true_lift=-0.01), "risky": HARMFUL}},
        {"compared": {"canary": BETTER, "risky": replace(HARMFUL, true_lift=-0.09)}},
        {"promoted": False},
        {"trouble": "Not seen within 120 s: canary better"},
    ],
    ids=str,
)
def test_a_result_is_good_only_if_every_fact_holds(changes: dict[str, Any]) -> None:
    assert GOOD.good
    assert not replace(GOOD, **changes).good


def test_an_interval_that_misses_the_truth_is_said_and_is_no_fault() -> None:
    missed = replace(BETTER, true_lift=0.6)
    assert replace(GOOD, compared={"canary": missed, "risky": HARMFUL}).good
    table = compared_lines([missed, HARMFUL])
    assert "outside" in table[1]
    assert "inside" in table[2]


def test_a_result_that_was_cut_short_claims_only_what_was_counted() -> None:
    cut_short = OutcomesResult(
        audit=CLEAN, winner="canary", harmful="risky", bound=-0.1, books=BOOKS, trouble="no time"
    )
    assert not cut_short.good
    assert [fact.holds for fact in cut_short.facts()] == [True, True, True]
    document = json.loads(json.dumps(cut_short.document()))
    assert document["trouble"] == "no time"
    assert document["stop"] is None


def test_the_json_has_the_truth_beside_the_report() -> None:
    document = json.loads(json.dumps(GOOD.document()))
    assert document["arms"]["canary"] == {
        "take_rate": 0.12,
        "true_take_rate": 0.12,
        "lift": 0.3,
        "interval": {"low": 0.1, "high": 0.5},
        "true_lift": 0.29,
    }
    assert document["stop"]["actor"] == "guard-rail"
    assert len(document["facts"]) == 8
    assert all(fact["holds"] for fact in document["facts"])


# What becomes of the users of an arm that was stopped

ENTRY = HistoryEntry(
    revision=5,
    at=1_000,
    document="experiment",
    actor="guard-rail",
    reason="broken",
    before={},
    after={},
    version=None,
    refused=None,
)


def answer(user_id: str, arm: str, ranked_at: int) -> Answer:
    return Answer(f"r{ranked_at}", user_id, arm, weights="v", ranked_at=ranked_at)


def test_users_of_a_stopped_arm_are_followed_until_they_are_back_in_control() -> None:
    answers = [
        answer("u1", "risky", 900),
        answer("u2", "risky", 950),
        answer("u1", "risky", 1_040),  # a worker that had not seen the stop yet
        answer("u2", "control", 1_020),
        answer("u1", "control", 1_100),
        answer("u3", "canary", 1_200),  # never was in the arm
        answer("u2", "control", 1_300),
    ]
    stop = follow_stop(ENTRY, started_at=200, feeds=answers, arm="risky")
    assert (stop.after_ms, stop.back_ms, stop.first_ms) == (800, 40, 100)
    assert (stop.users, stop.feeds_after, stop.elsewhere) == (2, 2, 0)


def test_a_user_of_a_stopped_arm_who_is_in_another_arm_is_counted() -> None:
    answers = [answer("u1", "risky", 900), answer("u1", "canary", 1_100)]
    stop = follow_stop(ENTRY, started_at=200, feeds=answers, arm="risky")
    assert (stop.back_ms, stop.feeds_after, stop.elsewhere) == (0, 1, 1)


def test_a_long_command_is_broken_before_its_options() -> None:
    guards = ["--guard", "take_rate >= -10%", "--guard", "hide <= +50%"]
    lines = command_lines(
        [
            "trimtab",
            "experiment",
            "start",
            "home",
            "canary=40",
            "--salt",
            "demo-7",
            *guards,
            *guards,
        ]
    )
    assert max(map(len, lines)) <= WIDTH
    assert lines[0] == "  $ trimtab \\"
    assert lines[1].endswith(" \\")
    assert lines[2].lstrip().startswith("--guard")


def test_what_is_printed_fits_and_says_what_is_wrong() -> None:
    wrong = replace(
        GOOD, books=replace(BOOKS, over_users=Totals(10_000_000, 98_000_000, 5_000_000))
    )
    facts = fact_lines(wrong.facts())
    assert sum("WRONG" in line for line in facts) == 1
    looked = look_lines(4.06, ["canary: better", "a sentence of many words " * 10])
    assert looked[0] == "    4.1 s  canary: better"
    table = compared_lines([BETTER, HARMFUL])
    assert max(len(click.unstyle(line)) for line in (*facts, *looked, *table)) <= WIDTH
