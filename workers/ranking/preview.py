"""What a change of weights would do to feeds that are already published.

Each feed is ranked twice from its own scores, under the set `before` and under the set `after`,
whatever set it was published under.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.ranking.feed import Feed
from workers.ranking.rank import Scores
from workers.ranking.rerank import ObjectivesDiffer, is_whole, place_anew, scored_of
from workers.ranking.weights import Weights

FIRST = 10
"""How many items from the top count as seen."""
_MOVERS = 10


class Changed(NamedTuple):
    """In how many feeds something changes: anywhere; the first place; of the first 10 which items,
    or their order.
    """

    any: int
    first_place: int
    first_10_items: int
    first_10_order: int


class Shift(NamedTuple):
    """An objective's mean score over the items of all feeds' first 10, before and after; None where
    no feed has any.
    """

    before: float | None
    after: float | None


class Mover(NamedTuple):
    """An item that moves. Moves are in positions, up is positive; the mean is over all feeds that
    it is in.

    It is in a feed where it has a position before or after. Where the limit of its source keeps it
    out, it counts as just behind the last position.
    """

    item_id: str
    feeds: int
    mean_move: float
    largest_move: int


@dataclass(frozen=True, slots=True)
class Preview:
    """Feeds under the set `before` beside the same feeds under the set `after`.

    `feeds` were compared; `skipped` have other objectives; `incomplete` of those compared are not
    whole, and exact only among the items on their records. `kendall_tau` is that of the items with
    a position before and after, the mean over feeds with two such items or more; `overlap_at_10`
    the mean over feeds that are not empty; None where there is none. `movers` are the ten items of
    the largest mean move up or down, the largest first.
    """

    before: Weights
    after: Weights
    feeds: int
    skipped: int
    incomplete: int
    changed: Changed
    kendall_tau: float | None
    overlap_at_10: float | None
    objectives: Mapping[str, Shift]
    movers: tuple[Mover, ...]

    @property
    def churn(self) -> float | None:
        """The share of the first 10 that is new, in the mean: 1 - `overlap_at_10`."""
        return None if self.overlap_at_10 is None else 1 - self.overlap_at_10


def preview(feeds: Iterable[Feed], before: Weights, after: Weights) -> Preview:
    """Compare feeds one after the other; none is kept. Raises ObjectivesDiffer where the two sets'
    objectives differ.
    """
    if set(before.values) != set(after.values):
        raise ObjectivesDiffer(
            f"after: got objectives {list(after.values)}, expected {list(before.values)}"
        )
    tally = _Tally(before, after)
    for feed in feeds:
        tally.take(feed)
    return tally.preview()


def kendall_tau(places: Sequence[int]) -> float:
    """Kendall's tau-a between two orders of n >= 2 items without ties, from 1 (the same) to -1
    (reversed).

    `places` are the items' distinct places in one order, listed in the other. tau = 1 - 4 d / (n (n
    - 1)), where d counts the pairs that stand the other way round (M. G. Kendall, "A New Measure of
    Rank Correlation", Biometrika 30, 1938). They are counted by insertion into a sorted list.
    """
    inverted, seen = 0, list[int]()
    for place in places:
        below = bisect_left(seen, place)
        inverted += len(seen) - below
        seen.insert(below, place)
    return 1 - 4 * inverted / (len(places) * (len(places) - 1))


class _Mean:
    """A running mean."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def add(self, value: float) -> None:
        self._total += value
        self._count += 1

    def value(self) -> float | None:
        return self._total / self._count if self._count else None


class _Moves:
    """One item's moves so far."""

    __slots__ = ("feeds", "largest", "total")

    def __init__(self) -> None:
        self.feeds = self.total = self.largest = 0

    def add(self, move: int) -> None:
        self.feeds += 1
        self.total += move
        if abs(move) > abs(self.largest) or move == -self.largest > 0:
            self.largest = move


class _Tops:
    """The scores of all feeds' first 10, summed by objective."""

    def __init__(self, objectives: int) -> None:
        self._total, self._items = np.zeros(objectives, np.float64), 0

    def add(self, scores: Scores, first: list[int]) -> None:
        # In the candidates' order: the same ten items have the same sum in whichever order they
        # stand.
        self._total += scores[sorted(first)].astype(np.float64).sum(axis=0)
        self._items += len(first)

    def means(self) -> list[float] | list[None]:
        means: NDArray[np.float64] = self._total / max(self._items, 1)
        return means.tolist() if self._items else [None] * len(means)


class _Tally:
    """What the feeds so far add up to."""

    def __init__(self, before: Weights, after: Weights) -> None:
        self._before, self._after = before, after
        self._feeds = self._skipped = self._incomplete = 0
        self._changed = Changed(0, 0, 0, 0)
        self._tau, self._overlap = _Mean(), _Mean()
        self._tops = _Tops(len(before.values)), _Tops(len(before.values))
        self._moves: dict[str, _Moves] = {}

    def take(self, feed: Feed) -> None:
        try:
            scored, turned = scored_of(feed, self._before), scored_of(feed, self._after)
        except ObjectivesDiffer:
            self._skipped += 1
            return
        self._feeds += 1
        self._incomplete += not is_whole(feed)
        orders = (
            place_anew(feed, scored, self._before).kept,
            place_anew(feed, turned, self._after).kept,
        )
        for tops, ranked in zip(self._tops, orders, strict=True):
            tops.add(scored.scores, ranked[:FIRST])
        self._compare(*orders)
        self._follow(scored.item_ids, *orders)

    def _compare(self, before: list[int], after: list[int]) -> None:
        first, then = before[:FIRST], after[:FIRST]
        shared = len(set(first) & set(then))
        now = (before != after, before[:1] != after[:1], shared < len(first), first != then)
        self._changed = Changed(
            *(count + change for count, change in zip(self._changed, now, strict=True))
        )
        if first:
            self._overlap.add(shared / len(first))

    def _follow(self, item_ids: tuple[str, ...], before: list[int], after: list[int]) -> None:
        places = dict(zip(after, range(len(after)), strict=True))
        stayed = [places[index] for index in before if index in places]
        if len(stayed) > 1:
            self._tau.add(kendall_tau(stayed))
        for position, index in enumerate(before):
            self._moved(item_ids[index], position - places.pop(index, len(after)))
        for index, place in places.items():
            self._moved(item_ids[index], len(before) - place)

    def _moved(self, item_id: str, move: int) -> None:
        moves = self._moves.get(item_id)
        if moves is None:
            moves = self._moves[item_id] = _Moves()
        moves.add(move)

    def preview(self) -> Preview:
        means = zip(self._before.values, *(tops.means() for tops in self._tops), strict=True)
        return Preview(
            before=self._before,
            after=self._after,
            feeds=self._feeds,
            skipped=self._skipped,
            incomplete=self._incomplete,
            changed=self._changed,
            kendall_tau=self._tau.value(),
            overlap_at_10=self._overlap.value(),
            objectives={objective: Shift(before, after) for objective, before, after in means},
            movers=tuple(self._movers()),
        )

    def _movers(self) -> list[Mover]:
        movers = [
            Mover(i, m.feeds, m.total / m.feeds, m.largest)
            for i, m in self._moves.items()
            if m.largest
        ]
        return sorted(
            movers, key=lambda m: (-abs(m.mean_move), -abs(m.largest_move), -m.feeds, m.item_id)
        )[:_MOVERS]
