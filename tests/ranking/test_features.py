"""Feature sets: packing by position, by name and as float32 bytes."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.ranking.features import FLOAT32_MAX, FeatureSet
from workers.ranking.refusal import CandidateReason, CandidateRefused

POSTS = FeatureSet(
    "posts", ("words", "age", "flag"), defaults={"age": 7.0}, bounds={"flag": (0.0, 1.0)}
)


def test_positions_and_names_pack_to_the_same_float32() -> None:
    by_name, missing, unknown = POSTS.pack_named({"flag": 1.0, "words": 0.1, "age": 2})
    assert by_name == POSTS.pack_positional([0.1, 2, 1.0]) == struct.pack("<3f", 0.1, 2, 1)
    assert (missing, unknown) == (0, 0)


def test_a_missing_name_takes_its_default_and_an_unknown_one_is_ignored_and_both_are_counted() -> (
    None
):
    row, missing, unknown = POSTS.pack_named({"words": 3.0, "new": 1.0, "newer": 2.0})
    assert struct.unpack("<3f", row) == (3.0, 7.0, 0.0)
    assert (missing, unknown) == (2, 2)


def test_a_single_feature_packs_by_name() -> None:
    assert FeatureSet("one", ("a",)).pack_named({"a": 2.0}) == (struct.pack("<f", 2), 0, 0)


@pytest.mark.parametrize("values", [[], [1.0, 2.0], [1.0] * 4])
def test_a_wrong_count_is_refused_and_says_both_counts(values: list[float]) -> None:
    with pytest.raises(CandidateRefused, match=f"got {len(values)} numbers, expected 3") as refused:
        POSTS.pack_positional(values)
    assert refused.value.reason is CandidateReason.FEATURE_COUNT


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 1e39, -1e300, 3.4028235677973366e38]
)
def test_a_number_that_is_not_finite_in_float32_is_refused_and_named(value: float) -> None:
    with pytest.raises(CandidateRefused, match=r"features\[1\] \(age\): got") as refused:
        POSTS.pack_positional([1.0, value, 2.0])
    assert refused.value.reason is CandidateReason.FEATURE_RANGE


def test_the_largest_float32_is_fine() -> None:
    assert len(POSTS.pack_positional([FLOAT32_MAX, FLOAT32_MAX, FLOAT32_MAX])) == 12


def test_float32_bytes_are_taken_as_they_are() -> None:
    raw = struct.pack("<3f", 1.5, -2.0, 1e30)
    assert POSTS.pack_float32(raw) == raw


@pytest.mark.parametrize("raw", [b"", b"\0" * 8, b"\0" * 16, b"\0" * 11])
def test_float32_bytes_of_a_wrong_length_are_refused(raw: bytes) -> None:
    with pytest.raises(CandidateRefused, match="expected") as refused:
        POSTS.pack_float32(raw)
    assert refused.value.reason is CandidateReason.FEATURE_COUNT


def test_float32_bytes_that_hold_a_nan_are_refused() -> None:
    with pytest.raises(CandidateRefused, match=r"features\[2\]"):
        POSTS.pack_float32(struct.pack("<3f", 1, 2, math.nan))


def test_numbers_outside_their_bounds_are_clipped_and_counted() -> None:
    matrix = np.array([[9, 9, 2], [1, 1, 0.5], [0, 0, -1]], np.float32)
    clipped, outside = POSTS.clip(matrix)
    assert clipped[:, 2].tolist() == [1.0, 0.5, 0.0]
    assert outside == 2
    assert clipped.dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"names": ()}, "names: got no name"),
        ({"names": ("a", "a")}, "'a' is given more than once"),
        ({"defaults": {"b": 1.0}}, "defaults.b: not a name"),
        ({"defaults": {"a": math.inf}}, "defaults.a: got inf"),
        ({"bounds": {"b": (0.0, 1.0)}}, "bounds.b: not a name"),
        ({"bounds": {"a": (2.0, 1.0)}}, r"bounds.a: got \[2.0, 1.0\]"),
    ],
)
def test_a_feature_set_that_contradicts_itself_cannot_be_constructed(
    changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        FeatureSet(**({"name": "posts", "names": ("a",)} | changes))  # type: ignore[arg-type]


@given(
    st.lists(st.floats(width=32), min_size=1, max_size=5),
    st.integers(1, 3),
)
def test_rows_are_finite_if_each_of_their_numbers_is(numbers: list[float], rows: int) -> None:
    names = tuple(f"f{place}" for place in range(len(numbers)))
    packed = struct.pack(f"<{len(numbers)}f", *numbers)
    expected = all(math.isfinite(number) for number in numbers)
    assert FeatureSet("any", names).are_finite(packed * rows) == expected
