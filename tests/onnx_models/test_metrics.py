"""The measures have the values that were computed by hand, and keep their laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_models.communities import Numbers
from onnx_models.metrics import (
    FEWEST,
    baselines,
    by_community,
    conflict,
    ndcg,
    opposed_pairs,
    quality_of_order,
    shared_in_top_tenth,
    spearman,
)


def numbers(*values: float) -> Numbers:
    return np.array(values, float)


def test_spearman_of_a_textbook_example() -> None:
    # Six d^2 over n(n^2 - 1), with d = 0, 1, 1, 1, 1 for n = 5.
    rho = spearman(numbers(1, 2, 3, 4, 5), numbers(1, 3, 2, 5, 4))
    assert rho == pytest.approx(1 - 6 * 4 / (5 * 24))


def test_spearman_of_a_constant_order_is_zero() -> None:
    assert spearman(numbers(1, 1, 1), numbers(1, 2, 3)) == 0.0


@given(st.lists(st.integers(0, 100), min_size=3, max_size=20, unique=True))
def test_spearman_depends_on_the_order_alone(values: list[int]) -> None:
    order = numbers(*values)
    assert spearman(order, np.exp(order / 20)) == pytest.approx(1)
    assert spearman(order, -order) == pytest.approx(-1)


def test_ndcg_of_an_example_computed_by_hand() -> None:
    got = 0.5 / 1 + 1.0 / np.log2(3)
    best = 1.0 / 1 + 0.5 / np.log2(3)
    assert ndcg(numbers(9, 8, 1), numbers(0.5, 1.0, 0.0), top=2) == pytest.approx(got / best)


def test_ndcg_of_the_perfect_order_is_one_even_if_there_are_few_posts() -> None:
    assert ndcg(numbers(3, 2, 1), numbers(0.9, 0.5, 0.1)) == pytest.approx(1)


def test_each_community_counts_alike_and_too_small_ones_not_at_all() -> None:
    communities = np.repeat(["large", "medium", "small"], [3 * FEWEST, FEWEST, FEWEST - 1])
    order = np.arange(len(communities), dtype=float)
    expected = np.where(communities == "medium", -order, order)
    assert by_community(spearman, order, expected, communities) == pytest.approx(0)


def test_the_baselines_are_newest_first_and_no_order_at_all() -> None:
    communities = np.array(["one"] * 500)
    created = np.arange(500.0)
    figures = baselines(created, created * 2, communities, seed=7)
    assert figures["newest_first"] == {"spearman": 1.0, "ndcg@10": 1.0}
    assert figures["shuffled"]["spearman"] == pytest.approx(0, abs=0.05)  # type: ignore[index]


def test_an_order_is_measured_by_rank_so_that_outliers_weigh_nothing() -> None:
    communities = np.array(["one"] * 100)
    values = np.arange(100.0)
    with_outlier = np.where(values == 99, 1e9, values)
    expected = quality_of_order(values, values, communities)
    assert quality_of_order(values, with_outlier, communities) == expected


def test_opposed_pairs_leaves_ties_out() -> None:
    assert opposed_pairs(numbers(1, 2, 3), numbers(3, 2, 1)) == 1.0
    assert opposed_pairs(numbers(1, 2, 3), numbers(1, 3, 2)) == pytest.approx(1 / 3)
    assert opposed_pairs(numbers(1, 1, 3), numbers(2, 1, 3)) == 0.0


def test_the_best_tenth_is_shared_by_an_order_and_itself_and_not_by_its_reverse() -> None:
    order = np.arange(100.0)
    assert shared_in_top_tenth(order, order) == 1.0
    assert shared_in_top_tenth(order, -order) == 0.0


def test_conflict_of_an_order_with_its_reverse_is_total() -> None:
    order = np.arange(100.0)
    communities = np.array(["one"] * 100)
    assert conflict(order, -order, communities) == {
        "spearman": -1.0,
        "opposed_pairs": 1.0,
        "shared_in_top_tenth": 0.0,
    }
