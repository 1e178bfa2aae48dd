"""Which records of `user-outcomes` count."""

from workers.outcomes.user_sums import (
    LatestUserSums,
    PartitionUserSums,
    UserProgress,
    UserSums,
    UserSumsKey,
    add_user_sums,
)

KEY = UserSumsKey(hour=489_972, surface="home", arm="canary", experiment="0123456789ab")


def test_partitions_add_up_and_a_total_has_no_last_offset() -> None:
    first = UserSums(
        feeds=3, seen=9, takes=2, users=2, new_users=1, misassigned=1, unchecked=1, last_offset=7
    )
    second = UserSums(feeds=1, seen=4, takes=1, users=1, new_users=1, last_offset=90)
    expected = UserSums(feeds=4, seen=13, takes=3, users=3, new_users=2, misassigned=1, unchecked=1)
    assert add_user_sums([first, second]) == expected

    latest = LatestUserSums()
    latest.add(PartitionUserSums(KEY, 0, first))
    latest.add(PartitionUserSums(KEY, 1, second))
    assert latest.totals() == {KEY: expected}


def test_of_one_key_and_partition_the_record_that_is_further_on_counts() -> None:
    latest = LatestUserSums()
    for feeds, last_offset in [(1, 5), (3, 9), (2, 7)]:
        latest.add(PartitionUserSums(KEY, 0, UserSums(feeds=feeds, last_offset=last_offset)))
    assert latest.totals()[KEY].feeds == 3


def test_progress_never_goes_back_and_is_zero_before_any_record() -> None:
    latest = LatestUserSums()
    assert latest.next_offset(0) == 0
    for next_offset in (5, 9, 7):
        latest.add(UserProgress(0, next_offset))
    assert latest.next_offset(0) == 9
    assert latest.next_offset(1) == 0
