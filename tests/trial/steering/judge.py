"""What the feeds, the history of the weights and the workers' reports prove together. Pure.

`ranked_at` and `applied_at` count whole milliseconds. Each is taken as the end of its millisecond:
no time is reported too short, and some are up to 1 ms too long.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.rig.judge import count
from tests.rig.machine import Wakeup
from tests.rig.times import MS, Span, Times
from tests.trial.steering.applied import AppliedSeen
from tests.trial.steering.feeds import FeedSeen
from tests.trial.steering.weights_history import Period


@dataclass(frozen=True)
class FeedCounts:
    """All but the first two must be 0.

    `wrong_weights`: under a set that was not valid, or not in Redis by then. `not_whole`: items are
    missing, or final scores are not the sums that the record gives.
    """

    requests: int
    feeds: int
    lost: int
    doubled: int
    wrong_weights: int
    not_whole: int


def count_feeds(
    sent: Sequence[int], feeds: Sequence[FeedSeen], periods: Sequence[Period]
) -> FeedCounts:
    """Compare the feeds with the requests, and with all sets that were ever valid."""
    valid_since = {period.version: period.sent for period in reversed(periods)}
    counted = count(range(len(sent)), (feed.request for feed in feeds))

    wrong_weights = 0
    for feed in feeds:
        since = valid_since.get(feed.version)
        if since is None or ranked_by(feed) < since:
            wrong_weights += 1

    return FeedCounts(
        requests=len(sent),
        feeds=len(feeds),
        lost=len(counted.lost),
        doubled=counted.extra,
        wrong_weights=wrong_weights,
        not_whole=sum(not feed.whole for feed in feeds),
    )


def ranked_by(feed: FeedSeen) -> int:
    """The last moment at which a feed can have been ranked (ns)."""
    return (feed.ranked_at + 1) * MS


def latency(sent: Sequence[int], feeds: Sequence[FeedSeen], span: Span) -> Times:
    """From the last event sent to the feed readable, of the requests sent in a span."""
    return Times.of(
        feed.readable - sent[feed.request] for feed in feeds if span.holds(sent[feed.request])
    )


def lateness(wakeups: Sequence[Wakeup], span: Span) -> Times:
    """How late a sleeping process woke, in a span."""
    return Times.of(wakeup.late_ms * MS for wakeup in wakeups if span.holds(wakeup.at))


@dataclass(frozen=True)
class Applying:
    """How long changes took from HSET sent to applied, over changes and workers.

    `times` are of the sets that a worker reported. A set that is replaced before its next status is
    left out there. `or_later` leaves nothing out: until a worker was under the set or a later one.
    `left_out_stood_ms` is the longest that a set was in force which a worker left out. `never` must
    be 0: changes that a worker left out though nothing replaced them.
    """

    times: Times
    or_later: Times
    push: Times
    left_out: int
    left_out_stood_ms: float
    never: int


def applying(periods: Sequence[Period], reports: Sequence[AppliedSeen], workers: int) -> Applying:
    """Match what the workers reported with the periods of a storm."""
    place = {period.version: number for number, period in enumerate(periods)}
    known = [report for report in reports if report.version in place]
    counts = Counter(report.version for report in known)

    times = [applied_end(report) - periods[place[report.version]].sent for report in known]
    or_later: list[int] = []
    for worker in {report.worker for report in known}:
        own = [report for report in known if report.worker == worker]
        for period, report in _first_at_or_after(periods, place, own):
            or_later.append(applied_end(report) - period.sent)

    left_out = 0
    left_out_stood_ms = 0.0
    never = 0
    for period in periods:
        missing = workers - counts[period.version]
        if missing <= 0:
            continue
        if period.ended:
            left_out += missing
        else:
            never += missing
        if period.replaced:
            stood_ms = round((period.replaced - period.returned) / MS, 2)
            left_out_stood_ms = max(left_out_stood_ms, stood_ms)

    return Applying(
        times=Times.of(times),
        or_later=Times.of(or_later),
        push=Times.of(report.push_ms * MS for report in known if report.push_ms is not None),
        left_out=left_out,
        left_out_stood_ms=left_out_stood_ms,
        never=never,
    )


def applied_end(report: AppliedSeen) -> int:
    """The last moment at which a set can have been applied (ns)."""
    return (report.applied_at + 1) * MS


def _first_at_or_after(
    periods: Sequence[Period], place: Mapping[str, int], reports: Sequence[AppliedSeen]
) -> Iterator[tuple[Period, AppliedSeen]]:
    """Each period with the first report of one worker that names its set or a later one, if there
    is one.
    """
    begin = 0
    for report in sorted(reports, key=lambda report: place[report.version]):
        end = place[report.version] + 1
        for period in periods[begin:end]:
            yield period, report
        begin = max(begin, end)


@dataclass(frozen=True)
class Stale:
    """How long after its set was replaced (HSET returned) a feed was still ranked under it. `share`
    is of all feeds.
    """

    times: Times
    share: float


def stale(feeds: Sequence[FeedSeen], periods: Sequence[Period], span: Span) -> Stale:
    """Over the feeds that were ranked in a span."""
    replaced = {period.version: period.replaced for period in periods}
    judged = 0
    late: list[int] = []
    for feed in feeds:
        ranked = ranked_by(feed)
        if not span.holds(ranked) or feed.version not in replaced:
            continue
        judged += 1
        end = replaced[feed.version]
        if end is not None and ranked > end:
            late.append(ranked - end)
    return Stale(Times.of(late), round(len(late) / max(1, judged), 4))


def ranked_against(feeds: Sequence[FeedSeen], span: Span, version: str) -> int:
    """How many feeds were ranked within a span under another set."""
    return sum(
        feed.version != version
        and feed.ranked_at * MS >= span.start
        and ranked_by(feed) <= span.end
        for feed in feeds
    )


def ranked_before(
    feeds: Sequence[FeedSeen], acknowledged: int, periods: Sequence[Period], version: str
) -> int:
    """How many feeds were ranked after a set was acknowledged (ns), and yet under an earlier one."""
    order = {period.version: place for place, period in enumerate(periods)}
    after = (feed for feed in feeds if feed.ranked_at * MS >= acknowledged)
    return sum(order.get(feed.version, -1) < order[version] for feed in after)
