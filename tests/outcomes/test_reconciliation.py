"""Whether the sums over users are those over feeds."""

from workers.outcomes.reconciliation import FeedTotals, reconcile, totals_of
from workers.outcomes.records import ArmHour
from workers.outcomes.sums import ClusterSums, Sums
from workers.outcomes.user_sums import UserSums

CONTROL = ArmHour(490_000, "home", "control", "0123456789ab")
CANARY = CONTROL._replace(arm="canary")
LATER = CONTROL._replace(hour=490_001)
TEN = FeedTotals(feeds=10, seen=50, takes=5)
ELEVEN = FeedTotals(feeds=11, seen=55, takes=5)
TWELVE = FeedTotals(feeds=12, seen=60, takes=6)


def users(totals: FeedTotals) -> UserSums:
    return UserSums(feeds=totals.feeds, seen=totals.seen, takes=totals.takes, users=3)


def test_totals_are_those_of_all_clusters() -> None:
    sums = Sums({3: ClusterSums(feeds=1, seen=2, takes=1), 7: ClusterSums(feeds=2, seen=5)})
    assert totals_of(sums) == (3, 7, 1)
    assert totals_of(Sums()) == (0, 0, 0)


def test_the_same_numbers_agree() -> None:
    feeds = {CONTROL: TEN, CANARY: TWELVE}
    over_users = {CONTROL: users(TEN), CANARY: users(TWELVE)}
    assert reconcile(feeds, over_users, feeds, 0) == (2, ())


def test_feeds_that_close_meanwhile_may_be_among_the_users_feeds_or_not() -> None:
    for totals in (TEN, ELEVEN, TWELVE):
        assert reconcile({CONTROL: TEN}, {CONTROL: users(totals)}, {CONTROL: TWELVE}, 0) == (1, ())
    assert reconcile({}, {}, {CONTROL: TWELVE}, 0).differences == ()


def test_any_number_that_is_too_small_or_too_large_is_a_difference() -> None:
    for name in FeedTotals._fields:
        for wrong in (-1, 1):
            over_users = TEN._replace(**{name: getattr(TEN, name) + wrong})
            found = reconcile({CONTROL: TEN}, {CONTROL: users(over_users)}, {CONTROL: TEN}, 0)
            assert found == (1, ((CONTROL, over_users, TEN, TEN),))


def test_an_arm_that_only_one_side_has_is_a_difference() -> None:
    feeds = {CONTROL: TEN}
    assert [each.arm_hour for each in reconcile(feeds, {}, feeds, 0).differences] == [CONTROL]
    assert [each.arm_hour for each in reconcile({}, {CANARY: users(TEN)}, {}, 0).differences] == [
        CANARY
    ]


def test_hours_of_which_records_were_deleted_are_not_compared() -> None:
    feeds = {CONTROL: TEN, LATER: TEN}
    assert reconcile(feeds, {LATER: users(TEN)}, feeds, LATER.hour) == (1, ())
    assert reconcile(feeds, {CONTROL: users(TEN)}, feeds, LATER.hour).compared == 1
