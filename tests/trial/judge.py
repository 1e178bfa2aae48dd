"""What the feeds, the ledger and the statuses prove together. Pure.

`ranked_at` and `applied_at` count whole milliseconds: each is taken as the end of its millisecond,
so that no time is told too short, and some up to 1 ms too long.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from tests.trial.ledger import Era
from tests.trial.statuses import AppliedSeen
from tests.trial.stillness import Waking
from tests.trial.stream import FeedSeen

MS = 1_000_000


@dataclass(frozen=True)
class Span:
    """From one moment to another (ns since the epoch)."""

    start: int
    end: int

    def holds(self, moment: int) -> bool:
        """Whether a moment lies in it."""
        return self.start <= moment < self.end


@dataclass(frozen=True)
class Times:
    """Milliseconds by the nearest rank, over `count` of them; all 0 where there are none."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, nanoseconds: Iterable[float]) -> "Times":
        """The figures of some times."""
        ordered = sorted(time / MS for time in nanoseconds)
        if not ordered:
            return cls(0, 0.0, 0.0, 0.0)
        p50, p99 = (ordered[ceil(len(ordered) * share) - 1] for share in (0.5, 0.99))
        return cls(len(ordered), round(p50, 2), round(p99, 2), round(ordered[-1], 2))


@dataclass(frozen=True)
class FeedCounts:
    """Each of these but the first two is to be 0.

    `astray`: under a set that was not valid, or not in Redis by then. `unsound`: a record that is
    not whole, or whose final scores are not the sums that it gives.
    """

    requests: int
    feeds: int
    lost: int
    doubled: int
    astray: int
    unsound: int


def count_feeds(sent: Sequence[int], feeds: Sequence[FeedSeen], eras: Sequence[Era]) -> FeedCounts:
    """Hold the feeds against the requests and against all sets that were ever valid."""
    since = {era.version: era.sent for era in reversed(eras)}
    lost, doubled = lost_and_doubled(len(sent), (feed.request for feed in feeds))
    return FeedCounts(
        requests=len(sent),
        feeds=len(feeds),
        lost=lost,
        doubled=doubled,
        astray=sum(
            feed.version not in since or ranked_by(feed) < since[feed.version] for feed in feeds
        ),
        unsound=sum(not feed.sound for feed in feeds),
    )


def lost_and_doubled(requests: int, fed: Iterable[int]) -> tuple[int, int]:
    """How many of so many requests have no feed, and how many feeds there are beyond one a request."""
    times = Counter(fed)
    return sum(times[request] == 0 for request in range(requests)), sum(
        count - 1 for count in times.values()
    )


def ranked_by(feed: FeedSeen) -> int:
    """The last moment at which a feed can have been ranked (ns)."""
    return (feed.ranked_at + 1) * MS


def latency(sent: Sequence[int], feeds: Sequence[FeedSeen], span: Span) -> Times:
    """From the last event sent to the feed readable, of the requests sent in a span."""
    return Times.of(f.came - sent[f.request] for f in feeds if span.holds(sent[f.request]))


def woken(wakings: Sequence[Waking], span: Span) -> Times:
    """How late a process woke that was asleep, in a span."""
    return Times.of(waking.late_ms * MS for waking in wakings if span.holds(waking.at))


@dataclass(frozen=True)
class Applying:
    """From HSET sent to applied, over changes and workers; and what was replaced before any status
    told of it.

    `times` are of the sets that a status told of. `or_later` leaves nothing out: until a worker
    stood on the set or on a later one. `left_out_stood_ms` is the longest that a set stood which
    some worker left out; `never` is to be 0: changes that a worker left out though nothing replaced
    them.
    """

    times: Times
    or_later: Times
    push: Times
    left_out: int
    left_out_stood_ms: float
    never: int


def applying(eras: Sequence[Era], heard: Sequence[AppliedSeen], workers: int) -> Applying:
    """Match what the workers said to the eras of a storm."""
    place = {era.version: number for number, era in enumerate(eras)}
    told = [one for one in heard if one.version in place]
    counts = Counter(one.version for one in told)
    missing = [
        (era, workers - counts[era.version]) for era in eras if counts[era.version] < workers
    ]
    return Applying(
        times=Times.of(applied_by(one) - eras[place[one.version]].sent for one in told),
        or_later=Times.of(
            applied_by(one) - era.sent
            for worker in {one.worker for one in told}
            for era, one in _first_at_or_after(
                eras, place, [one for one in told if one.worker == worker]
            )
        ),
        push=Times.of(one.push_ms * MS for one in told if one.push_ms is not None),
        left_out=sum(count for era, count in missing if era.ended),
        left_out_stood_ms=max(
            (round((e.replaced - e.returned) / MS, 2) for e, _ in missing if e.replaced),
            default=0.0,
        ),
        never=sum(count for era, count in missing if not era.ended),
    )


def applied_by(one: AppliedSeen) -> int:
    """The last moment at which a set can have been applied (ns)."""
    return (one.applied_at + 1) * MS


def _first_at_or_after(
    eras: Sequence[Era], place: Mapping[str, int], told: Sequence[AppliedSeen]
) -> Iterator[tuple[Era, AppliedSeen]]:
    """Each era with the first set that a worker told of which is that one or a later one, where
    there is one.
    """
    ordered = sorted(told, key=lambda one: place[one.version])
    begin = 0
    for one in ordered:
        for era in eras[begin : place[one.version] + 1]:
            yield era, one
        begin = place[one.version] + 1


@dataclass(frozen=True)
class Stale:
    """How long after its set was replaced (HSET returned) a feed was still ranked under it; `share`
    of all feeds.
    """

    times: Times
    share: float


def stale(feeds: Sequence[FeedSeen], eras: Sequence[Era], span: Span) -> Stale:
    """Over the feeds ranked in a span."""
    replaced: Mapping[str, int | None] = {era.version: era.replaced for era in eras}
    judged = [feed for feed in feeds if span.holds(ranked_by(feed)) and feed.version in replaced]
    ends = ((ranked_by(feed), replaced[feed.version]) for feed in judged)
    late = [ranked - end for ranked, end in ends if end is not None and ranked > end]
    return Stale(Times.of(late), round(len(late) / max(1, len(judged)), 4))


def ranked_against(feeds: Sequence[FeedSeen], span: Span, version: str) -> int:
    """How many feeds were ranked within a span under another set."""
    return sum(
        feed.version != version
        and feed.ranked_at * MS >= span.start
        and ranked_by(feed) <= span.end
        for feed in feeds
    )


def ranked_before(
    feeds: Sequence[FeedSeen], acknowledged: int, eras: Sequence[Era], version: str
) -> int:
    """How many feeds were ranked after a set was acknowledged (ns), and yet under an earlier one."""
    order = {era.version: place for place, era in enumerate(eras)}
    after = (feed for feed in feeds if feed.ranked_at * MS >= acknowledged)
    return sum(order.get(feed.version, -1) < order[version] for feed in after)
