"""What a report is made from: the sums over feeds and over users of one surface, and whether they
agree.

`read_evidence` reads in the order that `workers/outcomes/reconciliation.py` asks for. It waits a few
seconds for the users stage to count what the join has published. Without a users stage there are
sums over feeds only.
"""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from workers.codec.user_outcomes import decode_user_outcomes
from workers.errors import Failure
from workers.outcomes.reconciliation import FeedTotals, Reconciliation, reconcile, totals_of
from workers.outcomes.records import HOUR_MS, ArmHour
from workers.outcomes.report import Counted
from workers.outcomes.sums import Sums
from workers.outcomes.user_sums import LatestUserSums, UserSums
from workers.streaming.clients import Cluster
from workers.streaming.feed_sums import FeedSumsReader
from workers.streaming.log_reader import TopicMissing, TopicReader
from workers.streaming.recent_records import Recent
from workers.streaming.records import Record

WAIT_SECONDS = 5.0
"""How long the users stage may take to count what the join has published."""


class EvidenceTopics(NamedTuple):
    """The names of the topics that evidence is read from."""

    feed_outcomes: str
    user_outcomes: str
    request_outcomes: str


@dataclass(frozen=True)
class Evidence:
    """What is known of a surface, by hour, arm and phase.

    - `surfaces`: all surfaces that have sums, this one or others.
    - `closed_until`: for each partition, the time (ms) before which every feed is in `feeds`; None
      if the partition has no sums.
    - `users` is None if the users stage has counted nothing.
    - `reconciliation` is None if users and feeds were not compared. Then `not_reconciled` says why.
    """

    surface: str
    surfaces: frozenset[str]
    feeds: Mapping[ArmHour, Sums]
    closed_until: Mapping[int, int | None]
    users: Mapping[ArmHour, UserSums] | None
    reconciliation: Reconciliation | None
    not_reconciled: str | None

    @property
    def counted(self) -> Counted:
        """What a report is computed from.

        Partitions without feeds stay behind, so the latest time up to which one is closed counts.
        """
        known = [until for until in self.closed_until.values() if until is not None]
        return Counted(self.feeds, self.users, max(known, default=None))


class UserSumsReader:
    """Reads `user-outcomes` from the beginning, and follows it. Not thread-safe.

    The constructor raises what TopicReader raises: TopicMissing, RightMissing, BrokerUnreachable
    and KafkaException. The other methods raise Failure for a record that is no record of this
    topic, and what TopicReader raises.
    """

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._reader = TopicReader(cluster, topic, from_beginning=True)
        self.sums = LatestUserSums()

    def read_to_end(self) -> None:
        """Take in everything that is in the topic now."""
        for record in self._reader.records_to_end():
            self._take(record)

    def poll(self, seconds: float = 0.0) -> bool:
        """Take in what has come since. Returns whether anything has. Waits for a first record at
        most `seconds`.
        """
        records = self._reader.take(seconds)
        for record in records:
            self._take(record)
        return bool(records)

    def close(self) -> None:
        """Give the connection back."""
        self._reader.close()

    def _take(self, record: Record) -> None:
        try:
            self.sums.add(decode_user_outcomes(record.value))
        except ValueError as error:
            place = f"{record.topic}/{record.partition}@{record.offset}"
            raise Failure(f"{place}: {error}, expected sums of users") from None


def read_evidence(
    cluster: Cluster,
    topics: EvidenceTopics,
    surface: str,
    *,
    since: int | None = None,
    wait_seconds: float = WAIT_SECONDS,
) -> Evidence:
    """Read what is known of a surface from the hour on that `since` (ms since the epoch) is in.

    Raises what FeedSumsReader raises. If the topic of users or of requests is missing, there are
    sums over feeds only.
    """
    reader = FeedSumsReader(cluster, topics.feed_outcomes, lambda key: key.surface == surface)
    with closing(reader):
        reader.read_to_end()
        before = _totals(reader.by_arm_hour(surface, since))
        counted = _read_users(cluster, topics, surface, since, wait_seconds) if before else None
        reader.read_to_end()
        feeds = reader.by_arm_hour(surface, since)

    reconciliation = None
    if counted is not None and counted.users is not None and counted.why_behind is None:
        reconciliation = reconcile(before, counted.users, _totals(feeds), counted.first_hour)
    return Evidence(
        surface=surface,
        surfaces=frozenset(reader.surfaces),
        feeds=feeds,
        closed_until=reader.closed_until,
        users=None if counted is None else counted.users,
        reconciliation=reconciliation,
        not_reconciled=None if counted is None else counted.why_behind,
    )


class _UsersRead(NamedTuple):
    """The sums over users, None if the users stage has counted nothing of the surface.

    `why_behind` says why they may lack feeds. `first_hour` is the first hour of which no record was
    deleted by retention.
    """

    users: Mapping[ArmHour, UserSums] | None
    why_behind: str | None
    first_hour: int = 0


def _read_users(
    cluster: Cluster,
    topics: EvidenceTopics,
    surface: str,
    since: int | None,
    wait_seconds: float,
) -> _UsersRead:
    """The sums over users, once everything is counted that is in request-outcomes now, or after
    `wait_seconds`.
    """
    try:
        requests = Recent(cluster, topics.request_outcomes)
        ends = requests.record_ends()
        reader = UserSumsReader(cluster, topics.user_outcomes)
    except TopicMissing as missing:
        return _UsersRead(None, str(missing))

    with closing(reader):
        reader.read_to_end()
        deadline = time.monotonic() + wait_seconds
        # A stage that never ran is not waited for.
        has_run = any(reader.sums.next_offset(partition) for partition in ends)
        while has_run and _behind(reader.sums, ends) and time.monotonic() < deadline:
            reader.poll(0.1)
        behind = _behind(reader.sums, ends)

    users = {}
    first_hour = 0 if since is None else since // HOUR_MS
    for key, sums in reader.sums.totals().items():
        arm_hour = ArmHour(*key)
        if arm_hour.surface == surface and arm_hour.hour >= first_hour:
            users[arm_hour] = sums
    if not users:
        return _UsersRead(None, "trimtab outcomes users has counted no feed of this surface")
    if behind:
        return _UsersRead(
            users, f"trimtab outcomes users has {behind:,} records of the join to count"
        )

    for topic in topics:
        whole_since = Recent(cluster, topic).whole_since()
        if whole_since >= 0:
            first_hour = max(first_hour, whole_since // HOUR_MS + 1)
    return _UsersRead(users, None, first_hour)


def _behind(sums: LatestUserSums, ends: Mapping[int, int]) -> int:
    """How many offsets of request-outcomes the users stage has not counted."""
    behind = 0
    for partition, end in ends.items():
        behind += max(0, end - sums.next_offset(partition))
    return behind


def _totals(sums: Mapping[ArmHour, Sums]) -> dict[ArmHour, FeedTotals]:
    return {arm_hour: totals_of(of_arm) for arm_hour, of_arm in sums.items()}
