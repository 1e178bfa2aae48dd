"""The report of the trial of outcomes. The run itself is tests/integration/test_outcomes.py."""

import json

from tests.rig.outcome_judge import Verdict
from tests.rig.outcome_runs import Plan, Result
from tests.trial.outcomes import OutcomesReport


def report_of(*wrong: str) -> OutcomesReport:
    verdict = Verdict(
        feeds=1234, letters=7, letters_by_reason={"no-feed": 5, "no-item": 2}, wrong=list(wrong)
    )
    acts = ["kill a join", "kill the broker", "kill a join"]
    return OutcomesReport(Result(Plan(seed=9), verdict, acts, 1500, 20_000, 61.0))


def test_a_page_says_what_was_done_and_what_was_compared() -> None:
    page = "\n".join(report_of().lines())
    for part in (
        "seed 9",
        "kill a join x2, kill the broker x1",
        "1,500 requests, 20,000 interactions",
        "1,234 feed records and feeds",
        "7 dead letters: no-feed 5, no-item 2",
        "wrong   0",
    ):
        assert part in page


def test_everything_that_is_wrong_is_counted_and_the_first_of_it_is_shown() -> None:
    report = report_of(*(f"request r{number}: 0 records" for number in range(30)))
    assert list(report.wrong.values()) == [30]
    page = "\n".join(report.lines())
    assert "request r19: 0 records" in page
    assert "request r20: 0 records" not in page
    assert len(json.loads(json.dumps(report.as_json()))["verdict"]["wrong"]) == 30
