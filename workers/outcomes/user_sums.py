"""What `user-outcomes` holds: sums over feeds for which one must know the user.

Rules:
1. Sums are absolute. Of one key and partition the record with the greatest `last_offset` counts. It
   is nearly always the latest one: only a process that was cut off from its group can write an
   older state once more.
2. All feeds of a user are in one partition, and a user is new once. So the sums of all partitions
   and hours add up to counts of distinct users.
"""

from collections.abc import Iterable
from typing import NamedTuple


class UserSumsKey(NamedTuple):
    """What feeds are counted by. `hour` is the UTC hour of the feed, in hours since the epoch.

    `experiment` names the phase, None if no user of the surface was in an arm.
    """

    hour: int
    surface: str
    arm: str
    experiment: str | None


class UserSums(NamedTuple):
    """The sums of one key in one partition of `request-outcomes`.

    `users` counts the users whose first feed in the phase is among these feeds, and `new_users`
    those whose first feed under the experiment's salt is. `misassigned` counts the feeds whose arm
    is not the one that the published hash gives their user, and `unchecked` those whose phase's
    document was not found. These four stay 0 if the key has no phase.

    `last_offset` is the offset of the last feed that was counted, -1 if there is none.
    """

    feeds: int = 0
    seen: int = 0
    takes: int = 0
    users: int = 0
    new_users: int = 0
    misassigned: int = 0
    unchecked: int = 0
    last_offset: int = -1


class PartitionUserSums(NamedTuple):
    """A record of `user-outcomes`: the sums of one key in one partition of `request-outcomes`."""

    key: UserSumsKey
    partition: int
    sums: UserSums


class UserProgress(NamedTuple):
    """A record of `user-outcomes`: every feed of the partition of `request-outcomes` below the
    offset `next_offset` is in the sums that stand before this record.
    """

    partition: int
    next_offset: int


def add_user_sums(parts: Iterable[UserSums]) -> UserSums:
    """The sums of several keys or partitions. `last_offset` is -1: it means nothing for a total."""
    total = UserSums()
    for part in parts:
        total = UserSums(
            feeds=total.feeds + part.feeds,
            seen=total.seen + part.seen,
            takes=total.takes + part.takes,
            users=total.users + part.users,
            new_users=total.new_users + part.new_users,
            misassigned=total.misassigned + part.misassigned,
            unchecked=total.unchecked + part.unchecked,
        )
    return total


class LatestUserSums:
    """The sums and the progress that count, of records in any order."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, UserSumsKey], UserSums] = {}
        self._next_offsets: dict[int, int] = {}

    def add(self, record: PartitionUserSums | UserProgress) -> None:
        """Take in a record. Of one key and partition, the one that is further on counts."""
        if isinstance(record, UserProgress):
            known = self._next_offsets.get(record.partition, 0)
            self._next_offsets[record.partition] = max(known, record.next_offset)
            return
        place = (record.partition, record.key)
        known_sums = self._sums.get(place)
        if known_sums is None or known_sums.last_offset <= record.sums.last_offset:
            self._sums[place] = record.sums

    def next_offset(self, partition: int) -> int:
        """The offset below which every feed of this partition is in the sums, 0 if none is."""
        return self._next_offsets.get(partition, 0)

    def totals(self) -> dict[UserSumsKey, UserSums]:
        """The sums of each key over all partitions."""
        parts: dict[UserSumsKey, list[UserSums]] = {}
        for (_, key), sums in self._sums.items():
            parts.setdefault(key, []).append(sums)
        return {key: add_user_sums(of_key) for key, of_key in parts.items()}
