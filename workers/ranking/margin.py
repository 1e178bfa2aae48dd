"""How far one weight alone must move until a feed changes.

With final scores f and scores s, a move d of the weight of objective k makes the final score of
item i

    f_i + d * s_ik

a line in d. Item j draws level with item i, which stands ahead of it, at d = (f_i - f_j) / (s_jk -
s_ik), and two lines meet once: from there on j stays ahead. So the nearest of all pairs' meetings
is the margin, no smaller move changes anything, and every larger one does. At the margin itself the
order of the two is that of their item ids, as everywhere.

This is so but for float64's rounding: final scores that differ by a few units in the last place may
become level, and so change places by item id, under a move that is no crossing.

Rules on sources break the lines: an item's final score then depends on the items before it. Margins
of such a feed are those of its combined scores. Its first place is exact all the same, for the item
with the best combined score is the first of its source: nothing is taken off it, and nothing is
added to any other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.ranking.feed import Feed
from workers.ranking.rank import combine, order
from workers.ranking.rerank import ObjectivesDiffer, is_whole, scored_of
from workers.ranking.weights import Weights

Bounds = Mapping[str, tuple[float, float]]
"""Objective to the lowest and the highest weight that its surface takes; one that is not named has
no bounds.
"""

_NO_BOUNDS: Bounds = {}
_FIRST = 10


class Crossing(NamedTuple):
    """A move of one weight past which `rising` stands ahead of `falling`, whose place it takes.

    `move` is signed; `within_bounds` says whether the weight so moved is.
    """

    move: float
    rising: str
    falling: str
    within_bounds: bool


class Margin(NamedTuple):
    """The nearest crossing where the weight rises, and where it falls; None where no move ever
    changes anything.
    """

    up: Crossing | None
    down: Crossing | None


class ObjectiveMargins(NamedTuple):
    """One weight's margins: until another item is first, and until another item is among the first
    10.
    """

    first_place: Margin
    first_10: Margin


class FeedMargins(NamedTuple):
    """One feed's margins by objective; where it is not `whole`, they are exact only among the items
    on its record.

    `ruled` says that it has rules on sources, which margins leave aside.
    """

    request_id: str
    items: int
    whole: bool
    ruled: bool
    objectives: Mapping[str, ObjectiveMargins]

    @property
    def exact(self) -> bool:
        """Whether both margins, of the first place and of the first 10, are those of the feed as it
        is published.
        """
        return self.whole and not self.ruled


class Spread(NamedTuple):
    """The moves of those feeds that have a crossing: how many they are, and for how many it is
    within bounds.
    """

    feeds: int
    within_bounds: int
    smallest: float
    median: float


class Spreads(NamedTuple):
    """Where the weight rises, and where it falls; None where no feed has a crossing."""

    up: Spread | None
    down: Spread | None


class ObjectiveSpreads(NamedTuple):
    """One weight's margins over many feeds."""

    first_place: Spreads
    first_10: Spreads


@dataclass(frozen=True, slots=True)
class Margins:
    """Many feeds' margins under one set; `skipped` counts the feeds that have other objectives."""

    weights: Weights
    feeds: tuple[FeedMargins, ...]
    skipped: int

    @property
    def incomplete(self) -> int:
        """How many of the feeds are not whole."""
        return sum(not feed.whole for feed in self.feeds)

    @property
    def ruled(self) -> int:
        """How many of the feeds have rules on sources."""
        return sum(feed.ruled for feed in self.feeds)

    def spreads(self) -> dict[str, ObjectiveSpreads]:
        """By objective, in the set's order."""
        return {objective: self._spreads(objective) for objective in self.weights.values}

    def _spreads(self, objective: str) -> ObjectiveSpreads:
        found = [feed.objectives[objective] for feed in self.feeds]
        return ObjectiveSpreads(
            _spreads([m.first_place for m in found]), _spreads([m.first_10 for m in found])
        )


def margins_of(feeds: Iterable[Feed], weights: Weights, bounds: Bounds = _NO_BOUNDS) -> Margins:
    """The margins of each feed, ranked anew under `weights`."""
    found, skipped = [], 0
    for feed in feeds:
        try:
            found.append(feed_margins(feed, weights, bounds))
        except ObjectivesDiffer:
            skipped += 1
    return Margins(weights, tuple(found), skipped)


def feed_margins(feed: Feed, weights: Weights, bounds: Bounds = _NO_BOUNDS) -> FeedMargins:
    """The margins of one feed, ranked anew under `weights`. Raises ObjectivesDiffer."""
    found, _, scores = scored_of(feed, weights)
    final = combine(scores, weights)
    ranked = order(final, found)
    item_ids = tuple(found[i] for i in ranked)
    by_id = {item_id: place for place, item_id in enumerate(sorted(item_ids))}
    objectives = {}
    for column, (objective, weight) in enumerate(weights.values.items()):
        slope = scores[ranked, column].astype(np.float64)
        lines = _Lines(item_ids, by_id, final[ranked], slope, weight, bounds.get(objective))
        objectives[objective] = ObjectiveMargins(lines.margin(1), lines.margin(_FIRST))
    return FeedMargins(
        feed.request_id, len(feed.items), is_whole(feed), feed.reads_sources, objectives
    )


class _Lines(NamedTuple):
    """Items in their order now, their final scores `[items]`, and how these grow with one weight,
    `[items]`.

    `by_id` is each item's place by item id.
    """

    item_ids: tuple[str, ...]
    by_id: Mapping[str, int]
    final: NDArray[np.float64]
    slope: NDArray[np.float64]
    weight: float
    bounds: tuple[float, float] | None

    def margin(self, first: int) -> Margin:
        """Until another item is among the first so many: until one from below meets one of them."""
        lead = self.final[:first, None] - self.final[None, first:]
        gain = self.slope[None, first:] - self.slope[:first, None]
        return Margin(self._nearest(lead, gain, first), self._nearest(lead, -gain, first, -1.0))

    def _nearest(
        self, lead: NDArray[np.float64], gain: NDArray[np.float64], first: int, sign: float = 1.0
    ) -> Crossing | None:
        """Of the pairs `[first, rest]` where the lower one gains, the pair that meets first."""
        with np.errstate(over="ignore"):
            moves = np.divide(lead, gain, out=np.full(lead.shape, np.inf), where=gain > 0)
        nearest = float(moves.min(initial=np.inf))
        if nearest == np.inf:
            return None
        tied = [(int(i), int(j)) for i, j in np.argwhere(moves == nearest)]
        upper, lower = min(
            tied, key=lambda pair: self._preference(float(gain[pair]), pair[0], pair[1] + first)
        )
        move = sign * nearest + 0.0
        return Crossing(
            move, self.item_ids[lower + first], self.item_ids[upper], self._within_bounds(move)
        )

    def _preference(self, gain: float, upper: int, lower: int) -> tuple[bool, float, int, int]:
        """Of pairs that meet at once, by item id those that change places there; else the steepest,
        just past it.
        """
        rising, falling = self.by_id[self.item_ids[lower]], self.by_id[self.item_ids[upper]]
        there = rising < falling
        return not there, 0.0 if there else -gain, rising, -falling

    def _within_bounds(self, move: float) -> bool:
        return self.bounds is None or self.bounds[0] <= self.weight + move <= self.bounds[1]


def _spreads(margins: list[Margin]) -> Spreads:
    return Spreads(
        _spread(margin.up for margin in margins), _spread(margin.down for margin in margins)
    )


def _spread(crossings: Iterable[Crossing | None]) -> Spread | None:
    found = [crossing for crossing in crossings if crossing is not None]
    if not found:
        return None
    moves = [crossing.move for crossing in found]
    within = sum(crossing.within_bounds for crossing in found)
    return Spread(len(found), within, min(moves, key=abs), float(np.median(moves)))
