"""A feed as `trimtab feeds tail` shows it to people."""

import pytest

from workers.commands.feeds import feed_text
from workers.ranking.diversify import Diversity
from workers.ranking.feed import Feed, FeedItem
from workers.ranking.removal import Removal
from workers.ranking.request import Completion
from workers.ranking.weights import Weights

EVEN = Weights.of({"quality": 0.5, "engagement": 0.5})
ITEMS = [FeedItem("t3_b", 0.6, (0.7, 0.5)), FeedItem("t3_a", 0.5, (0.5, 0.5))]
FEED = Feed("r-1", "home", "u", 1, 2, Completion.FULL, 0, "control", EVEN, {"quality": 1}, ITEMS)


@pytest.mark.parametrize(
    ("refused", "below_top_k", "notes"),
    [
        (0, 0, "2 items  weights "),
        (3, 0, "2 items, 3 refused  weights "),
        (0, 4, "2 items, 4 below top_k  weights "),
        (3, 4, "2 items, 3 refused, 4 below top_k  weights "),
    ],
)
def test_the_line_above_the_items_counts_what_is_not_among_them(
    refused: int, below_top_k: int, notes: str
) -> None:
    shown = feed_text(FEED._replace(refused=refused, below_top_k=below_top_k), 1)
    first, _, *items = shown.rstrip().splitlines()
    assert notes in first
    assert [line.split()[-1] for line in items] == ["t3_b"]


def test_the_line_above_the_items_has_the_reasons_of_removals_and_what_was_not_looked_up() -> None:
    removed = [
        Removal("x", "source-limit", "s", (0.1, 0.1)),
        Removal("y", "seen"),
        Removal("z", "seen"),
    ]
    feed = FEED._replace(
        removed=removed, truncated=7, skipped=["blocked", "features"], defaulted=["t3_a"]
    )
    noted = "2 items, 1 source-limit, 2 seen, 7 truncated, 1 by default features, without blocked, features  weights "
    assert noted in feed_text(feed, 1)
    assert "2 items, 12 removed  weights " in feed_text(FEED._replace(unlisted=12), 1)


def test_with_rules_on_sources_the_table_shows_sources_and_adjustments() -> None:
    items = [
        FeedItem("t3_b", 0.6, (0.7, 0.5), "worldnews"),
        FeedItem("t3_a", 0.4, (0.5, 0.5), None, {"diversity": -0.1}),
    ]
    limited = feed_text(FEED._replace(items=items, max_per_source=3), 2).splitlines()
    assert limited[1].split() == ["pos", "final", "quality", "engagement", "source", "item"]

    diverse = feed_text(FEED._replace(items=items, diversity=Diversity(0.5)), 2).splitlines()
    assert diverse[1].split() == [
        "pos",
        "final",
        "adjusted",
        "quality",
        "engagement",
        "source",
        "item",
    ]
    assert diverse[2].split() == ["0", "0.6000", "0.0000", "0.7000", "0.5000", "worldnews", "t3_b"]
    assert diverse[3].split() == ["1", "0.4000", "-0.1000", "0.5000", "0.5000", "-", "t3_a"]
    assert (
        len(
            {
                line.index(word)
                for line, word in zip(diverse[1:4], ("item", "t3_b", "t3_a"), strict=True)
            }
        )
        == 1
    )
