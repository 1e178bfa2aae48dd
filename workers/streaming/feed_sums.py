"""The sums of `feed-outcomes` as they are now, and as they change.

Everything that counts or judges reads the sums with this class: `trimtab outcomes counts`, reports,
and the guard rails, which look every second. Rules:

1. Each partition has absolute sums. The latest record of a key in a partition counts, and the
   partitions are added up.
2. A record that is no sums record is an error: counts without it could be wrong.
3. The topic is read once. After that a look costs what has changed since the last one.
4. Only records of committed transactions are read.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from workers.codec.outcomes import (
    FeedOutcomes,
    FeedOutcomesHead,
    decode_feed_outcomes,
    decode_feed_outcomes_head,
)
from workers.errors import Failure
from workers.outcomes.cluster_counts import ClusterCounts
from workers.outcomes.records import HOUR_MS, ArmHour, SumsKey
from workers.outcomes.sums import Sums, add_sums
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import TopicReader
from workers.streaming.records import Record


@dataclass(frozen=True)
class _Latest:
    """The latest record of a key in a partition. Its sums are decoded when they are asked for."""

    head: FeedOutcomesHead
    record: Record

    def decode(self) -> FeedOutcomes:
        """The sums. Raises Failure with the place of the record."""
        try:
            return decode_feed_outcomes(self.record.value, self.record.headers)
        except ValueError as error:
            raise _no_sums(self.record, error) from None


class FeedSumsReader:
    """Reads `feed-outcomes` from the beginning, and follows it. Not thread-safe.

    `wants` says which sums are kept; without it all are.

        with closing(FeedSumsReader(cluster, topic, lambda key: key.surface == "home")) as reader:
            reader.read_to_end()
            counts = reader.counts_by_arm_hour("home")

            while ...:
                if reader.poll(1.0):
                    counts = reader.counts_by_arm_hour("home")

    The constructor raises what TopicReader raises: TopicMissing, RightMissing, BrokerUnreachable
    and KafkaException. The other methods raise Failure for a record that is no sums record, and
    what TopicReader raises.
    """

    def __init__(
        self, cluster: Cluster, topic: str, wants: Callable[[SumsKey], bool] = lambda key: True
    ) -> None:
        self._reader = TopicReader(cluster, topic, from_beginning=True)
        self._wants = wants
        self._latest: dict[ArmHour, dict[tuple[int, bytes | None], _Latest]] = {}
        self._added: dict[ArmHour, Sums] = {}
        self._counts: dict[ArmHour, ClusterCounts] = {}
        self.surfaces: set[str] = set()
        """The surfaces that have sums, wanted or not."""
        self.closed_until: dict[int, int | None] = dict.fromkeys(self._reader.partitions)
        """For each partition, the time (ms since the epoch) before which every feed is in the sums.
        None if the partition has no sums.
        """

    def read_to_end(self, silence: float = 30.0) -> None:
        """Take in everything that is in the topic now. Waits for transactions that are undecided.

        Raises TopicSilent if nothing comes for `silence` seconds before that.
        """
        for record in self._reader.records_to_end(silence):
            self._take(record)

    def poll(self, seconds: float = 0.0) -> bool:
        """Take in what has come since. Returns whether wanted sums have changed. Waits for a first
        record at most `seconds`.
        """
        has_changed = False
        for record in self._reader.take(seconds):
            if self._take(record):
                has_changed = True
        return has_changed

    def latest(self, surface: str, since: int | None = None) -> Iterator[FeedOutcomes]:
        """The latest sums of each key and partition of a surface, from the hour on that `since` (ms
        since the epoch) is in.
        """
        for arm_hour, records in self._latest.items():
            if _is_chosen(arm_hour, surface, since):
                for latest in records.values():
                    yield latest.decode()

    def by_arm_hour(self, surface: str, since: int | None = None) -> Mapping[ArmHour, Sums]:
        """The sums of a surface by hour, arm and phase, over all partitions, weights and models, in
        the order of hours. What has not changed is not added up again. Do not change them.
        """
        chosen: dict[ArmHour, Sums] = {}
        for arm_hour in self._chosen(surface, since):
            added = self._added.get(arm_hour)
            if added is None:
                added = Sums()
                for latest in self._latest[arm_hour].values():
                    add_sums(added, latest.decode().sums)
                self._added[arm_hour] = added
            chosen[arm_hour] = added
        return chosen

    def counts_by_arm_hour(
        self, surface: str, since: int | None = None
    ) -> Mapping[ArmHour, ClusterCounts]:
        """The same as arrays, which take a tenth of the memory and are cheap to add up: for whoever
        looks every second. Do not change them.
        """
        chosen: dict[ArmHour, ClusterCounts] = {}
        for arm_hour in self._chosen(surface, since):
            counts = self._counts.get(arm_hour)
            if counts is None:
                counts = ClusterCounts()
                for latest in self._latest[arm_hour].values():
                    counts.add(ClusterCounts.of(latest.decode().sums))
                self._counts[arm_hour] = counts
            chosen[arm_hour] = counts
        return chosen

    def close(self) -> None:
        """Give the connection back."""
        self._reader.close()

    def _take(self, record: Record) -> bool:
        """Take in a record. Returns whether it is wanted."""
        try:
            head = decode_feed_outcomes_head(record.value, record.headers)
        except ValueError as error:
            raise _no_sums(record, error) from None

        self.surfaces.add(head.key.surface)
        if head.closed_until >= 0:
            known = self.closed_until[record.partition]
            self.closed_until[record.partition] = max(known or 0, head.closed_until)
        if not self._wants(head.key):
            return False

        arm_hour = ArmHour.of(head.key)
        self._latest.setdefault(arm_hour, {})[record.partition, record.key] = _Latest(head, record)
        self._added.pop(arm_hour, None)
        self._counts.pop(arm_hour, None)
        return True

    def _chosen(self, surface: str, since: int | None) -> list[ArmHour]:
        """The hours and arms of a surface, in the order of hours."""
        chosen = [key for key in self._latest if _is_chosen(key, surface, since)]
        return sorted(chosen, key=lambda key: (key.hour, key.arm))


def _is_chosen(arm_hour: ArmHour, surface: str, since: int | None) -> bool:
    first_hour = 0 if since is None else since // HOUR_MS
    return arm_hour.surface == surface and arm_hour.hour >= first_hour


def _no_sums(record: Record, error: ValueError) -> Failure:
    place = f"{record.topic}/{record.partition}@{record.offset}"
    return Failure(f"{place}: {error}, expected sums of outcomes")
