"""A feed as `trimtab feeds tail` shows it to people."""

from dataclasses import replace

import pytest

from workers.commands.feeds import table
from workers.ranking.feed import Feed, FeedItem
from workers.ranking.request import Completion
from workers.ranking.weights import Weights

EVEN = Weights.of({"quality": 0.5, "engagement": 0.5})
ITEMS = [FeedItem("t3_b", 0.6, (0.7, 0.5)), FeedItem("t3_a", 0.5, (0.5, 0.5))]


@pytest.mark.parametrize(
    ("refused", "below_top_k", "said"),
    [
        (0, 0, "2 items  weights "),
        (3, 0, "2 items, 3 refused  weights "),
        (0, 4, "2 items, 4 below top_k  weights "),
        (3, 4, "2 items, 3 refused, 4 below top_k  weights "),
    ],
)
def test_the_table_says_above_the_items_how_many_are_not_among_them(refused: int, below_top_k: int, said: str) -> None:
    feed = Feed("r-1", "home", "u", 1, 2, Completion.FULL, refused, "control", EVEN, {"quality": 1}, ITEMS)
    shown = table(replace(feed, below_top_k=below_top_k), 1)
    first, _, *items = shown.rstrip().splitlines()
    assert said in first
    assert [line.split()[-1] for line in items] == ["t3_b"]
