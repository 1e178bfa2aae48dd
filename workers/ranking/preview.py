"""What a change of weights would do to feeds that are already published.

Each feed is ranked twice from its own scores: under the set `before` and under the set `after`. The
set that it was published under does not matter.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from workers.ranking.feed import Feed
from workers.ranking.rank import Scores
from workers.ranking.rerank import ObjectivesDiffer, candidates_of, is_whole, rank_again
from workers.ranking.weights import Weights

_FIRST = 10
"""How many items from the top count as seen."""
_MOVERS = 10


class ChangedFeeds(NamedTuple):
    """In how many feeds something changes."""

    any: int
    first_place: int
    first_10_items: int
    """Which items are among the first 10."""
    first_10_order: int
    """Which items are among the first 10, or their order."""


class MeanScore(NamedTuple):
    """The mean score of an objective, over the first 10 items of all feeds. None if there are no
    items.
    """

    before: float | None
    after: float | None


class Mover(NamedTuple):
    """An item that moves. Moves are in positions. Up is positive.

    `feeds` is the number of feeds in which the item has a position before or after, and the mean is
    over these. If the limit of its source keeps an item out on one side, it counts there as just
    behind the last position.
    """

    item_id: str
    feeds: int
    mean_move: float
    largest_move: int


@dataclass(frozen=True, slots=True)
class Preview:
    """Feeds under the set `before` compared with the same feeds under the set `after`."""

    before: Weights
    after: Weights
    feeds: int
    """Feeds that were compared."""
    skipped: int
    """Feeds that were not compared because they have other objectives."""
    incomplete: int
    """Compared feeds that are not whole. They are exact only among the items on their records."""
    changed: ChangedFeeds
    kendall_tau: float | None
    """The mean over feeds with at least two items that have a position before and after. It is
    computed from these items. None if there is no such feed.
    """
    overlap_at_10: float | None
    """The share of the first 10 items before that are among the first 10 after: the mean over feeds
    that are not empty. None if there is no such feed.
    """
    objectives: Mapping[str, MeanScore]
    movers: tuple[Mover, ...]
    """The ten items with the largest mean move up or down, the largest first."""

    @property
    def churn(self) -> float | None:
        """The share of the first 10 items that is new: 1 - `overlap_at_10`."""
        return None if self.overlap_at_10 is None else 1 - self.overlap_at_10


def preview(feeds: Iterable[Feed], before: Weights, after: Weights) -> Preview:
    """Compare feeds one after the other. None of them is kept.

    Raises ObjectivesDiffer if the two sets have different objectives.
    """
    if set(before.values) != set(after.values):
        raise ObjectivesDiffer(
            f"after: got objectives {list(after.values)}, expected {list(before.values)}"
        )
    comparison = _Comparison(before, after)
    for feed in feeds:
        comparison.add(feed)
    return comparison.preview()


def kendall_tau(places: Sequence[int]) -> float:
    """Kendall's tau-a between two orders of n >= 2 items without ties, from 1 (the same) to -1
    (reversed).

    `places` are the distinct places of the items in one order, listed in the other order.
    tau = 1 - 4 d / (n (n - 1)), where d counts the pairs that are in the opposite order (M. G.
    Kendall, "A New Measure of Rank Correlation", Biometrika 30, 1938). They are counted by
    insertion into a sorted list.
    """
    inverted = 0
    seen = list[int]()
    for place in places:
        smaller = bisect_left(seen, place)
        inverted += len(seen) - smaller
        seen.insert(smaller, place)
    return 1 - 4 * inverted / (len(places) * (len(places) - 1))


class _Mean:
    """A running mean. None if nothing was added."""

    def __init__(self) -> None:
        self._total = 0.0
        self._count = 0

    def add(self, value: float) -> None:
        self._total += value
        self._count += 1

    def value(self) -> float | None:
        return self._total / self._count if self._count else None


class _Moves:
    """The moves of one item so far."""

    __slots__ = ("feeds", "largest", "total")

    def __init__(self) -> None:
        self.feeds = 0
        self.total = 0
        self.largest = 0

    def add(self, move: int) -> None:
        self.feeds += 1
        self.total += move
        # Of a move up and a move down that are equally large, the one up: whichever came first.
        is_larger = abs(move) > abs(self.largest)
        is_equal_but_up = move > 0 and move == -self.largest
        if is_larger or is_equal_but_up:
            self.largest = move


class _FirstScores:
    """The scores of the first 10 items of all feeds, added up by objective."""

    def __init__(self, objectives: int) -> None:
        self._total = np.zeros(objectives, np.float64)
        self._items = 0

    def add(self, scores: Scores, order: list[int]) -> None:
        # In the order of the candidates, so that the same ten items have the same sum whatever
        # their order is.
        first = sorted(order[:_FIRST])
        self._total += scores[first].astype(np.float64).sum(axis=0)
        self._items += len(first)

    def mean(self, column: int) -> float | None:
        return float(self._total[column] / self._items) if self._items else None


class _Comparison:
    """The sums over the feeds so far."""

    def __init__(self, before: Weights, after: Weights) -> None:
        self._before = before
        self._after = after

        self._feeds = 0
        self._skipped = 0
        self._incomplete = 0
        self._changed = ChangedFeeds(0, 0, 0, 0)
        self._tau = _Mean()
        self._overlap = _Mean()
        self._first_before = _FirstScores(len(before.values))
        self._first_after = _FirstScores(len(before.values))
        self._moves: dict[str, _Moves] = {}

    def add(self, feed: Feed) -> None:
        try:
            candidates = candidates_of(feed, self._before)
            # The same candidates. The columns of their scores are in the order of `after`.
            candidates_after = candidates_of(feed, self._after)
        except ObjectivesDiffer:
            self._skipped += 1
            return

        self._feeds += 1
        if not is_whole(feed):
            self._incomplete += 1

        before = rank_again(feed, candidates, self._before).kept
        after = rank_again(feed, candidates_after, self._after).kept
        self._first_before.add(candidates.scores, before)
        self._first_after.add(candidates.scores, after)
        self._add_changes(before, after)
        self._add_moves(candidates.item_ids, before, after)

    def _add_changes(self, before: list[int], after: list[int]) -> None:
        first_before = before[:_FIRST]
        first_after = after[:_FIRST]
        shared = len(set(first_before) & set(first_after))

        changed = self._changed
        self._changed = ChangedFeeds(
            any=changed.any + (before != after),
            first_place=changed.first_place + (before[:1] != after[:1]),
            first_10_items=changed.first_10_items + (shared < len(first_before)),
            first_10_order=changed.first_10_order + (first_before != first_after),
        )
        if first_before:
            self._overlap.add(shared / len(first_before))

    def _add_moves(self, item_ids: Sequence[str], before: list[int], after: list[int]) -> None:
        place_before = {index: place for place, index in enumerate(before)}
        place_after = {index: place for place, index in enumerate(after)}

        on_both_sides = [place_after[index] for index in before if index in place_after]
        if len(on_both_sides) > 1:
            self._tau.add(kendall_tau(on_both_sides))

        for index in place_before | place_after:
            old = place_before.get(index, len(before))
            new = place_after.get(index, len(after))
            self._moves.setdefault(item_ids[index], _Moves()).add(old - new)

    def preview(self) -> Preview:
        objectives: dict[str, MeanScore] = {}
        for column, objective in enumerate(self._before.values):
            objectives[objective] = MeanScore(
                before=self._first_before.mean(column), after=self._first_after.mean(column)
            )
        return Preview(
            before=self._before,
            after=self._after,
            feeds=self._feeds,
            skipped=self._skipped,
            incomplete=self._incomplete,
            changed=self._changed,
            kendall_tau=self._tau.value(),
            overlap_at_10=self._overlap.value(),
            objectives=objectives,
            movers=tuple(self._movers()),
        )

    def _movers(self) -> list[Mover]:
        movers = list[Mover]()
        for item_id, moves in self._moves.items():
            if moves.largest:
                mean_move = moves.total / moves.feeds
                movers.append(Mover(item_id, moves.feeds, mean_move, moves.largest))

        def largest_first(mover: Mover) -> tuple[float, int, int, str]:
            return (-abs(mover.mean_move), -abs(mover.largest_move), -mover.feeds, mover.item_id)

        return sorted(movers, key=largest_first)[:_MOVERS]
