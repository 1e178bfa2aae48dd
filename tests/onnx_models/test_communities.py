"""Targets are relative to a community. The split separates whole communities and later posts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_models.communities import LATER_FROM, ranks, ranks_within, split, without_levels
from onnx_models.posts import Post
from tests.onnx_models.builders import post

values = st.lists(st.integers(-5, 5), min_size=1, max_size=30)


@given(values)
def test_ranks_lie_within_zero_and_one_and_keep_the_order(numbers: list[int]) -> None:
    ranked = ranks(np.array(numbers, float))
    assert (ranked > 0).all()
    assert (ranked < 1).all()
    for i, left in enumerate(numbers):
        for j, right in enumerate(numbers):
            assert (ranked[i] < ranked[j]) == (left < right)


@given(values)
def test_ranks_are_one_half_on_the_average_whatever_the_ties(numbers: list[int]) -> None:
    assert ranks(np.array(numbers, float)).mean() == pytest.approx(0.5)


def test_a_rank_within_a_community_ignores_the_others() -> None:
    ranked = ranks_within(
        np.array([5.0, 1000.0, 1.0, 3000.0]), np.array(["small", "large", "small", "large"])
    )
    assert ranked.tolist() == [0.75, 0.25, 0.25, 0.75]


def test_a_community_s_own_level_is_taken_out_and_the_effect_of_features_kept() -> None:
    random = np.random.default_rng(0)
    communities = np.repeat(np.array(["a", "b"]), 200)
    rows = (random.random((400, 2)) + (communities == "b")[:, None]).astype(np.float32)
    effect = rows @ np.array([2.0, -1.0])
    level = np.where(communities == "b", 7.0, 0.0)
    levelled = without_levels(rows, effect + level, communities)
    assert levelled - effect == pytest.approx(np.zeros(400), abs=1e-4)


def posts_of(communities: int) -> list[Post]:
    late = int(LATER_FROM.timestamp())
    posts = list[Post]()
    for number in range(communities):
        posts.append(post(community=f"c{number}", created=late - 1))
        posts.append(post(community=f"c{number}", created=late))
    return posts


def test_training_sees_neither_a_held_out_community_nor_a_later_post() -> None:
    posts = posts_of(9)
    divided = split(posts, seed=7)
    for quarter, names in enumerate(divided.quarters):
        seen = [each for each, kept in zip(posts, divided.without(quarter), strict=True) if kept]
        assert not {each.community for each in seen} & set(names)
        assert all(each.created < LATER_FROM.timestamp() for each in seen)


def test_every_community_is_held_out_in_one_quarter() -> None:
    divided = split(posts_of(9), seed=7)
    held_out = list[str]()
    for quarter in divided.quarters:
        held_out.extend(quarter)
    assert sorted(held_out) == [f"c{number}" for number in range(9)]
    assert np.sum(divided.in_quarter, axis=0).tolist() == [1] * 18


def test_the_order_of_the_posts_does_not_change_who_is_held_out() -> None:
    posts = posts_of(12)
    assert split(posts, 7).quarters == split(posts[::-1], 7).quarters


def test_too_few_communities_to_hold_a_quarter_out_are_refused() -> None:
    with pytest.raises(ValueError, match="3 communities, expected at least 4"):
        split(posts_of(3), seed=7)
