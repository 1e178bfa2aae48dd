"""What the demo says of a preview, of an experiment and of models, counted from the feeds alone.
Pure.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from workers.ranking.feed import Feed
from workers.ranking.request import Completion
from workers.ranking.rerank import rerank
from workers.ranking.weights import Weights
from workers.scoring.refusal import ModelReason


@dataclass(frozen=True)
class Foresight:
    """Previewed requests that were ranked once more: feeds that were compared, and those that are
    as previewed.
    """

    compared: int
    as_previewed: int

    @property
    def holds(self) -> bool:
        """Whether all of them are."""
        return self.as_previewed == self.compared


@dataclass(frozen=True)
class Arms:
    """Feeds by arm; how many users have several of these feeds, and how many of those are in more
    than one arm.
    """

    feeds: Mapping[str, int]
    returning: int
    parted: int

    @property
    def total(self) -> int:
        """The feeds of all arms."""
        return sum(self.feeds.values())

    def percent(self, arm: str) -> float:
        """The arm's share of the feeds; there must be some."""
        return 100 * self.feeds.get(arm, 0) / self.total


@dataclass(frozen=True)
class Swap:
    """A version that came in mid-stream, a bad one after it, and a pin.

    `ranked_ms`: from the version's manifest to the `ranked_at` of the first feed by it. `refused`:
    the reason why the bad one is. `pinned`: feeds that were ranked once all workers had the pin,
    and `strayed` those of them that are by another version.
    """

    ranked_ms: int
    refused: str
    pinned: int
    strayed: int

    @property
    def holds(self) -> bool:
        """Whether the bad version was refused for its bytes, and the pin held."""
        return self.refused == ModelReason.HASH and self.pinned > 0 and self.strayed == 0


def is_full(feed: Feed) -> bool:
    """Whether it has all of the posts that were sent with its request."""
    return feed.completion is Completion.FULL and not feed.refused


def foresight(pairs: Iterable[tuple[Feed, Feed]], weights: Weights) -> Foresight:
    """Hold one feed of each pair, ranked anew as a preview does, against the other: a worker's,
    under `weights`.

    As previewed: the same items in the same order with the same scores and final scores, bit for
    bit. A pair is left out where one of its feeds came without some of its posts.
    """
    held = [_foreseen(old, new, weights) for old, new in pairs if is_full(old) and is_full(new)]
    return Foresight(len(held), sum(held))


def _foreseen(old: Feed, new: Feed, weights: Weights) -> bool:
    expected = rerank(old, weights)
    return (expected.weights, expected.items) == (new.weights, new.items)


def strayed(feeds: Iterable[Feed], objective: str, version: int) -> int:
    """How many of the feeds are by another version of the objective's model."""
    return sum(feed.models[objective] != version for feed in feeds)


def arms_of(feeds: Iterable[Feed]) -> Arms:
    """Count feeds that were ranked while one and the same experiment ran."""
    by_user: defaultdict[str, list[str]] = defaultdict(list)
    for feed in feeds:
        by_user[feed.user_id].append(feed.arm)
    return Arms(
        feeds=Counter(arm for arms in by_user.values() for arm in arms),
        returning=sum(len(arms) > 1 for arms in by_user.values()),
        parted=sum(len(set(arms)) > 1 for arms in by_user.values()),
    )
