"""How far a weight must move until a feed changes."""

from typing import Any

import pytest

from tests.builders import surface
from tests.ranking.building import feed_of, mix
from workers.ranking.diversify import Diversity
from workers.ranking.margin import Crossing, Margin, Spread, feed_margins, margins_of
from workers.ranking.rerank import ObjectivesDiffer
from workers.ranking.weights import Weights

EVEN = mix(0.5, 0.5)
# Under EVEN: a 0.625, b 0.5, c 0.25.
TABLE = {"a": (0.5, 0.75), "b": (0.75, 0.25), "c": (0.25, 0.25)}


def test_the_first_place_changes_at_the_move_at_which_two_lines_meet() -> None:
    margins = feed_margins(feed_of(TABLE, EVEN), EVEN)
    quality, engagement = (
        margins.objectives["quality"].first_place,
        margins.objectives["engagement"].first_place,
    )
    assert quality == Margin(Crossing(0.5, "b", "a", True), Crossing(-1.5, "c", "a", True))
    assert engagement == Margin(None, Crossing(-0.25, "b", "a", True))
    assert (margins.request_id, margins.items, margins.whole) == ("r", 3, True)


def test_ten_items_or_fewer_are_the_first_10_under_any_weights() -> None:
    margins = feed_margins(feed_of(TABLE, EVEN), EVEN)
    assert {objective.first_10 for objective in margins.objectives.values()} == {Margin(None, None)}


def test_the_first_10_change_at_the_move_at_which_one_of_the_rest_meets_one_of_them() -> None:
    table = {f"i{n:02}": (1 - n / 32, 0.5) for n in range(12)} | {"i11": (0.25, 1.0)}
    margins = feed_margins(feed_of(table, mix(1, 0)), mix(1, 0))
    assert margins.objectives["engagement"].first_10.up == Crossing(
        (1 - 9 / 32 - 0.25) / 0.5, "i11", "i09", True
    )
    assert margins.objectives["engagement"].first_10.down is None
    assert margins.objectives["quality"].first_10 == Margin(
        None, Crossing(-1.0, "i11", "i00", True)
    )


def test_a_margin_is_of_the_order_under_the_given_set() -> None:
    under_quality = feed_margins(feed_of(TABLE, EVEN), mix(1, 0))
    assert under_quality.objectives["engagement"].first_place.up == Crossing(0.5, "a", "b", True)


def test_a_margin_says_whether_it_is_within_the_bounds_of_its_weight() -> None:
    margins = feed_margins(
        feed_of(TABLE, EVEN), EVEN, {"quality": (0.0, 1.0), "engagement": (0.3, 1.0)}
    )
    quality, engagement = (
        margins.objectives["quality"].first_place,
        margins.objectives["engagement"].first_place,
    )
    assert quality.up is not None
    assert quality.up.within_bounds
    assert quality.down is not None
    assert not quality.down.within_bounds
    assert engagement.down is not None
    assert not engagement.down.within_bounds


def test_items_that_are_tied_now_change_places_at_a_move_of_0() -> None:
    margins = feed_margins(feed_of({"a": (0.5, 0.5), "b": (0.25, 0.75)}, EVEN), EVEN)
    place = margins.objectives["quality"].first_place
    assert place == Margin(None, Crossing(0.0, "b", "a", True))
    assert str(place.down and place.down.move) == "0.0"


def test_items_with_the_same_scores_never_change_places() -> None:
    margins = feed_margins(feed_of({"a": (0.5, 0.5), "b": (0.5, 0.5)}, EVEN), EVEN)
    assert {objective.first_place for objective in margins.objectives.values()} == {
        Margin(None, None)
    }


def test_of_items_that_meet_at_the_same_move_the_first_by_item_id_rises() -> None:
    level = {
        "b": (0.5, 0.5),
        "c": (1.0, 0.25),
        "a": (0.75, 0.375),
    }  # all three meet where both weights are equal
    margins = feed_margins(feed_of(level, mix(0.25, 0.5)), mix(0.25, 0.5))
    assert margins.objectives["quality"].first_place.up == Crossing(0.0, "c", "a", True)
    behind = feed_margins(feed_of(level, mix(0.125, 0.5)), mix(0.125, 0.5))
    assert behind.objectives["quality"].first_place.up == Crossing(0.125, "a", "b", True)


def test_if_the_leader_stays_first_at_the_meeting_the_steepest_rises_past_it() -> None:
    table = {"a": (0.5, 0.5), "c": (1.0, 0.25), "b": (0.75, 0.375)}
    margins = feed_margins(feed_of(table, mix(0.125, 0.5)), mix(0.125, 0.5))
    assert margins.objectives["quality"].first_place.up == Crossing(0.125, "c", "a", True)


def test_a_meeting_beyond_the_largest_number_does_not_count() -> None:
    margins = feed_margins(
        feed_of({"a": (1.0, 1e-44), "b": (0.5, 3e-44)}, mix(1e300, 1)), mix(1e300, 1)
    )
    assert margins.objectives["engagement"].first_place == Margin(None, None)


def test_an_empty_feed_has_no_margin() -> None:
    margins = feed_margins(feed_of({}, EVEN), EVEN)
    assert margins.objectives["quality"] == (Margin(None, None), Margin(None, None))


def test_a_feed_of_other_objectives_is_refused_alone_and_skipped_among_others() -> None:
    feed, set_of_one = feed_of(TABLE, EVEN), Weights.of({"quality": 1.0})
    with pytest.raises(ObjectivesDiffer):
        feed_margins(feed, set_of_one)
    assert margins_of([feed, feed._replace(weights=set_of_one), feed], EVEN).skipped == 1


def test_over_many_feeds_the_smallest_and_the_median_move_of_those_that_change() -> None:
    narrow = feed_of({"a": (0.5, 0.5), "b": (0.75, 0.125)}, EVEN)
    never = feed_of({"a": (0.5, 0.5)}, EVEN)
    margins = margins_of(
        [feed_of(TABLE, EVEN), narrow, never._replace(truncated=3)], EVEN, {"quality": (0.0, 0.9)}
    )
    assert (len(margins.feeds), margins.incomplete) == (3, 1)
    assert margins.spreads()["quality"].first_place == (
        Spread(2, 1, 0.25, 0.375),
        Spread(1, 0, -1.5, -1.5),
    )
    assert margins.spreads()["engagement"].first_place == (
        None,
        Spread(2, 2, -1 / 6, (-1 / 6 - 0.25) / 2),
    )
    assert margins.spreads()["quality"].first_10 == (None, None)


@pytest.mark.parametrize("rule", [{"diversity": Diversity(0.5)}, {"max_per_source": 1}])
def test_margins_of_a_feed_with_rules_on_sources_are_those_of_the_sums_and_not_exact(
    rule: dict[str, Any],
) -> None:
    feed = feed_of(TABLE, EVEN, sources=dict.fromkeys(TABLE, "s"), surface=surface(**rule))
    margins = feed_margins(feed, EVEN)
    assert margins.objectives == feed_margins(feed_of(TABLE, EVEN), EVEN).objectives
    assert (margins.items, margins.whole, margins.has_source_rules, margins.exact) == (
        len(feed.items),
        True,
        True,
        False,
    )
    assert (margins_of([feed], EVEN).with_source_rules, margins_of([feed], EVEN).incomplete) == (
        1,
        0,
    )


def test_margins_are_exact_if_the_feed_is_whole_and_has_no_rules_on_sources() -> None:
    feed = feed_of(TABLE, EVEN)
    assert feed_margins(feed, EVEN).exact
    assert not feed_margins(feed._replace(truncated=1), EVEN).exact
