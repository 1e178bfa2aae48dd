"""The same candidate gets the same bytes in any batch. Without this law, a replay could give other
feeds.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.scoring.building import Floats, add_model, linear_then, mlp, model, random_rows, trees
from workers.scoring.model import ROWS_PER_CALL, Model
from workers.scoring.refusal import ModelReason, ModelRefused
from workers.scoring.verify import verify

BATCHES = (1, 2, 3, 7, 15, 16, 17, 50, 333, 1023, 3999)


def linear_regressor() -> onnx.ModelProto:
    node = helper.make_node(
        "LinearRegressor",
        ["features"],
        ["score"],
        domain="ai.onnx.ml",
        coefficients=random_rows(1).ravel().tolist(),
        intercepts=[0.1],
    )
    return model([node])


def assert_same_bytes_in_any_batch(verified: Model, rows: Floats) -> None:
    whole = verified.score(rows)
    for size in BATCHES:
        # Forty batches from the beginning, and the last one.
        starts = [*range(0, min(len(rows), 40 * size), size), max(0, len(rows) - size)]
        for start in starts:
            part = slice(start, start + size)
            assert verified.score(rows[part]).tobytes() == whole[part].tobytes(), (size, start)


@pytest.mark.parametrize(
    "build",
    [
        mlp,
        lambda: mlp(gemm=False),
        lambda: mlp(hidden=(37, 13)),
        trees,
        lambda: trees(count=1),
        linear_regressor,
        lambda: linear_then("Log"),
        lambda: linear_then("Softplus"),
        lambda: linear_then("Sin"),
        lambda: linear_then("Softmax", columns=8),
    ],
    ids=[
        "gemm",
        "matmul",
        "odd widths",
        "trees",
        "one tree",
        "linear",
        "log",
        "softplus",
        "sine",
        "softmax",
    ],
)
def test_a_row_scores_the_same_bytes_in_any_batch(
    tmp_path: Path, build: Callable[[], onnx.ModelProto]
) -> None:
    verified = verify(add_model(tmp_path, build()))
    assert verified.rows_per_call == ROWS_PER_CALL
    assert_same_bytes_in_any_batch(verified, random_rows(4000))


@pytest.mark.parametrize(("operator", "columns"), [("Identity", 101), ("Softmax", 7), ("Exp", 5)])
def test_a_model_that_rounds_by_place_is_scored_row_by_row(
    tmp_path: Path, operator: str, columns: int
) -> None:
    verified = verify(add_model(tmp_path, linear_then(operator, columns)))
    assert verified.rows_per_call == 1
    assert_same_bytes_in_any_batch(verified, random_rows(400))


def test_a_row_scores_the_same_bytes_in_a_batch_of_more_than_one_call(tmp_path: Path) -> None:
    verified = verify(add_model(tmp_path, mlp()))
    rows = random_rows(ROWS_PER_CALL + 77)
    scores = verified.score(rows)
    assert scores[ROWS_PER_CALL:].tobytes() == verified.score(rows[ROWS_PER_CALL:]).tobytes()
    assert scores[:ROWS_PER_CALL].tobytes() == verified.score(rows[:ROWS_PER_CALL]).tobytes()


def over_the_batch() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["p"]),
        helper.make_node("Softmax", ["p"], ["score"], axis=0),
    ]
    return model(nodes, {"w": random_rows(32, 1)})


def quantised_by_the_batch() -> onnx.ModelProto:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["features"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["score"]),
    ]
    return model(nodes, {"w": random_rows(32, 1)})


def with_random_numbers() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["p"]),
        helper.make_node("RandomUniformLike", ["p"], ["noise"], high=1e-6),
        helper.make_node("Add", ["p", "noise"], ["score"]),
    ]
    return model(nodes, {"w": random_rows(32, 1)})


@pytest.mark.parametrize(
    ("build", "when"),
    [
        (over_the_batch, "from batch to batch"),
        (quantised_by_the_batch, "from batch to batch"),
        (with_random_numbers, "from run to run"),
    ],
)
def test_a_model_whose_scores_depend_on_other_rows_or_on_chance_is_refused(
    tmp_path: Path, build: Callable[[], onnx.ModelProto], when: str
) -> None:
    with pytest.raises(ModelRefused, match=when) as caught:
        verify(add_model(tmp_path, build()))
    assert caught.value.reason is ModelReason.BATCH


def test_scores_do_not_depend_on_the_memory_layout_of_the_callers_rows(tmp_path: Path) -> None:
    verified = verify(add_model(tmp_path, linear_then("Identity", 101)))
    rows = random_rows(50)
    expected = verified.score(rows).tobytes()

    fortran = np.asfortranarray(rows)
    assert verified.score(fortran).tobytes() == expected

    backwards = rows[::-1].copy()[::-1]
    assert verified.score(backwards).tobytes() == expected
