"""The rig's judge, on what never happens in a good run."""

from tests.rig.judge import count, weights_version
from workers.ranking.weights import Weights


def test_what_is_lost_and_what_is_doubled_is_counted() -> None:
    counted = count(range(4), [0, 0, 2, 3])
    assert (counted.lost, counted.doubled, counted.extra) == ([1], [0], 1)


def test_every_output_beyond_the_first_of_a_key_is_extra() -> None:
    assert count("a", "aaa").extra == 2


def test_the_judge_computes_the_version_of_a_set_as_workers_do() -> None:
    for values in ({"quality": 0.25, "engagement": 0.75}, {"b": -0.0, "a": 1e-9}):
        assert weights_version(values) == Weights.of(values).version
