"""How far one weight alone must move until a feed changes.

With final scores f and scores s, a move d of the weight of objective k makes the final score of
item i

    f_i + d * s_ik

This is a line in d. Item j reaches item i, which is ahead of it, at

    d = (f_i - f_j) / (s_jk - s_ik)

Two lines meet once, so from there on j stays ahead. The nearest meeting of all pairs is the margin:
no smaller move changes anything, and every larger move does. At the margin itself the two are tied,
and their order is that of their item ids, as always.

Two exceptions:
- Float64 rounds. Final scores that differ by a few units in the last place may become equal, and
  so change places by item id, under a smaller move.
- With rules on sources, the final score of an item depends on the items before it, and is not a
  line. The margins of such a feed are those of its combined scores. Only its first place is exact:
  the item with the best combined score is the first of its source, so nothing is taken off it, and
  nothing is added to any other item.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.ranking.feed import Feed
from workers.ranking.rank import combine, order_by_score
from workers.ranking.rerank import ObjectivesDiffer, candidates_of, is_whole
from workers.ranking.weights import Weights

Bounds = Mapping[str, tuple[float, float]]
"""Objective to the lowest and the highest weight that its surface takes. An objective that is not
named has no bounds.
"""

_NO_BOUNDS: Bounds = {}
_FIRST = 10


class Crossing(NamedTuple):
    """Past this move of one weight, `rising` is ahead of `falling` and takes its place.

    `move` is signed. `within_bounds`: the weight is still within its bounds after the move.
    """

    move: float
    rising: str
    falling: str
    within_bounds: bool


class Margin(NamedTuple):
    """The nearest crossing if the weight rises, and if it falls. None if no move ever changes
    anything.
    """

    up: Crossing | None
    down: Crossing | None


class ObjectiveMargins(NamedTuple):
    """The margins of one weight: how far it can move before another item is first, and before
    another item enters the first 10.
    """

    first_place: Margin
    first_10: Margin


class FeedMargins(NamedTuple):
    """The margins of one feed, by objective. `items` is the number of its items.

    If it is not `whole`, they are exact only among the items on its record. If it has rules on
    sources, the margins of the first 10 ignore them.
    """

    request_id: str
    items: int
    whole: bool
    has_source_rules: bool
    objectives: Mapping[str, ObjectiveMargins]

    @property
    def exact(self) -> bool:
        """Whether both margins, of the first place and of the first 10, are those of the feed as it
        is published.
        """
        return self.whole and not self.has_source_rules


class Spread(NamedTuple):
    """The moves of many feeds, of those that have a crossing.

    `feeds` is their number, `within_bounds` for how many of them the weight stays within its
    bounds.
    """

    feeds: int
    within_bounds: int
    smallest: float
    median: float


class Spreads(NamedTuple):
    """If the weight rises, and if it falls. None if no feed has a crossing."""

    up: Spread | None
    down: Spread | None


class ObjectiveSpreads(NamedTuple):
    """The margins of one weight over many feeds."""

    first_place: Spreads
    first_10: Spreads


@dataclass(frozen=True, slots=True)
class Margins:
    """The margins of many feeds under one set. `skipped` counts the feeds with other objectives."""

    weights: Weights
    feeds: tuple[FeedMargins, ...]
    skipped: int

    @property
    def incomplete(self) -> int:
        """How many of the feeds are not whole."""
        return sum(not feed.whole for feed in self.feeds)

    @property
    def with_source_rules(self) -> int:
        """How many of the feeds have rules on sources."""
        return sum(feed.has_source_rules for feed in self.feeds)

    def spreads(self) -> dict[str, ObjectiveSpreads]:
        """By objective, in the set's order."""
        spreads: dict[str, ObjectiveSpreads] = {}
        for objective in self.weights.values:
            first_place = list[Margin]()
            first_10 = list[Margin]()
            for feed in self.feeds:
                margins = feed.objectives[objective]
                first_place.append(margins.first_place)
                first_10.append(margins.first_10)
            spreads[objective] = ObjectiveSpreads(_spreads_of(first_place), _spreads_of(first_10))
        return spreads


def margins_of(feeds: Iterable[Feed], weights: Weights, bounds: Bounds = _NO_BOUNDS) -> Margins:
    """The margins of each feed, ranked again under `weights`."""
    margins = list[FeedMargins]()
    skipped = 0
    for feed in feeds:
        try:
            margins.append(feed_margins(feed, weights, bounds))
        except ObjectivesDiffer:
            skipped += 1
    return Margins(weights, tuple(margins), skipped)


def feed_margins(feed: Feed, weights: Weights, bounds: Bounds = _NO_BOUNDS) -> FeedMargins:
    """The margins of one feed, ranked again under `weights`. Raises ObjectivesDiffer."""
    candidates = candidates_of(feed, weights)
    final = combine(candidates.scores, weights)
    order = order_by_score(final, candidates.item_ids)
    item_ids = tuple(candidates.item_ids[index] for index in order)
    places_by_id = {item_id: place for place, item_id in enumerate(sorted(item_ids))}

    objectives: dict[str, ObjectiveMargins] = {}
    for column, (objective, weight) in enumerate(weights.values.items()):
        lines = _Lines(
            item_ids=item_ids,
            places_by_id=places_by_id,
            final=final[order],
            slope=candidates.scores[order, column].astype(np.float64),
            weight=weight,
            bounds=bounds.get(objective),
        )
        objectives[objective] = ObjectiveMargins(
            first_place=lines.margin(1), first_10=lines.margin(_FIRST)
        )

    return FeedMargins(
        request_id=feed.request_id,
        items=len(feed.items),
        whole=is_whole(feed),
        has_source_rules=feed.has_source_rules,
        objectives=objectives,
    )


class _Lines(NamedTuple):
    """The final scores of a feed's items as lines in the move of one weight.

    The columns are in the order of the feed: `final` are the scores now `[items]`, `slope` how they
    grow with the weight `[items]`. `places_by_id` has each item's place in the order of item ids.
    """

    item_ids: tuple[str, ...]
    places_by_id: Mapping[str, int]
    final: NDArray[np.float64]
    slope: NDArray[np.float64]
    weight: float
    bounds: tuple[float, float] | None

    def margin(self, first: int) -> Margin:
        """How far the weight can move before another item enters the first N."""
        # `[first, rest]`: how far each of the first is ahead of each of the rest, and how much the
        # latter gains on it if the weight rises by 1.
        lead = self.final[:first, None] - self.final[None, first:]
        gain = self.slope[None, first:] - self.slope[:first, None]
        return Margin(
            up=self._nearest_crossing(lead, gain, sign=1.0),
            down=self._nearest_crossing(lead, -gain, sign=-1.0),
        )

    def _nearest_crossing(
        self, lead: NDArray[np.float64], gain: NDArray[np.float64], sign: float
    ) -> Crossing | None:
        """The pair that meets first, of those in which the lower item gains."""
        never = np.full(lead.shape, np.inf)
        with np.errstate(over="ignore"):
            distances = np.divide(lead, gain, out=never, where=gain > 0)
        nearest = float(distances.min(initial=np.inf))
        if nearest == np.inf:
            return None

        # Several pairs may meet at the same move.
        first = lead.shape[0]
        tied = [(int(upper), int(lower)) for upper, lower in np.argwhere(distances == nearest)]
        upper, lower = min(
            tied, key=lambda pair: self._preference(pair[0], first + pair[1], float(gain[pair]))
        )

        # Adding 0.0 turns -0.0 into 0.0.
        move = sign * nearest + 0.0
        return Crossing(
            move=move,
            rising=self.item_ids[first + lower],
            falling=self.item_ids[upper],
            within_bounds=self._is_within_bounds(move),
        )

    def _preference(self, upper: int, lower: int, gain: float) -> tuple[bool, float, int, int]:
        """The sort key of pairs that meet at the same move.

        First come pairs that change places at the move itself, by item id. Then the pair with the
        largest gain, which changes places just past the move.
        """
        rising = self.places_by_id[self.item_ids[lower]]
        falling = self.places_by_id[self.item_ids[upper]]
        if rising < falling:
            return False, 0.0, rising, -falling
        return True, -gain, rising, -falling

    def _is_within_bounds(self, move: float) -> bool:
        if self.bounds is None:
            return True
        low, high = self.bounds
        return low <= self.weight + move <= high


def _spreads_of(margins: list[Margin]) -> Spreads:
    return Spreads(
        up=_spread_of([margin.up for margin in margins]),
        down=_spread_of([margin.down for margin in margins]),
    )


def _spread_of(crossings: list[Crossing | None]) -> Spread | None:
    moves = list[float]()
    within_bounds = 0
    for crossing in crossings:
        if crossing is not None:
            moves.append(crossing.move)
            within_bounds += crossing.within_bounds
    if not moves:
        return None
    return Spread(
        feeds=len(moves),
        within_bounds=within_bounds,
        smallest=min(moves, key=abs),
        median=float(np.median(moves)),
    )
