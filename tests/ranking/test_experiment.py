"""An experiment: it is accepted or refused as a whole, and assigns users to arms."""

import pytest

from workers.ranking.experiment import CONTROL, MAX_ARMS, Experiment, ExperimentRefused
from workers.ranking.mix import Assignment, Mix
from workers.ranking.weights import Weights

USERS = [f"u-{n}" for n in range(20_000)]


def read(**fields: str) -> Experiment:
    return Experiment.read({"salt": "s"} | fields)


def drawn(experiment: Experiment) -> dict[str, set[str]]:
    """The users of each arm."""
    arms = [experiment.assign(user) for user in USERS]
    return {
        arm: {user for user, own in zip(USERS, arms, strict=True) if own == arm}
        for arm in set(arms)
    }


@pytest.mark.parametrize(
    ("percent", "share"),
    [
        ("0", 0),
        ("0.01", 1),
        ("5", 500),
        ("05", 500),
        ("12.3", 1230),
        ("99.99", 9999),
        ("100", 10_000),
        ("0.290", 29),
    ],
)
def test_a_percentage_is_read_exactly_in_hundredths(percent: str, share: int) -> None:
    assert read(canary=percent).shares == {"canary": share}


@pytest.mark.parametrize(
    "percent",
    [
        "",
        "-1",
        "+5",
        "5%",
        " 5",
        "5\n",
        "1e1",
        "nan",
        "inf",
        ".5",
        "5.",
        "0,5",
        "٣",
        "1_0",
        "0x5",
        "half",
    ],
)
def test_a_text_that_is_not_a_percentage_refuses_the_whole_and_is_named(percent: str) -> None:
    with pytest.raises(ExperimentRefused) as refused:
        read(sound="1", canary=percent)
    assert (
        str(refused.value) == f"canary: got {percent!r}, expected 0 to 100 percent, in hundredths"
    )


@pytest.mark.parametrize("percent", ["0.001", "33.333", "100.01", "100.001", "101", "1000"])
def test_a_percentage_beyond_100_or_finer_than_hundredths_refuses_the_whole(percent: str) -> None:
    with pytest.raises(ExperimentRefused, match=rf"^canary: got '{percent}', expected 0 to 100"):
        read(canary=percent)


def test_an_experiment_without_a_salt_is_refused() -> None:
    with pytest.raises(ExperimentRefused, match=r"^salt: not given, expected a text"):
        Experiment.read({"canary": "5"})


@pytest.mark.parametrize("salt", ["", "x" * 257, "é" * 129, "half a pair: \ud800"])
def test_a_salt_that_is_empty_or_long_or_no_text_is_refused(salt: str) -> None:
    with pytest.raises(ExperimentRefused, match=r"^salt: got .*, expected 1 to 256 bytes of UTF-8"):
        Experiment.read({"salt": salt})


def test_the_salt_by_which_users_are_grouped_for_outcomes_is_refused() -> None:
    with pytest.raises(ExperimentRefused, match=r"^salt: got 'cluster', expected another one"):
        Experiment.read({"salt": "cluster", "canary": "5"})


@pytest.mark.parametrize("salt", ["x", " ", "a:b", "é" * 128, "x" * 256])
def test_any_other_text_is_a_salt(salt: str) -> None:
    assert Experiment.read({"salt": salt, "canary": "100"}).assign("日本") == "canary"


@pytest.mark.parametrize("arm", ["", "a b", "a:b", "é", "a.b", "x" * 65, "canary\n"])
def test_a_name_that_an_arm_cannot_have_is_refused(arm: str) -> None:
    with pytest.raises(ExperimentRefused) as refused:
        Experiment.read({"salt": "s", arm: "5"})
    assert str(refused.value).startswith(
        f"arm: got {arm!r}, expected 1 to 64 of A-Z, a-z, 0-9, _ and -"
    )


@pytest.mark.parametrize("arm", ["a", "A-1_b", "-", "x" * 64, "100"])
def test_an_arm_can_have_any_other_name(arm: str) -> None:
    assert read(**{arm: "5"}).running == (arm,)


def test_percentages_that_add_up_to_more_than_100_are_refused_whole() -> None:
    with pytest.raises(
        ExperimentRefused, match=r"^a, b: add up to 100\.01 %, expected at most 100$"
    ):
        read(a="50", b="50.01")
    assert read(a="50", b="50").percent(CONTROL) == 0


def test_control_is_the_rest_or_is_not_given() -> None:
    assert read(canary="12.5", control="87.5") == read(canary="12.5")
    with pytest.raises(
        ExperimentRefused, match=r"^control: got '90', expected the rest, 87\.5, or none$"
    ):
        read(canary="12.5", control="90")


def test_arms_that_add_up_to_too_much_are_named_without_control() -> None:
    with pytest.raises(ExperimentRefused, match=r"^a, b: add up to 120 %"):
        read(a="60", b="60", control="0")


def test_more_arms_than_workers_would_read_are_refused() -> None:
    arms = {f"a{n}": "1" for n in range(MAX_ARMS)}
    assert len(read(**arms).running) == MAX_ARMS
    with pytest.raises(ExperimentRefused, match=r"^arms: got 101 of them, expected at most 100$"):
        read(**arms, further="0")


@pytest.mark.parametrize("share", [-1, 10_001])
def test_a_share_below_0_or_above_100_percent_cannot_be_constructed(share: int) -> None:
    with pytest.raises(ExperimentRefused, match=r"^canary: got .* %, expected 0 to 100$"):
        Experiment("s", {"canary": share})


@pytest.mark.parametrize("reserved", ["control", "salt"])
def test_neither_control_nor_salt_is_an_arm_of_its_own(reserved: str) -> None:
    with pytest.raises(ExperimentRefused, match=f"^arm: got '{reserved}'"):
        Experiment("s", {reserved: 1})


def test_the_fields_read_back_as_the_same_experiment() -> None:
    experiment = Experiment("s", {"b": 1, "a": 1234, "none": 0, "most": 8765})
    assert experiment.fields() == {
        "salt": "s",
        "b": "0.01",
        "a": "12.34",
        "none": "0",
        "most": "87.65",
    }
    assert Experiment.read(experiment.fields()) == experiment
    assert experiment.percent("a") == 12.34


def test_the_same_user_is_in_the_same_arm_whatever_the_order_of_the_fields() -> None:
    one, other = read(a="20", b="30", c="40"), read(c="40", a="20", b="30")
    assert [one.assign(user) for user in USERS] == [other.assign(user) for user in USERS]


def test_an_arm_at_0_has_no_users_and_one_at_100_has_all() -> None:
    assert drawn(read(none="0")) == {CONTROL: set(USERS)}
    assert drawn(read(all="100", none="0")) == {"all": set(USERS)}
    assert drawn(Experiment.read({"salt": "s"})) == {CONTROL: set(USERS)}
    assert read(none="0", some="1").running == ("some",)


@pytest.mark.parametrize("percent", ["0.5", "5", "37.5", "99"])
def test_the_share_of_users_is_near_the_percentage(percent: str) -> None:
    expected = float(percent) / 100
    found = len(drawn(read(canary=percent))["canary"]) / len(USERS)
    assert abs(found - expected) < 4 * (expected * (1 - expected) / len(USERS)) ** 0.5


def test_two_salts_assign_independently() -> None:
    one, other = (
        drawn(Experiment("exp-" + salt, {"canary": 3000}))["canary"] for salt in ("one", "two")
    )
    both = len(one & other) / len(USERS)
    assert abs(both - len(one) * len(other) / len(USERS) ** 2) < 0.01
    # Chi-squared of the 2x2 table with one degree of freedom: beyond 10.83 only once in 1,000.
    table = [len(one & other), len(one - other), len(other - one), len(USERS) - len(one | other)]
    rows, columns = [len(one), len(USERS) - len(one)], [len(other), len(USERS) - len(other)]
    expected = [row * column / len(USERS) for row in rows for column in columns]
    assert sum((o - e) ** 2 / e for o, e in zip(table, expected, strict=True)) < 10.83


def test_an_arm_that_grows_keeps_its_users_and_takes_new_ones_from_control_alone() -> None:
    before, after = drawn(read(a="10", b="20")), drawn(read(a="40", b="20"))
    assert before["a"] < after["a"]
    assert before["b"] == after["b"]
    assert after["a"] - before["a"] <= before[CONTROL]


def test_beyond_its_stretch_an_arm_takes_free_buckets() -> None:
    before, after = drawn(read(a="10", b="40")), drawn(read(a="60", b="40"))
    assert before["b"] == after["b"]
    assert after["a"] == set(USERS) - after["b"]


GOOD, BOLD = Weights.of({"quality": 0.7}), Weights.of({"quality": 0.1})


def test_a_mix_without_an_experiment_is_the_surfaces_own_weights() -> None:
    assert Mix(GOOD, arms={"canary": BOLD}).assign("u-1") == Assignment(CONTROL, GOOD)


def test_a_mix_assigns_an_arm_with_its_own_weights_and_control_with_the_surfaces() -> None:
    mix = Mix(GOOD, read(canary="50"), {"canary": BOLD})
    found = {drawn.arm: drawn.weights for drawn in map(mix.assign, USERS)}
    assert found == {CONTROL: GOOD, "canary": BOLD}
