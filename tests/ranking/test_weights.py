"""Sets of weights: each is judged as a whole, and its version depends on its content."""

import math

import pytest

from workers.ranking.weights import WeightRules, Weights, WeightsRefused

RULES = WeightRules({"quality": 0.5, "engagement": 0.5}, {"quality": (0.0, 1.0)})


def test_a_missing_field_takes_its_default_and_is_never_silently_zero() -> None:
    assert dict(RULES.validate({"quality": "0.2"}).values) == {"quality": 0.2, "engagement": 0.5}


def test_a_set_keeps_the_order_of_objectives_whatever_the_order_of_fields() -> None:
    assert list(RULES.validate({"engagement": 1, "quality": 0}).values) == ["quality", "engagement"]


@pytest.mark.parametrize("text", ["0.25", "1e-1", "+.5", "1.", "5E-1"])
def test_plain_decimal_numbers_are_read_and_nothing_else(text: str) -> None:
    assert RULES.validate({"quality": text}).values["quality"] == float(text)


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-inf", "", "1_0", "0x1", "٣", "1,5", "1e999", "one", "0.5\n", " 0.5"]
)
def test_a_text_that_is_not_a_finite_number_refuses_the_set(text: str) -> None:
    with pytest.raises(WeightsRefused, match="quality: got"):
        RULES.validate({"quality": text, "engagement": "0.1"})


def test_an_unknown_objective_refuses_the_set_and_says_which_are_known() -> None:
    with pytest.raises(WeightsRefused, match=r"novelty: not an objective.*quality, engagement"):
        RULES.validate({"novelty": "0.1"})


@pytest.mark.parametrize("value", ["-0.01", "1.01"])
def test_a_weight_out_of_bounds_refuses_the_set(value: str) -> None:
    with pytest.raises(WeightsRefused, match=r"quality: got .*, expected 0.0 to 1.0"):
        RULES.validate({"quality": value})


def test_an_objective_without_bounds_is_bounded_far_from_overflow() -> None:
    assert RULES.validate({"engagement": "-1e12"}).values["engagement"] == -1e12
    with pytest.raises(WeightsRefused, match="engagement"):
        RULES.validate({"engagement": "1e13"})


def test_the_version_depends_on_the_content_alone() -> None:
    one = Weights.of({"quality": 0.7, "engagement": 0.3})
    assert one.version == Weights.of({"engagement": 0.3, "quality": 0.7}).version
    assert one.version != Weights.of({"quality": 0.3, "engagement": 0.7}).version
    assert Weights.of({"q": 1}).version == Weights.of({"q": 1.0}).version
    assert Weights.of({"q": -0.0}).version == Weights.of({"q": 0.0}).version


def test_the_version_is_the_published_hash() -> None:
    assert Weights.of({"quality": 0.7, "engagement": 0.3}).version == "0d20e9fc7cdc"


def test_weights_that_are_not_finite_cannot_be_constructed() -> None:
    with pytest.raises(WeightsRefused):
        Weights.of({"quality": math.nan})


@pytest.mark.parametrize(
    ("defaults", "bounds", "complaint"),
    [
        ({"q": 0.5}, {"r": (0.0, 1.0)}, "weight_bounds.r: not an objective"),
        ({"q": 0.5}, {"q": (1.0, 0.0)}, r"weight_bounds.q: got \[1.0, 0.0\]"),
        ({"q": 0.5}, {"q": (0.0, math.inf)}, "weight_bounds.q"),
        ({"q": 2.0}, {"q": (0.0, 1.0)}, "q: got 2.0, expected 0.0 to 1.0"),
    ],
)
def test_rules_that_contradict_themselves_cannot_be_constructed(
    defaults: dict[str, float], bounds: dict[str, tuple[float, float]], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        WeightRules(defaults, bounds)
