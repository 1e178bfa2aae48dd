"""Laws of the draw that hold for every experiment and every user."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from workers.ranking.experiment import BUCKETS, CONTROL, Experiment

names = st.text("abcXYZ019_-", min_size=1, max_size=4)
users = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
salts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@st.composite
def shares(draw: st.DrawFn) -> dict[str, int]:
    """Arms whose shares add up to all users at most."""
    arms = draw(st.lists(names, min_size=1, max_size=8, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, BUCKETS), min_size=len(arms), max_size=len(arms))))
    return {arm: high - low for arm, low, high in zip(arms, [0, *cuts], cuts, strict=False)}


def buckets(experiment: Experiment) -> list[str]:
    return list(experiment._arms)


@given(salts, shares())
def test_each_arm_has_exactly_its_share_of_the_buckets_and_control_the_rest(
    salt: str, told: dict[str, int]
) -> None:
    found = buckets(Experiment(salt, told))
    assert {arm: found.count(arm) for arm in told} == told
    assert found.count(CONTROL) == BUCKETS - sum(told.values())


@given(salts, shares(), users, st.randoms())
def test_the_draw_depends_on_salt_user_and_shares_alone(
    salt: str, told: dict[str, int], user: str, random: Random
) -> None:
    shuffled = list(told.items())
    random.shuffle(shuffled)
    assert Experiment(salt, dict(shuffled)).assign(user) == Experiment(salt, told).assign(user)


@given(salts, shares(), st.data())
def test_an_arm_ramped_within_its_stretch_keeps_its_users_and_takes_from_control_alone(
    salt: str, told: dict[str, int], data: DataObject
) -> None:
    stretch = BUCKETS // len(told)
    within = {arm: min(share, stretch) for arm, share in told.items()}
    arm = data.draw(st.sampled_from(sorted(within)))
    grown = within | {arm: data.draw(st.integers(within[arm], stretch))}
    for before, after in zip(
        buckets(Experiment(salt, within)), buckets(Experiment(salt, grown)), strict=True
    ):
        assert before == after or (before, after) == (CONTROL, arm)


@given(salts, shares(), st.data())
def test_an_arm_that_grows_keeps_its_own_stretch_whatever_the_others_have(
    salt: str, told: dict[str, int], data: DataObject
) -> None:
    arm = data.draw(st.sampled_from(sorted(told)))
    grown = told | {
        arm: data.draw(st.integers(told[arm], BUCKETS - sum(told.values()) + told[arm]))
    }
    place, of = sorted(told).index(arm), len(told)
    own = slice(BUCKETS * place // of, BUCKETS * (place + 1) // of)
    before, after = buckets(Experiment(salt, told))[own], buckets(Experiment(salt, grown))[own]
    assert all(new == arm for old, new in zip(before, after, strict=True) if old == arm)


@given(salts, shares(), users)
def test_an_experiment_read_back_from_its_fields_draws_the_same(
    salt: str, told: dict[str, int], user: str
) -> None:
    experiment = Experiment(salt, told)
    assert Experiment.read(experiment.fields()).assign(user) == experiment.assign(user)
