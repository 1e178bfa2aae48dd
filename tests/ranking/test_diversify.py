"""How much further items of one source lose by diversity."""

from collections.abc import Sequence

import numpy as np
import pytest

from workers.ranking.diversify import Diversity, diversify

HALF = Diversity(0.5)


def taken(
    combined: Sequence[float], sources: Sequence[str | None], diversity: Diversity = HALF
) -> list[float]:
    """The adjustments of scores that are given in their order."""
    adjustments = diversify(
        np.array(combined, np.float64), range(len(combined)), tuple(sources), diversity
    )
    as_list: list[float] = adjustments.tolist()
    return as_list


def test_the_first_of_a_source_keeps_all_and_each_further_one_a_decaying_share() -> None:
    assert taken([8.0, 4.0, 4.0, 1.0], ["s", "s", "t", "s"]) == [0.0, -2.0, 0.0, -0.75]


def test_no_item_keeps_less_than_the_floor() -> None:
    assert taken([8.0, 8.0, 8.0], ["s"] * 3, Diversity(0.0, 0.25)) == [0.0, -6.0, -6.0]
    assert taken([8.0, 8.0, 8.0], ["s"] * 3, Diversity(0.5, 0.5)) == [0.0, -2.0, -3.0]


@pytest.mark.parametrize("diversity", [Diversity(1.0, 0.1), Diversity(0.3, 1.0)])
def test_a_share_of_one_takes_nothing_off_to_the_last_bit(diversity: Diversity) -> None:
    assert taken([0.3, 0.2, 0.1], ["s"] * 3, diversity) == [0.0, 0.0, 0.0]


def test_items_without_a_source_do_not_repeat_one() -> None:
    assert taken([2.0, 2.0, 2.0], [None, None, None]) == [0.0, 0.0, 0.0]


def test_nothing_is_taken_off_a_score_that_is_not_positive() -> None:
    assert taken([1.0, 0.0, -1.0], ["s"] * 3) == [0.0, 0.0, 0.0]


def test_which_item_is_first_of_its_source_is_decided_by_the_order_given() -> None:
    assert diversify(np.array([1.0, 1.0]), [1, 0], ("s", "s"), HALF).tolist() == [-0.5, 0.0]


def test_the_power_is_that_of_multiplications_one_after_the_other() -> None:
    power, shares = 1.0, []
    for _ in range(30):
        power *= 0.83
        shares.append(0.1 + (1 - 0.1) * power - 1)
    assert taken([1.0] * 31, ["s"] * 31, Diversity(0.83, 0.1)) == [0.0, *shares]


@pytest.mark.parametrize(
    ("key", "value"), [("decay", 1.01), ("decay", -0.1), ("floor", 2.0), ("floor", float("nan"))]
)
def test_a_number_that_is_not_a_share_is_refused_by_its_key(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{key}: got {value!r}, expected 0 to 1"):
        Diversity(**({"decay": 0.5} | {key: value}))
