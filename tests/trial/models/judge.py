"""What the feeds prove of the swaps. Pure.

`ranked_at` and the broker's times count whole milliseconds: no time is told too short, some up to 1
ms too long.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.bench.load import Load
from tests.integration.oracle import TOLERANCE, Perceptron
from tests.trial.judge import MS, Span
from tests.trial.models.owner import Made
from tests.trial.models.plan import ADDED, REASONS
from tests.trial.models.stream import FeedScored
from tests.trial.stillness import Waking

Model = Callable[[str, int], Perceptron]


class Era(NamedTuple):
    """A version of an objective, 0 for none, that may score from `began` on, and must not after
    `ended` (ns).
    """

    version: int
    began: int
    ended: int | None = None

    def may_rank(self, feed: FeedScored, objective: str) -> bool:
        """Whether a feed may have been scored so."""
        in_time = self.began < (feed.ranked_at + 1) * MS and (
            self.ended is None or feed.ranked_at * MS <= self.ended
        )
        return in_time and feed.models.get(objective, 0) == self.version


def eras_of(objective: str, made: Sequence[Made]) -> list[Era]:
    """The eras of an objective: a new one with each swap but the bad ones."""
    found = [Era(0 if objective == ADDED else 1, 0)]
    for one in made:
        if one.swap.objective == objective and one.swap.kind not in REASONS:
            found[-1] = found[-1]._replace(ended=one.known)
            found.append(Era(one.swap.version, one.began))
    return found


def eras_in_order(
    feeds: Sequence[FeedScored], objective: str, eras: Sequence[Era]
) -> list[int | None]:
    """For each feed of one partition, in order, its era; None where it has none, or one before the
    last.
    """
    found, now = list[int | None](), 0
    for feed in feeds:
        at = next(
            (place for place in range(now, len(eras)) if eras[place].may_rank(feed, objective)),
            None,
        )
        now = now if at is None else at
        found.append(at)
    return found


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


def turns(feeds: Sequence[FeedScored], eras: Sequence[int | None]) -> dict[int, Turn]:
    """By era, how a partition's feeds turned to it; an era that no feed is of is left out."""
    placed = [
        (era, feed.ranked_at) for feed, era in zip(feeds, eras, strict=True) if era is not None
    ]
    return {new[0]: Turn(old[1], new[1]) for old, new in pairwise(placed) if old[0] != new[0]}


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
    """Between each feed and the next of one partition, less the time in which no request was there
    to be ranked.
    """
    return [
        Gap(start, max(start, (feed.appended + 1) * MS))
        for before, feed in pairwise(feeds)
        for start in [max(before.appended * MS, sent[feed.request])]
    ]


def longest(found: Iterable[Gap], within: Span, apart_from: Sequence[Span] = ()) -> Gap:
    """The longest that meets a span, and none of some others."""
    met = (
        gap
        for gap in found
        if gap.meets(within) and not any(gap.meets(span) for span in apart_from)
    )
    return max(met, key=_length, default=Gap(0, 0))


def _length(gap: Gap) -> int:
    return gap.end - gap.start


def machine_paused(wakings: Iterable[Waking], gap: Gap) -> float:
    """How late a sleeping process woke at most that was to wake within a gap (ms)."""
    return max(
        (
            one.late_ms
            for one in wakings
            if gap.start < one.at and one.at - one.late_ms * MS < gap.end
        ),
        default=0,
    )


def count_misscored(feeds: Iterable[FeedScored], load: Load, model: Model) -> int:
    """How many feeds hold a score that is not what its model gives for the candidate, computed
    apart from workers.
    """
    rows = load.rows()
    known: dict[tuple[str, int], NDArray[np.float64]] = {}
    wrong = 0
    for feed in feeds:
        places = [load.row(feed.request, place) for place in range(load.candidates)]
        for named in feed.models.items():
            if named not in known:
                known[named] = model(*named).scores(rows)
        wrong += any(
            not np.allclose(
                scores, known[objective, feed.models[objective]][places], rtol=0, atol=TOLERANCE
            )
            for objective, scores in feed.scores.items()
        )
    return wrong


def unrefused(
    made: Iterable[Made], told: Mapping[tuple[str, int], Sequence[str | None]], workers: int
) -> int:
    """How often a bad version was not refused by a worker for what is wrong with it."""
    bad = [
        (one.swap, told.get((one.swap.objective, one.swap.version), ()))
        for one in made
        if one.swap.kind in REASONS
    ]
    return sum(workers - list(reasons).count(REASONS[swap.kind]) for swap, reasons in bad)
