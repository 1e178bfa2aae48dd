"""Laws of assignment to arms that hold for every experiment and every user."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from workers.ranking.experiment import BUCKETS, CLUSTER_SALT, CONTROL, Experiment

names = st.text("abcXYZ019_-", min_size=1, max_size=4)
users = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
salts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda salt: salt != CLUSTER_SALT
)


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
    salt: str, shares_by_arm: dict[str, int]
) -> None:
    arms = buckets(Experiment(salt, shares_by_arm))
    assert {arm: arms.count(arm) for arm in shares_by_arm} == shares_by_arm
    assert arms.count(CONTROL) == BUCKETS - sum(shares_by_arm.values())


@given(salts, shares(), users, st.randoms())
def test_the_arm_depends_on_salt_user_and_shares_alone(
    salt: str, shares_by_arm: dict[str, int], user: str, random: Random
) -> None:
    shuffled = list(shares_by_arm.items())
    random.shuffle(shuffled)
    assert Experiment(salt, dict(shuffled)).assign(user) == Experiment(salt, shares_by_arm).assign(
        user
    )


@given(salts, shares(), st.data())
def test_an_arm_ramped_within_its_stretch_keeps_its_users_and_takes_from_control_alone(
    salt: str, shares_by_arm: dict[str, int], data: DataObject
) -> None:
    stretch = BUCKETS // len(shares_by_arm)
    within = {arm: min(share, stretch) for arm, share in shares_by_arm.items()}
    arm = data.draw(st.sampled_from(sorted(within)))
    grown = within | {arm: data.draw(st.integers(within[arm], stretch))}
    for before, after in zip(
        buckets(Experiment(salt, within)), buckets(Experiment(salt, grown)), strict=True
    ):
        assert before == after or (before, after) == (CONTROL, arm)


@given(salts, shares(), st.data())
def test_an_arm_that_grows_keeps_its_own_stretch_whatever_the_others_have(
    salt: str, shares_by_arm: dict[str, int], data: DataObject
) -> None:
    arm = data.draw(st.sampled_from(sorted(shares_by_arm)))
    grown = shares_by_arm | {
        arm: data.draw(
            st.integers(
                shares_by_arm[arm], BUCKETS - sum(shares_by_arm.values()) + shares_by_arm[arm]
            )
        )
    }
    place, of = sorted(shares_by_arm).index(arm), len(shares_by_arm)
    own = slice(BUCKETS * place // of, BUCKETS * (place + 1) // of)
    before, after = (
        buckets(Experiment(salt, shares_by_arm))[own],
        buckets(Experiment(salt, grown))[own],
    )
    assert all(new == arm for old, new in zip(before, after, strict=True) if old == arm)


@given(salts, shares(), users)
def test_an_experiment_read_back_from_its_fields_assigns_the_same(
    salt: str, shares_by_arm: dict[str, int], user: str
) -> None:
    experiment = Experiment(salt, shares_by_arm)
    assert Experiment.read(experiment.fields()).assign(user) == experiment.assign(user)
