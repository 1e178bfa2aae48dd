"""Counts by arm, weights, model, position and hour."""

from workers.outcomes.counts import GroupBy, count_by, position_label
from workers.outcomes.records import SumsKey
from workers.outcomes.sums import ClusterSums, Sums


def key(**changes: object) -> SumsKey:
    values: dict[str, object] = {
        "hour": 490_000,
        "surface": "home",
        "arm": "control",
        "experiment": None,
        "weights": "w1",
        "models": (("engagement", 3), ("quality", 1)),
    }
    return SumsKey(**(values | changes))  # type: ignore[arg-type]


def sums(feeds: int, seen: int, takes: int, hides: int = 0) -> Sums:
    cluster = ClusterSums(
        feeds=feeds, items=10 * feeds, seen=seen, takes=takes, others={"hide": hides}
    )
    return Sums(clusters={7: cluster}, positions={0: [seen, takes]})


def test_by_arm_the_hours_and_weights_are_added_up() -> None:
    rows = count_by(
        GroupBy.ARM,
        [
            (key(), sums(2, 20, 1, hides=1)),
            (key(hour=490_001, weights="w2"), sums(1, 5, 2, hides=2)),
            (key(arm="canary"), sums(1, 10, 5)),
        ],
    )
    assert [(row.label, row.feeds, row.seen, row.takes, row.others) for row in rows] == [
        ("canary", 1, 10, 5, {"hide": 0}),
        ("control", 3, 25, 3, {"hide": 3}),
    ]
    assert rows[0].take_rate == 0.5


def test_by_model_a_feed_counts_for_each_model_that_scored_it() -> None:
    rows = count_by(GroupBy.MODEL, [(key(), sums(2, 20, 1))])
    assert [(row.label, row.feeds) for row in rows] == [("engagement:3", 2), ("quality:1", 2)]


def test_by_position_there_are_seen_and_taken_items_in_the_order_of_the_feed() -> None:
    many = Sums(positions={50: [3, 0], 2: [4, 1], 0: [9, 2]})
    rows = count_by(GroupBy.POSITION, [(key(), many), (key(arm="canary"), many)])
    assert [(row.label, row.seen, row.takes) for row in rows] == [(0, 18, 4), (2, 8, 2), (50, 6, 0)]
    assert position_label(50) == "50+"


def test_without_items_seen_there_is_no_rate() -> None:
    (row,) = count_by(GroupBy.ARM, [(key(), sums(1, 0, 0))])
    assert row.take_rate is None
    assert row.interval is None
