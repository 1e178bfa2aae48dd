"""Whether the sums over users are those over feeds.

The join writes each closed feed into `feed-outcomes`, where sums are kept, and into
`request-outcomes`, which the users stage adds up by itself. Both must come to the same numbers for
each hour, arm and phase. The stages run while they are compared, so the order of reading matters:

1. read the sums over feeds: `before`
2. read where request-outcomes ends, and wait until the users stage has counted everything below
3. read the sums over users
4. read the sums over feeds again: `after`

Everything in `before` is in the sums over users then, and everything in those is in `after`. So
each number over users must be between the two, and equal to both if nothing has closed meanwhile.
"""

from collections.abc import Mapping
from typing import NamedTuple

from workers.outcomes.records import ArmHour
from workers.outcomes.sums import Sums
from workers.outcomes.user_sums import UserSums


class FeedTotals(NamedTuple):
    """How many feeds there were, how many items were seen, and how many taken."""

    feeds: int
    seen: int
    takes: int


class Difference(NamedTuple):
    """An arm and hour for which users and feeds have other numbers. `over_users` is not between
    `before` and `after`.
    """

    arm_hour: ArmHour
    over_users: FeedTotals
    before: FeedTotals
    after: FeedTotals


class Reconciliation(NamedTuple):
    """How many arms of hours were compared, and those that differ."""

    compared: int
    differences: tuple[Difference, ...]


_NOTHING = FeedTotals(0, 0, 0)


def totals_of(sums: Sums) -> FeedTotals:
    """The totals over all clusters."""
    feeds = 0
    seen = 0
    takes = 0
    for cluster in sums.clusters.values():
        feeds += cluster.feeds
        seen += cluster.seen
        takes += cluster.takes
    return FeedTotals(feeds, seen, takes)


def reconcile(
    before: Mapping[ArmHour, FeedTotals],
    users: Mapping[ArmHour, UserSums],
    after: Mapping[ArmHour, FeedTotals],
    first_hour: int,
) -> Reconciliation:
    """Compare the sums over users with those over feeds, from `first_hour` on. Records of earlier
    hours may have been deleted.
    """
    arm_hours = sorted(
        (key for key in {*after, *users} if key.hour >= first_hour),
        key=lambda key: (key.hour, key.surface, key.arm, key.experiment or ""),
    )
    differences = []
    for arm_hour in arm_hours:
        user_sums = users.get(arm_hour, UserSums())
        over_users = FeedTotals(user_sums.feeds, user_sums.seen, user_sums.takes)
        least = before.get(arm_hour, _NOTHING)
        most = after.get(arm_hour, _NOTHING)
        is_between = all(
            low <= number <= high for low, number, high in zip(least, over_users, most, strict=True)
        )
        if not is_between:
            differences.append(Difference(arm_hour, over_users, least, most))
    return Reconciliation(len(arm_hours), tuple(differences))
