"""Adding sums up."""

from workers.outcomes.records import ClosedFeed, SumsKey
from workers.outcomes.sums import Sums, add_sums
from workers.ranking.request import Completion

FEED = ClosedFeed(
    offset=0,
    time=5,
    due=10,
    request_id="r-1",
    user_id="u-1",
    key=SumsKey(0, "home", "control", None, "9f86d081884c", ()),
    completion=Completion.FULL,
    item_ids=("a", "b"),
    first_position=0,
    marks=bytes([0b111, 0b001]),
    names=("seen", "take", "hide"),
    score_sums={"quality": 0.5},
)
FEEDS = (
    FEED,
    FEED._replace(user_id="u-2", completion=Completion.DEADLINE, score_sums={"engagement": 2.0}),
    FEED._replace(user_id="u-3", first_position=60, names=("seen", "take"), marks=bytes([0b11, 1])),
    FEED._replace(marks=b""),
)


def sums_of(*feeds: ClosedFeed) -> Sums:
    sums = Sums()
    for feed in feeds:
        sums.add(feed)
    return sums


def test_sums_of_parts_add_up_to_the_sums_of_the_whole() -> None:
    total = Sums()
    for part in (FEEDS[:1], FEEDS[1:1], FEEDS[1:3], FEEDS[3:]):
        add_sums(total, sums_of(*part))
    assert total == sums_of(*FEEDS)


def test_what_is_added_does_not_change() -> None:
    further = sums_of(*FEEDS)
    total = Sums()
    add_sums(total, further)
    add_sums(total, further)
    assert further == sums_of(*FEEDS)
