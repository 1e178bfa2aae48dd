"""Sums over closed feeds: what `feed-outcomes` holds, and what every report is made from.

Sums are absolute: the latest record of a key says everything that is known about it. Each holds
counts by position, and counts by cluster, which is one of 256 groups of users. The clusters are the
units from which honest variances are computed later.

Rules of the ledger:
1. A key can still change while a feed of its hour is open, or may still come. Such keys stay in
   memory.
2. The mark's `scan` is an offset of `feed-outcomes`. At or after it stands the latest record of
   every key that can still change, so a restore reads them all.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from workers.outcomes.records import HOUR_MS, ClosedFeed, SumsKey
from workers.ranking.experiment import CLUSTER_SALT
from workers.ranking.outcome_rules import SEEN, SEEN_BIT, TAKE, TAKE_BIT
from workers.ranking.request import Completion

CLUSTERS = 256
POSITIONS = 50
"""Positions that are counted one by one. All further ones share one row."""


def cluster_of(user_id: str) -> int:
    """The user's cluster: first 8 bytes of SHA-256("cluster:" + user_id), big-endian, modulo 256."""
    digest = hashlib.sha256(f"{CLUSTER_SALT}:{user_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % CLUSTERS


@dataclass
class ClusterSums:
    """Counts of the feeds of one cluster of users.

    `others` has a count of each outcome beside `seen` and `take`, `scores` the sum of each
    objective's scores over all items.
    """

    feeds: int = 0
    deadline_feeds: int = 0
    items: int = 0
    seen: int = 0
    takes: int = 0
    others: dict[str, int] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)


@dataclass
class Sums:
    """The sums of one key. Clusters and positions without any count are left out.

    `positions` has the number of items seen and the number of takes, by position from 0; the row
    `POSITIONS` is for all further positions.
    """

    clusters: dict[int, ClusterSums] = field(default_factory=dict)
    positions: dict[int, list[int]] = field(default_factory=dict)

    def add(self, feed: ClosedFeed) -> None:
        """Add a closed feed."""
        number = cluster_of(feed.user_id)
        cluster = self.clusters.get(number)
        if cluster is None:
            cluster = self.clusters[number] = ClusterSums()

        cluster.feeds += 1
        if feed.completion is Completion.DEADLINE:
            cluster.deadline_feeds += 1
        cluster.items += len(feed.item_ids)
        for objective, score in feed.score_sums.items():
            cluster.scores[objective] = cluster.scores.get(objective, 0.0) + score
        for name in feed.names:
            if name not in (SEEN, TAKE):
                cluster.others.setdefault(name, 0)

        for position, bits in enumerate(feed.marks, feed.first_position):
            if not bits:
                continue
            row = self.positions.setdefault(min(position, POSITIONS), [0, 0])
            if bits & SEEN_BIT:
                cluster.seen += 1
                row[0] += 1
            if bits & TAKE_BIT:
                cluster.takes += 1
                row[1] += 1
            if bits > SEEN_BIT | TAKE_BIT:
                for place, name in enumerate(feed.names):
                    if name not in (SEEN, TAKE) and bits >> place & 1:
                        cluster.others[name] += 1


def add_sums(total: Sums, further: Sums) -> None:
    """Add further sums to `total`, cluster by cluster and position by position."""
    for number, added in further.clusters.items():
        cluster = total.clusters.setdefault(number, ClusterSums())
        cluster.feeds += added.feeds
        cluster.deadline_feeds += added.deadline_feeds
        cluster.items += added.items
        cluster.seen += added.seen
        cluster.takes += added.takes
        for name, count in added.others.items():
            cluster.others[name] = cluster.others.get(name, 0) + count
        for objective, score in added.scores.items():
            cluster.scores[objective] = cluster.scores.get(objective, 0.0) + score

    for position, (seen, takes) in further.positions.items():
        row = total.positions.setdefault(position, [0, 0])
        row[0] += seen
        row[1] += takes


class SumsLedger:
    """The sums of one partition that can still change, and where their latest records stand.

    `end` is the offset up to which `feed-outcomes` holds records of this partition.
    """

    def __init__(self, end: int = 0) -> None:
        self.end = end
        self._sums: dict[SumsKey, Sums] = {}
        self._written_at: dict[SumsKey, int] = {}

    def restore(self, key: SumsKey, sums: Sums, offset: int) -> None:
        """Take over a record that was read back. Later records of a key replace earlier ones."""
        self._sums[key] = sums
        self._written_at[key] = offset

    def add(self, feeds: Iterable[ClosedFeed]) -> Mapping[SumsKey, Sums]:
        """Add closed feeds. Return the keys that changed with their new sums, to be written out."""
        changed: dict[SumsKey, Sums] = {}
        for feed in feeds:
            sums = self._sums.get(feed.key)
            if sums is None:
                sums = self._sums[feed.key] = Sums()
            sums.add(feed)
            changed[feed.key] = sums
        for key in changed:
            self._written_at[key] = self.end
        return changed

    def scan(self, time: int) -> int:
        """The first offset that a restore must read, if the partition's time (ms) at its low-water
        mark is `time`. Forgets the keys that no feed can change any more.
        """
        hour = time // HOUR_MS
        for key in [key for key in self._sums if key.hour < hour]:
            del self._sums[key]
            del self._written_at[key]
        return min(self._written_at.values(), default=self.end)

    def __len__(self) -> int:
        return len(self._sums)
