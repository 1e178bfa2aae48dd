"""Plans: guard rails as sentences, and the document that holds them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.outcomes.plan import Comparison, GuardRail, Plan, PlanRefused, read_tuned_for

AT_LEAST = Comparison.AT_LEAST
AT_MOST = Comparison.AT_MOST


@pytest.mark.parametrize(
    ("text", "rail"),
    [
        ("take_rate >= -2%", GuardRail("take_rate", AT_LEAST, -0.02, is_relative=True)),
        ("hide <= +10%", GuardRail("hide", AT_MOST, 0.10, is_relative=True)),
        ("hide <= +0%", GuardRail("hide", AT_MOST, 0.0, is_relative=True)),
        ("quality >= 0.5", GuardRail("quality", AT_LEAST, 0.5, is_relative=False)),
        ("deadline <= 5%", GuardRail("deadline", AT_MOST, 0.05, is_relative=False)),
    ],
)
def test_a_rail_is_a_sentence_and_reads_back_as_itself(text: str, rail: GuardRail) -> None:
    assert GuardRail.parse(text) == rail
    assert rail.text == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("take_rate>=-2%", "take_rate >= -2%"),
        ("  hide  <=  +10 %  ", "hide <= +10%"),
        ("hide <= -0%", "hide <= +0%"),
        ("deadline <= 0.05", "deadline <= 5%"),
        ("quality >= 50%", "quality >= 0.5"),
        ("quality >= .50", "quality >= 0.5"),
        ("hide <= +1250.0%", "hide <= +1250%"),
    ],
)
def test_spellings_of_one_rail_have_one_text(text: str, canonical: str) -> None:
    assert GuardRail.parse(text).text == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "take_rate",
        "take_rate > 2%",
        "take_rate == 2%",
        "take_rate >= two",
        "take_rate >= -2% and more",
        ">= 2%",
        "take_rate >= nan",
        "take_rate >= 1e-3",
        "take_rate >= \u0662%",
    ],
)
def test_what_is_no_such_sentence_is_refused(text: str) -> None:
    with pytest.raises(PlanRefused, match=r"guard: got .* expected METRIC >= BOUND"):
        GuardRail.parse(text)


@pytest.mark.parametrize("text", ["quality >= +0.5", "quality >= -0.5"])
def test_a_sign_without_percent_is_neither_relative_nor_absolute(text: str) -> None:
    with pytest.raises(PlanRefused, match="without a sign"):
        GuardRail.parse(text)


@pytest.mark.parametrize("text", ["take_rate >= -100%", "take_rate >= -250%"])
def test_no_arm_can_lose_more_than_everything(text: str) -> None:
    with pytest.raises(PlanRefused, match="more than -100 %"):
        GuardRail.parse(text)


@pytest.mark.parametrize("text", ["quality >= 0", "deadline <= 0%"])
def test_an_absolute_bound_is_above_zero(text: str) -> None:
    with pytest.raises(PlanRefused, match="more than 0"):
        GuardRail.parse(text)


def test_an_absolute_bound_of_a_rate_above_one_is_a_forgotten_percent_sign() -> None:
    with pytest.raises(PlanRefused, match="at most 1"):
        GuardRail.parse("deadline <= 5")


FIELDS = {
    "salt": "home-1",
    "tuned_for": "5",
    "guard:1": "take_rate >= -2%",
    "guard:2": "deadline <= 5%",
}


def test_the_fields_of_a_plan_read_back_as_the_plan() -> None:
    plan = Plan.read(FIELDS)
    assert plan.tuned_for == 0.05
    assert [rail.metric for rail in plan.rails] == ["take_rate", "deadline"]
    assert plan.fields() == FIELDS
    assert Plan.read(plan.fields()) == plan


def test_a_plan_without_a_lift_is_tuned_for_ten_percent_and_has_no_rails() -> None:
    assert Plan.read({"salt": "home-1"}) == Plan("home-1", tuned_for=0.10, rails=())


def test_rails_are_in_the_order_of_their_numbers_whatever_is_missing() -> None:
    plan = Plan.read({"guard:10": "b <= 2", "salt": "s", "guard:9": "a <= 1"})
    assert [rail.metric for rail in plan.rails] == ["a", "b"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "salt: not given"),
        ({"salt": ""}, "salt: got nothing"),
        ({"salt": "s", "tuned_for": "much"}, "tuned_for: got 'much'"),
        ({"salt": "s", "tuned_for": "0"}, "tuned_for: got 0 %"),
        ({"salt": "s", "tuned_for": "101"}, "tuned_for: got 101 %"),
        ({"salt": "s", "guard:0": "a <= 1"}, "guard:0: not a field"),
        ({"salt": "s", "gaurd:1": "a <= 1"}, "gaurd:1: not a field"),
        ({"salt": "s", "guard:1": "a"}, "guard: got 'a'"),
        ({"salt": "s", "guard:1": "a <= 1", "guard:2": "a <= 2"}, "same kind"),
        ({"salt": "s"} | {f"guard:{n}": f"m{n} <= 1" for n in range(1, 12)}, "at most 10"),
    ],
)
def test_a_plan_that_is_wrong_in_any_field_is_refused_as_a_whole(
    fields: dict[str, str], message: str
) -> None:
    with pytest.raises(PlanRefused, match=message):
        Plan.read(fields)


def test_a_metric_may_have_a_relative_and_an_absolute_bound() -> None:
    plan = Plan.read({"salt": "s", "guard:1": "q >= 0.5", "guard:2": "q >= -2%"})
    assert len(plan.rails) == 2


def plan_of(*rails: str) -> Plan:
    return Plan("s", rails=tuple(GuardRail.parse(rail) for rail in rails))


def test_metrics_are_built_in_or_named_by_the_surface() -> None:
    plan = plan_of("take_rate >= -2%", "deadline <= 5%", "quality >= 0.5", "hide <= +10%")
    plan.check_metrics(objectives=("quality",), others=("hide",))


def test_a_metric_that_the_surface_does_not_have_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(
        PlanRefused, match="got 'hid', expected one of: take_rate, deadline, hide, q"
    ):
        plan_of("hid <= +10%").check_metrics(objectives=("q",), others=("hide",))


@pytest.mark.parametrize(
    ("rail", "objectives", "others"),
    [
        ("save >= 0.5", ("save",), ("save",)),
        ("deadline <= 5%", ("deadline",), ()),
        ("take_rate >= 5%", (), ("take_rate",)),
    ],
)
def test_a_name_with_two_meanings_is_refused(
    rail: str, objectives: tuple[str, ...], others: tuple[str, ...]
) -> None:
    with pytest.raises(PlanRefused, match="names several things"):
        plan_of(rail).check_metrics(objectives, others)


def test_the_rate_of_another_outcome_cannot_exceed_one_but_a_score_can() -> None:
    plan_of("quality >= 5").check_metrics(objectives=("quality",), others=())
    with pytest.raises(PlanRefused, match="at most 1"):
        plan_of("hide <= 5").check_metrics(objectives=(), others=("hide",))


@pytest.mark.parametrize(("text", "fraction"), [("5%", 0.05), ("2.5", 0.025), (" 0.1 % ", 0.001)])
def test_a_lift_is_read_with_or_without_the_percent_sign(text: str, fraction: float) -> None:
    assert read_tuned_for(text) == fraction


HUNDREDTHS = st.integers(min_value=-9_999, max_value=10**6)


@settings(deadline=None)
@given(HUNDREDTHS, st.sampled_from(Comparison), st.sampled_from(["take_rate", "hide"]))
def test_every_relative_rail_reads_back_as_itself(
    hundredths: int, comparison: Comparison, metric: str
) -> None:
    rail = GuardRail(metric, comparison, hundredths / 10_000, is_relative=True)
    assert GuardRail.parse(rail.text) == rail


@settings(deadline=None)
@given(st.floats(min_value=1e-6, max_value=1.0).map(lambda bound: float(f"{bound:.6g}")))
def test_every_absolute_rail_reads_back_as_itself(bound: float) -> None:
    for metric in ("deadline", "quality"):
        rail = GuardRail(metric, AT_MOST, bound, is_relative=False)
        assert GuardRail.parse(rail.text) == rail
