"""What a change of weights would do."""

import pytest

from tests.builders import surface
from tests.ranking.building import feed_of, mix
from workers.ranking.diversify import Diversity
from workers.ranking.feed import Feed
from workers.ranking.preview import MeanScore, Mover, kendall_tau, preview
from workers.ranking.rerank import ObjectivesDiffer
from workers.ranking.weights import Weights

QUALITY, ENGAGEMENT = mix(1, 0), mix(0, 1)


def reversing(count: int, prefix: str = "i") -> Feed:
    """A feed whose order by engagement is the reverse of that by quality. It was published under a
    third set.
    """
    table = {f"{prefix}{n:02}": (1 - n / 64, n / 64) for n in range(count)}
    return feed_of(table, mix(0.3, 0.2))


def test_both_orders_are_ranked_from_the_scores_whatever_set_the_feed_was_published_under() -> None:
    result = preview([reversing(4)], QUALITY, ENGAGEMENT)
    assert (result.before, result.after) == (QUALITY, ENGAGEMENT)
    assert result.kendall_tau == -1
    assert result.changed == (1, 1, 0, 1)


def test_what_changes_is_counted_by_feed() -> None:
    same = feed_of({"a": (0.9, 0.9), "b": (0.1, 0.1)}, QUALITY)
    below = feed_of(
        {f"i{n:02}": (1 - n / 64, 0.5 - (n if n < 11 else 23 - n) / 64) for n in range(13)}, QUALITY
    )
    result = preview([same, below, reversing(20), reversing(10)], QUALITY, ENGAGEMENT)
    assert result.feeds == 4
    assert result.changed._asdict() == {
        "any": 3,
        "first_place": 2,
        "first_10_items": 1,
        "first_10_order": 2,
    }


def test_the_overlap_is_of_the_first_10_or_of_as_many_as_there_are() -> None:
    assert preview([reversing(20)], QUALITY, ENGAGEMENT).overlap_at_10 == 0
    assert preview([reversing(15)], QUALITY, ENGAGEMENT).overlap_at_10 == 0.5
    assert preview([reversing(3)], QUALITY, ENGAGEMENT).overlap_at_10 == 1
    result = preview([reversing(20), reversing(15), reversing(0)], QUALITY, ENGAGEMENT)
    assert (result.overlap_at_10, result.churn) == (0.25, 0.75)


def test_a_feed_of_one_item_has_no_tau_and_an_empty_one_no_overlap_either() -> None:
    single = preview([reversing(1)], QUALITY, ENGAGEMENT)
    assert (single.feeds, single.kendall_tau, single.overlap_at_10) == (1, None, 1)
    empty = preview([reversing(0)], QUALITY, ENGAGEMENT)
    assert (empty.feeds, empty.kendall_tau, empty.overlap_at_10, empty.churn) == (
        1,
        None,
        None,
        None,
    )
    assert empty.objectives == {
        "quality": MeanScore(None, None),
        "engagement": MeanScore(None, None),
    }


def test_tau_is_the_mean_over_feeds() -> None:
    same = feed_of({"a": (0.9, 0.9), "b": (0.1, 0.1)}, QUALITY)
    assert preview([same, reversing(7), reversing(1)], QUALITY, ENGAGEMENT).kendall_tau == 0


def test_one_swapped_pair_of_four_items_is_a_tau_of_two_thirds() -> None:
    assert kendall_tau([0, 2, 1, 3]) == pytest.approx(2 / 3)


def test_an_objectives_mean_is_over_the_items_of_all_first_10() -> None:
    table = {f"i{n:02}": (1.0 if n < 10 else 0.0, 0.0 if n < 5 else 1.0) for n in range(15)}
    single = feed_of({"only": (0.5, 0.25)}, QUALITY)
    result = preview([feed_of(table, QUALITY), single], QUALITY, ENGAGEMENT)
    assert result.objectives == {
        "quality": MeanScore((10 + 0.5) / 11, (5 + 0.5) / 11),
        "engagement": MeanScore((5 + 0.25) / 11, (10 + 0.25) / 11),
    }


def test_the_same_first_10_have_the_same_mean_in_any_order() -> None:
    tiny = feed_of(
        {"a": (1.0, 0.0), "b": (1e-16, 0.5), "c": (1e-16, 1.0)}, QUALITY
    )  # their sum depends on its order
    result = preview([tiny], QUALITY, ENGAGEMENT)
    assert result.changed == (1, 1, 0, 1)
    assert result.objectives["quality"].before == result.objectives["quality"].after


def test_feeds_of_other_objectives_are_skipped_and_counted_and_the_rest_is_compared() -> None:
    other = reversing(2)._replace(weights=Weights.of({"quality": 1, "freshness": 1}))
    result = preview([other, reversing(2), other], QUALITY, ENGAGEMENT)
    assert (result.feeds, result.skipped, result.changed.any) == (1, 2, 1)


def test_feeds_that_are_not_whole_are_compared_and_counted() -> None:
    result = preview([reversing(2)._replace(truncated=7), reversing(2)], QUALITY, ENGAGEMENT)
    assert (result.feeds, result.incomplete) == (2, 1)


def test_two_sets_of_other_objectives_are_refused() -> None:
    with pytest.raises(
        ObjectivesDiffer,
        match=r"got objectives \['quality'\], expected \['quality', 'engagement'\]",
    ):
        preview([], QUALITY, Weights.of({"quality": 1}))


def test_the_items_that_move_most_come_first_with_up_as_positive() -> None:
    result = preview([reversing(3), reversing(2)], QUALITY, ENGAGEMENT)
    assert result.movers == (
        Mover("i02", 1, 2.0, 2),
        Mover("i00", 2, -1.5, -2),
        Mover("i01", 2, 0.5, 1),
    )


def test_items_that_never_move_are_not_among_the_movers_and_there_are_ten_at_most() -> None:
    assert (
        preview([reversing(3)], QUALITY, ENGAGEMENT).movers
        == (Mover("i02", 1, 2.0, 2), Mover("i00", 1, -2.0, -2))[::-1]
    )
    assert len(preview([reversing(30)], QUALITY, ENGAGEMENT).movers) == 10


def test_of_two_equally_large_moves_the_largest_is_the_one_up_whichever_came_first() -> None:
    up = feed_of({"a": (0.1, 0.9), "b": (0.9, 0.1)}, QUALITY)
    down = feed_of({"a": (0.9, 0.1), "c": (0.1, 0.9)}, QUALITY)
    for feeds in ([up, down], [down, up]):
        (moved,) = [m for m in preview(feeds, QUALITY, ENGAGEMENT).movers if m.item_id == "a"]
        assert moved == Mover("a", 2, 0.0, 1)


def test_nothing_to_compare_is_a_preview_of_nothing() -> None:
    result = preview([], QUALITY, ENGAGEMENT)
    assert (result.feeds, result.skipped, result.changed, result.movers) == (0, 0, (0, 0, 0, 0), ())


def test_feeds_are_compared_one_after_the_other_and_may_have_a_thousand_items() -> None:
    result = preview((reversing_many(n) for n in range(3)), QUALITY, ENGAGEMENT)
    assert (result.feeds, result.kendall_tau, result.overlap_at_10) == (3, -1, 0)


def reversing_many(number: int) -> Feed:
    return feed_of({f"f{number}-{n:04}": (1 - n / 1024, n / 1024) for n in range(1000)}, QUALITY)


def test_rules_on_sources_are_in_force_on_both_sides_and_what_they_keep_out_counts_as_behind_the_last() -> (
    None
):
    table = {"a": (1.0, 0.0), "b": (0.75, 0.25), "c": (0.5, 0.5), "d": (0.25, 1.0)}
    of_s = {"a": "s", "b": "s", "d": "s"}
    feed = feed_of(table, mix(0.5, 0.5), sources=of_s, surface=surface(max_per_source=1))
    result = preview([feed], QUALITY, ENGAGEMENT)  # a, c; then d, c
    assert result.changed == (1, 1, 1, 1)
    assert (result.kendall_tau, result.overlap_at_10, result.incomplete) == (None, 0.5, 0)
    assert result.objectives == {
        "quality": MeanScore(0.75, 0.375),
        "engagement": MeanScore(0.25, 0.75),
    }
    assert result.movers == (Mover("a", 1, -2.0, -2), Mover("d", 1, 2.0, 2))


def test_a_preview_is_of_the_feeds_not_of_the_weighted_sums_alone() -> None:
    table, sources = (
        {"a": (1.0, 0.5), "b": (0.75, 1.0), "c": (0.5, 0.5)},
        {"a": "s", "b": "s", "c": "t"},
    )
    feed = feed_of(table, QUALITY, sources=sources, surface=surface(diversity=Diversity(0.5)))
    assert [item.item_id for item in feed.items] == ["a", "c", "b"]
    result = preview([feed], QUALITY, ENGAGEMENT)  # b, c, a: a keeps half of its 0.5
    assert (result.kendall_tau, result.changed.first_place) == (-1, 1)
