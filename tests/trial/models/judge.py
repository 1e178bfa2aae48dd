"""What the feeds prove of the swaps. Pure.

`ranked_at` and the broker's times count whole milliseconds: no time is reported too short, and some
are up to 1 ms too long.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.rig.machine import Wakeup
from tests.rig.oracle import TOLERANCE, Perceptron
from tests.rig.times import MS, Span
from tests.rig.traffic import Load
from tests.trial.models.feeds import FeedScored
from tests.trial.models.owner import Made
from tests.trial.models.plan import ADDED, REASONS

Model = Callable[[str, int], Perceptron]


class Period(NamedTuple):
    """The time in which a version of an objective may score: from `began` on, and not after `ended`
    (ns). Version 0 is none.
    """

    version: int
    began: int
    ended: int | None = None

    def may_rank(self, feed: FeedScored, objective: str) -> bool:
        """Whether a feed may have been scored so."""
        if feed.models.get(objective, 0) != self.version:
            return False
        has_begun = self.began < (feed.ranked_at + 1) * MS
        has_ended = self.ended is not None and feed.ranked_at * MS > self.ended
        return has_begun and not has_ended


def periods_of(objective: str, swaps_made: Sequence[Made]) -> list[Period]:
    """The periods of an objective: a new one with each swap but the bad ones."""
    periods = [Period(0 if objective == ADDED else 1, 0)]
    for made in swaps_made:
        if made.swap.objective == objective and made.swap.kind not in REASONS:
            periods[-1] = periods[-1]._replace(ended=made.known)
            periods.append(Period(made.swap.version, made.began))
    return periods


def periods_in_order(
    feeds: Sequence[FeedScored], objective: str, periods: Sequence[Period]
) -> list[int | None]:
    """For each feed of one partition, in order, the place of its period. None if it has none, or
    only one before that of an earlier feed.
    """
    places: list[int | None] = []
    current = 0
    for feed in feeds:
        place = None
        for later in range(current, len(periods)):
            if periods[later].may_rank(feed, objective):
                place = later
                current = later
                break
        places.append(place)
    return places


def by_partition(feeds: Iterable[FeedScored]) -> dict[int, list[FeedScored]]:
    """The feeds of each partition, in their order: so of each worker, while no partition moves."""
    ordered = sorted(feeds, key=lambda feed: feed.partition)
    return {
        partition: list(own) for partition, own in groupby(ordered, key=lambda feed: feed.partition)
    }


class Turn(NamedTuple):
    """How the feeds of a partition turned to a version: the last ranked before it, the first ranked
    under it (ms).
    """

    last: int
    first: int


def turns(feeds: Sequence[FeedScored], periods: Sequence[int | None]) -> dict[int, Turn]:
    """By period, how a partition's feeds turned to it. Without the periods that no feed is of."""
    placed = [
        (period, feed.ranked_at)
        for feed, period in zip(feeds, periods, strict=True)
        if period is not None
    ]
    found: dict[int, Turn] = {}
    for (old, old_ranked_at), (new, new_ranked_at) in pairwise(placed):
        if old != new:
            found[new] = Turn(old_ranked_at, new_ranked_at)
    return found


class Gap(NamedTuple):
    """Nothing came from one moment to another (ns)."""

    start: int
    end: int

    @property
    def ms(self) -> float:
        """How long it was."""
        return (self.end - self.start) / MS

    def meets(self, span: Span) -> bool:
        """Whether some of it lies in a span."""
        return self.start < span.end and span.start < self.end


def gaps(feeds: Iterable[FeedScored]) -> list[Gap]:
    """Between each feed and the next of the whole stream, as the broker appended them."""
    times = sorted(feed.appended for feed in feeds)
    return [Gap(before * MS, (after + 1) * MS) for before, after in pairwise(times)]


def waits(feeds: Sequence[FeedScored], sent: Sequence[int]) -> list[Gap]:
    """Between each feed and the next of one partition, without the time in which no request was
    there to be ranked.
    """
    found = []
    for before, feed in pairwise(feeds):
        start = max(before.appended * MS, sent[feed.request])
        found.append(Gap(start, max(start, (feed.appended + 1) * MS)))
    return found


def longest(found: Iterable[Gap], within: Span, apart_from: Sequence[Span] = ()) -> Gap:
    """The longest that meets a span, and none of some others."""
    met = (
        gap
        for gap in found
        if gap.meets(within) and not any(gap.meets(span) for span in apart_from)
    )
    return max(met, key=lambda gap: gap.end - gap.start, default=Gap(0, 0))


def machine_paused(wakeups: Iterable[Wakeup], gap: Gap) -> float:
    """How late (ms) a sleeping process woke at most that should have woken within a gap."""
    return max(
        (
            wakeup.late_ms
            for wakeup in wakeups
            if gap.start < wakeup.at and wakeup.at - wakeup.late_ms * MS < gap.end
        ),
        default=0,
    )


def count_misscored(feeds: Iterable[FeedScored], load: Load, model: Model) -> int:
    """How many feeds hold a score that is not what its model gives for the candidate, computed
    apart from workers.
    """
    rows = load.rows()
    expected: dict[tuple[str, int], NDArray[np.float64]] = {}
    wrong = 0
    for feed in feeds:
        places = [load.row(feed.request, place) for place in range(load.candidates)]
        for objective, version in feed.models.items():
            if (objective, version) not in expected:
                expected[objective, version] = model(objective, version).scores(rows)

        for objective, scores in feed.scores.items():
            right = expected[objective, feed.models[objective]][places]
            if not np.allclose(scores, right, rtol=0, atol=TOLERANCE):
                wrong += 1
                break
    return wrong


def unrefused(
    swaps_made: Iterable[Made],
    refusals: Mapping[tuple[str, int], Sequence[str | None]],
    workers: int,
) -> int:
    """How often a bad version was not refused by a worker for what is wrong with it.

    `refusals`: by objective and version, the reason of each worker.
    """
    missing = 0
    for made in swaps_made:
        if made.swap.kind in REASONS:
            reasons = list(refusals.get((made.swap.objective, made.swap.version), ()))
            missing += workers - reasons.count(REASONS[made.swap.kind])
    return missing
