"""Who publishes with whom, and when, after transactions that failed. The clock is a number that the
test moves.
"""

from structlog.testing import capture_logs

from workers.streaming.failures import Failures
from workers.streaming.publisher import TransactionAborted

ALL = [0, 1, 2]


def refusal(*partitions: int) -> TransactionAborted:
    return TransactionAborted(
        "too large", cause="TOO_LARGE", partitions=partitions, blames_records=True
    )


def rebalance() -> TransactionAborted:
    return TransactionAborted("generation", cause="ILLEGAL_GENERATION")


def fail_together(failures: Failures, failure: TransactionAborted, times: int) -> float:
    """Fail until nobody may publish together any more, or `times` times; return the time by then."""
    now = 0.0
    for _ in range(times):
        while failures.groups(ALL, now)[:1] != [ALL]:
            now += 0.05
            assert now < 60
        failures.failed(ALL, failure, now)
    return now


def test_everybody_publishes_together_as_long_as_nothing_fails() -> None:
    failures = Failures()
    failures.succeeded(ALL)
    assert failures.groups(ALL, 0.0) == [ALL]
    assert failures.groups([], 0.0) == []


def test_the_first_failure_is_tried_again_at_once_and_the_next_ones_after_pauses_that_grow() -> (
    None
):
    failures = Failures()
    failures.failed(ALL, rebalance(), 0.0)
    assert failures.groups(ALL, 0.0) == [ALL]
    failures.failed(ALL, rebalance(), 0.0)
    assert failures.groups(ALL, 0.09) == []
    assert failures.groups(ALL, 0.11) == [ALL]
    failures.failed(ALL, rebalance(), 1.0)
    assert failures.groups(ALL, 1.15) == []
    assert failures.groups(ALL, 1.25) == [ALL]


def test_pauses_have_a_longest_one_and_end_with_success() -> None:
    failures = Failures()
    now = fail_together(failures, rebalance(), 30)
    assert failures.groups(ALL, now + 1.9) == []
    assert failures.groups(ALL, now + 2.1) == [ALL]
    failures.succeeded(ALL)
    failures.failed(ALL, rebalance(), now)
    assert failures.groups(ALL, now) == [ALL]


def test_a_cause_that_is_not_in_the_records_never_parts_anybody() -> None:
    failures = Failures()
    now = fail_together(failures, rebalance(), 30)
    assert failures.groups(ALL, now + 3) == [ALL]
    assert failures.isolated == {}


def test_after_three_refusals_only_the_partitions_that_were_named_are_tried_by_themselves() -> None:
    failures = Failures()
    now = fail_together(failures, refusal(1), 3)
    assert failures.groups(ALL, now) == [[0, 2], [1]]


def test_where_nobody_knows_whose_record_it_was_each_is_tried_by_itself() -> None:
    failures = Failures()
    now = fail_together(failures, refusal(), 3)
    assert failures.groups(ALL, now) == [[0], [1], [2]]
    failures.succeeded([0])
    failures.failed([1], refusal(), now)
    failures.succeeded([2])
    assert failures.groups(ALL, now) == [[0, 2]]
    assert [failures.is_failing(number) for number in ALL] == [False, True, False]


def test_an_isolated_partition_is_tried_after_waits_that_grow_and_comes_back_when_it_goes_through() -> (
    None
):
    failures = Failures()
    now = fail_together(failures, refusal(1), 3)
    waits = []
    for _ in range(6):
        failures.failed([1], refusal(1), now)
        began = now
        while [1] not in failures.groups(ALL, now):
            now += 0.25
        waits.append(round(now - began, 2))
    assert waits == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert failures.isolated[1].error == "too large"
    failures.succeeded([1])
    assert failures.groups(ALL, now) == [ALL]


def test_a_rebalance_while_a_partition_is_tried_by_itself_is_not_held_against_it() -> None:
    failures = Failures()
    now = fail_together(failures, refusal(1), 3)
    failures.failed([1], rebalance(), now)
    assert not failures.is_failing(1)
    assert [1] in failures.groups(ALL, now + 0.2)


def test_a_partition_that_goes_elsewhere_is_forgotten() -> None:
    failures = Failures()
    now = fail_together(failures, refusal(1), 3)
    failures.keep(ALL)
    assert failures.groups(ALL, now) != [ALL]
    failures.keep([0, 2])
    assert failures.groups(ALL, now) == [ALL]


def test_causes_that_take_turns_are_paused_for_and_part_whom_they_name_as_one_cause_would() -> None:
    other = TransactionAborted(
        "not allowed", cause="NOT_ALLOWED", partitions=[2], blames_records=True
    )
    failures = Failures()
    now = 0.0
    with capture_logs() as logged:
        for turn in range(6):
            while failures.groups(ALL, now)[:1] not in ([ALL], [[0, 2]]):
                now += 0.05
            together = failures.groups(ALL, now)[0]
            failures.failed(together, other if turn % 2 else refusal(1), now)
    assert failures.isolated.keys() == {1, 2}
    assert now > 0.1 + 0.2 + 0.4
    assert [line["cause"] for line in logged] == ["TOO_LARGE", "NOT_ALLOWED"]
