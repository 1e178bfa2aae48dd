"""The parts of the graph: bounds, both families of models, and the calibration. It is continuous,
monotone, and within [0, 1].
"""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from onnx_models import graph
from onnx_models.graph import BOUNDED, INPUT, KNOTS, OUTPUT, RAW, Part, Rows
from onnx_models.learners import Learner, boosted_trees, mean_of_mlps

AS_IT_IS = Part((helper.make_node("Identity", [INPUT], [RAW]),))
NAMES = ["a", "b", "c"]


def calibrated(trained_on: NDArray[np.float64], raw: NDArray[np.float64]) -> Rows:
    model = graph.build(AS_IT_IS + graph.calibration(trained_on), OUTPUT, ["raw"])
    return graph.run(model, raw.astype(np.float32)[:, None])


def samples() -> NDArray[np.float64]:
    return np.random.default_rng(3).normal(0.5, 0.1, 5000)


def test_a_score_is_the_share_of_training_posts_below() -> None:
    trained_on = samples()
    raw = np.quantile(trained_on, [0.1, 0.25, 0.5, 0.75, 0.9])
    assert calibrated(trained_on, raw) == pytest.approx([0.1, 0.25, 0.5, 0.75, 0.9], abs=0.005)


def test_at_the_inner_quantiles_the_score_is_exact() -> None:
    trained_on = samples()
    share = np.arange(1, KNOTS) / KNOTS
    assert calibrated(trained_on, np.quantile(trained_on, share)) == pytest.approx(share, abs=1e-6)


def test_scores_never_fall_and_never_jump() -> None:
    trained_on = samples()
    raw = np.linspace(trained_on.min() - 0.2, trained_on.max() + 0.2, 400_001)
    steps = np.diff(calibrated(trained_on, raw).astype(np.float64))
    steepest = (1 / KNOTS) / np.diff(np.quantile(trained_on, np.arange(KNOTS + 1) / KNOTS)).min()
    assert steps.min() >= 0
    assert steps.max() <= steepest * (raw[1] - raw[0]) * 1.2 + 1e-6


def test_one_float_up_is_never_a_lower_score_around_a_knot() -> None:
    trained_on = samples()
    knots = np.quantile(trained_on, np.arange(1, KNOTS) / KNOTS).astype(np.float32)

    below = calibrated(trained_on, np.nextafter(knots, -np.inf).astype(np.float64))
    at = calibrated(trained_on, knots.astype(np.float64))
    above = calibrated(trained_on, np.nextafter(knots, np.inf).astype(np.float64))
    assert (below <= at).all()
    assert (at <= above).all()
    assert (above - below).max() < 1e-4


def test_scores_are_within_zero_and_one() -> None:
    scores = calibrated(samples(), np.array([-3e38, -1.0, 2.0, 3e38]))
    assert scores.tolist() == [0.0, 0.0, 1.0, 1.0]


def test_raw_numbers_slightly_beyond_those_of_the_training_still_get_different_scores() -> None:
    trained_on = samples()
    low = trained_on.min()
    high = trained_on.max()
    raw = np.array([low - 0.05, low - 0.02, low, high, high + 0.02, high + 0.05])
    scores = calibrated(trained_on, raw)
    assert (np.diff(scores) > 0).all()
    assert scores[0] > 0
    assert scores[-1] < 1


def test_too_few_values_to_rank_are_refused() -> None:
    with pytest.raises(ValueError, match="3 raw numbers"):
        graph.calibration(np.array([0.1, 0.2, 0.3] * 100))


def test_features_are_clipped_to_their_bounds() -> None:
    low = np.array([0, -1, 0], np.float32)
    high = np.array([1, 1, 5], np.float32)
    columns = numpy_helper.from_array(np.array([1]), "columns")
    total = Part((helper.make_node("ReduceSum", [BOUNDED, "columns"], [RAW]),), (columns,))
    model = graph.build(graph.bounds(low, high) + total, RAW, NAMES)

    rows = np.array([[0.5, 0, 2], [-9, -9, -9], [3e38, 3e38, 3e38]], np.float32)
    assert graph.run(model, rows).tolist() == [2.5, -1.0, 7.0]


@pytest.mark.parametrize("learner", [boosted_trees, mean_of_mlps])
def test_a_learner_learns_and_the_same_seed_gives_the_same_bytes(
    learner: Learner, three_columns: tuple[Rows, NDArray[np.float64]]
) -> None:
    rows, target = three_columns
    bounds = graph.bounds(np.zeros(3, np.float32), np.ones(3, np.float32))

    def build(seed: int) -> bytes:
        return graph.build(bounds + learner(rows, target, seed), RAW, NAMES)

    model = build(seed=1)
    assert np.corrcoef(graph.run(model, rows), target)[0, 1] > 0.95
    assert build(seed=1) == model
    assert build(seed=2) != model


def test_a_constant_feature_does_not_divide_by_zero(
    three_columns: tuple[Rows, NDArray[np.float64]],
) -> None:
    rows, target = three_columns
    rows = np.column_stack([rows[:, :2], np.full(len(rows), 0.25, np.float32)])
    bounds = graph.bounds(np.zeros(3, np.float32), np.ones(3, np.float32))
    model = graph.build(bounds + mean_of_mlps(rows, target, 1), RAW, NAMES)
    assert np.isfinite(graph.run(model, rows)).all()


def test_a_model_carries_its_feature_names() -> None:
    model = onnx.load_from_string(graph.build(AS_IT_IS, RAW, ["raw"]))
    (metadata,) = model.metadata_props
    assert (metadata.key, metadata.value) == ("trimtab.features", '["raw"]')


@pytest.fixture
def three_columns() -> tuple[Rows, NDArray[np.float64]]:
    rows = np.random.default_rng(5).random((3000, 3)).astype(np.float32)
    return rows, rows @ np.array([1.0, -0.5, 0.25])
