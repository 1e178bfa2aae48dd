"""Who publishes with whom, and when, after transactions that failed. The clock is a number that the
test moves.
"""

from structlog.testing import capture_logs

from workers.streaming.publisher import TransactionAborted
from workers.streaming.retry import Retries

ALL = [0, 1, 2]


def refusal(*partitions: int) -> TransactionAborted:
    return TransactionAborted(
        "too large", cause="TOO_LARGE", partitions=partitions, blames_records=True
    )


def rebalance() -> TransactionAborted:
    return TransactionAborted("generation", cause="ILLEGAL_GENERATION")


def fail_together(retries: Retries, failure: TransactionAborted, times: int) -> float:
    """Fail until nobody may publish together any more, or `times` times; return the time by then."""
    now = 0.0
    for _ in range(times):
        while retries.groups(ALL, now)[:1] != [ALL]:
            now += 0.05
            assert now < 60
        retries.failed(ALL, failure, now)
    return now


def test_everybody_publishes_together_as_long_as_nothing_fails() -> None:
    retries = Retries()
    retries.succeeded(ALL)
    assert retries.groups(ALL, 0.0) == [ALL]
    assert retries.groups([], 0.0) == []


def test_the_first_failure_is_tried_again_at_once_and_the_next_ones_after_pauses_that_grow() -> (
    None
):
    retries = Retries()
    retries.failed(ALL, rebalance(), 0.0)
    assert retries.groups(ALL, 0.0) == [ALL]
    retries.failed(ALL, rebalance(), 0.0)
    assert retries.groups(ALL, 0.09) == []
    assert retries.groups(ALL, 0.11) == [ALL]
    retries.failed(ALL, rebalance(), 1.0)
    assert retries.groups(ALL, 1.15) == []
    assert retries.groups(ALL, 1.25) == [ALL]


def test_pauses_have_a_longest_one_and_end_with_success() -> None:
    retries = Retries()
    now = fail_together(retries, rebalance(), 30)
    assert retries.groups(ALL, now + 1.9) == []
    assert retries.groups(ALL, now + 2.1) == [ALL]
    retries.succeeded(ALL)
    retries.failed(ALL, rebalance(), now)
    assert retries.groups(ALL, now) == [ALL]


def test_a_cause_that_is_not_in_the_records_never_parts_anybody() -> None:
    retries = Retries()
    now = fail_together(retries, rebalance(), 30)
    assert retries.groups(ALL, now + 3) == [ALL]
    assert retries.isolated == {}


def test_after_three_refusals_only_the_partitions_that_were_named_are_tried_by_themselves() -> None:
    retries = Retries()
    now = fail_together(retries, refusal(1), 3)
    assert retries.groups(ALL, now) == [[0, 2], [1]]


def test_where_nobody_knows_whose_record_it_was_each_is_tried_by_itself() -> None:
    retries = Retries()
    now = fail_together(retries, refusal(), 3)
    assert retries.groups(ALL, now) == [[0], [1], [2]]
    retries.succeeded([0])
    retries.failed([1], refusal(), now)
    retries.succeeded([2])
    assert retries.groups(ALL, now) == [[0, 2]]
    assert [retries.is_failing(number) for number in ALL] == [False, True, False]


def test_an_isolated_partition_is_tried_after_waits_that_grow_and_comes_back_when_it_goes_through() -> (
    None
):
    retries = Retries()
    now = fail_together(retries, refusal(1), 3)
    waits = []
    for _ in range(6):
        retries.failed([1], refusal(1), now)
        began = now
        while [1] not in retries.groups(ALL, now):
            now += 0.25
        waits.append(round(now - began, 2))
    assert waits == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert retries.isolated[1].error == "too large"
    retries.succeeded([1])
    assert retries.groups(ALL, now) == [ALL]


def test_a_rebalance_while_a_partition_is_tried_by_itself_is_not_held_against_it() -> None:
    retries = Retries()
    now = fail_together(retries, refusal(1), 3)
    retries.failed([1], rebalance(), now)
    assert not retries.is_failing(1)
    assert [1] in retries.groups(ALL, now + 0.2)


def test_a_partition_that_goes_elsewhere_is_forgotten() -> None:
    retries = Retries()
    now = fail_together(retries, refusal(1), 3)
    retries.keep(ALL)
    assert retries.groups(ALL, now) != [ALL]
    retries.keep([0, 2])
    assert retries.groups(ALL, now) == [ALL]


def test_causes_that_take_turns_are_paused_for_and_part_whom_they_name_as_one_cause_would() -> None:
    other = TransactionAborted(
        "not allowed", cause="NOT_ALLOWED", partitions=[2], blames_records=True
    )
    retries = Retries()
    now = 0.0
    with capture_logs() as logged:
        for turn in range(6):
            while retries.groups(ALL, now)[:1] not in ([ALL], [[0, 2]]):
                now += 0.05
            together = retries.groups(ALL, now)[0]
            retries.failed(together, other if turn % 2 else refusal(1), now)
    assert retries.isolated.keys() == {1, 2}
    assert now > 0.1 + 0.2 + 0.4
    assert [line["cause"] for line in logged] == ["TOO_LARGE", "NOT_ALLOWED"]
