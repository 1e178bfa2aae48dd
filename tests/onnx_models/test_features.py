"""The feature set: its numbers are known when a post is first shown, and are the same on every
machine. surfaces.toml has the same names, defaults and bounds.
"""

import math
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_models.features import FEATURES, NAMES, features, matrix
from onnx_models.posts import MAX_TIME, Post
from tests.onnx_models.builders import post

SURFACES = tomllib.loads(
    (Path(__file__).parents[2] / "deploy" / "surfaces.toml").read_text(encoding="utf-8")
)

posts = st.builds(
    Post,
    community=st.text("abc", min_size=1, max_size=20),
    item_id=st.just("t3_a"),
    title=st.text(max_size=400),
    domain=st.text(max_size=40),
    created=st.integers(0, MAX_TIME),
    is_self=st.booleans(),
    selftext_chars=st.integers(0, 10**12),
)


def named(each: Post) -> dict[str, float]:
    return dict(zip(NAMES, features(each), strict=True))


def test_there_are_thirty_two_features_with_different_names() -> None:
    assert len(NAMES) == len(set(NAMES)) == 32


def test_surfaces_toml_has_their_names_in_order_with_defaults_and_bounds() -> None:
    posts_set = SURFACES["feature_sets"]["posts"]
    assert posts_set["names"] == list(NAMES)
    assert posts_set["defaults"] == {each.name: each.default for each in FEATURES}
    assert posts_set["bounds"] == {each.name: [each.low, each.high] for each in FEATURES}


def test_defaults_lie_within_bounds() -> None:
    assert [each.name for each in FEATURES if not each.low <= each.default <= each.high] == []


@given(posts)
def test_any_post_gives_four_decimals_within_bounds(each: Post) -> None:
    for feature, value in zip(FEATURES, features(each), strict=True):
        assert isinstance(value, float)
        assert feature.low <= value <= feature.high
        assert value == round(value, 4)
        assert not (value == 0 and math.copysign(1, value) < 0)


@given(posts, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_votes_comments_and_ids_change_nothing(
    each: Post, ups: int, downs: int, comments: int
) -> None:
    other = replace(
        each, ups=ups, downs=downs, comments=comments, community="another", item_id="t3_other"
    )
    assert features(other) == features(each)


@given(st.lists(posts, max_size=5))
def test_a_row_of_the_matrix_is_the_post_s_features_in_float32(several: list[Post]) -> None:
    rows = matrix(several)
    assert rows.shape == (len(several), 32)
    assert rows.dtype == np.float32
    assert rows.tolist() == [np.array(features(each), np.float32).tolist() for each in several]


@pytest.mark.parametrize(
    ("title", "name", "value"),
    [
        ("", "log_title_words", 0.0),
        ("One two three", "log_title_words", 1.3863),
        ("One.  Two!\nThree", "title_sentences", 2.0),
        ("Is it 3.14?", "title_asks", 1.0),
        ("Is it? No", "title_asks", 0.0),
        ("A - B", "title_dash", 1.0),
        ("A-B", "title_dash", 0.0),
        ("She said \u201cno\u201d", "title_quote", 1.0),
        ("2 of 3, not 23", "single_digits", 2.0),
        ("This is it", "be_share", 0.3333),
        ("I\u2019m here", "self_share", 0.5),
        ("YOU and Your friend", "reader_words", 2.0),
        ("Apple's new iPhone", "brand_words", 2.0),
        ("you " * 50, "reader_words", 8.0),
    ],
)
def test_a_title_is_read_as_documented(title: str, name: str, value: float) -> None:
    assert named(post(title))[name] == value


@pytest.mark.parametrize(
    ("domain", "name", "value"),
    [
        ("i.imgur.com", "image_host", 1.0),
        ("notimgur.com", "image_host", 0.0),
        ("youtu.be", "video_host", 1.0),
        ("np.reddit.com", "reddit_host", 1.0),
        ("blogs.example.com", "blog_host", 1.0),
        ("en.wikipedia.org", "noncommercial_host", 1.0),
        ("self.one", "noncommercial_host", 0.0),
    ],
)
def test_a_host_is_known_with_every_name_below_it(domain: str, name: str, value: float) -> None:
    assert named(post(domain=domain))[name] == value


def test_midnight_and_the_minute_before_it_are_neighbours() -> None:
    midnight = 1_370_044_800
    before = named(post(created=midnight - 60))
    after = named(post(created=midnight))
    assert (after["hour_sin"], after["hour_cos"]) == (0.0, 1.0)
    assert before["hour_sin"] == pytest.approx(-0.0044)
    assert before["hour_cos"] == pytest.approx(1.0)


def test_the_days_of_a_week_lie_evenly_on_a_circle_from_monday() -> None:
    monday = 1_370_217_600
    days = [named(post(created=monday + 86_400 * day)) for day in range(8)]
    angles = [math.atan2(day["weekday_sin"], day["weekday_cos"]) % math.tau for day in days]
    assert angles[:7] == pytest.approx([math.tau * day / 7 for day in range(7)], abs=1e-3)
    assert angles[7] == pytest.approx(angles[0], abs=1e-3)
