"""The rows that a model fails on are found, at a bounded cost. The scores of the other rows do not
change.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.scoring.building import (
    FEATURES,
    Floats,
    add_model,
    dividing,
    dropping,
    embedding,
    endless_past,
    golden_rows,
    linear_then,
    random_rows,
)
from workers.scoring.failing_rows import ModelFailed, score_isolated
from workers.scoring.model import ROWS_PER_CALL, Model
from workers.scoring.verify import verify

MANY = 8192


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return verify(add_model(tmp_path_factory.mktemp("models"), embedding()))


class Session:
    """A model's session that counts its calls, and may do something else on some rows."""

    def __init__(self, model: Model, instead: Callable[[Floats], Any] = lambda rows: None) -> None:
        self._model = model
        self._instead = instead
        self.calls = 0

    def run(self, outputs: list[str], inputs: dict[str, Floats], _options: object) -> Any:
        self.calls += 1
        instead = self._instead(inputs["features"])
        return self._model.session.run(outputs, inputs) if instead is None else [instead]


def rows_with(*bad: int, count: int) -> Floats:
    """Rows. Those at the places `bad` have a category that the model does not know."""
    rows = random_rows(count)
    rows[list(bad), 1] = 1000.0
    return rows


def raising(error: BaseException) -> Callable[[Floats], None]:
    def instead(rows: Floats) -> None:
        if (rows[:, 1] == 1000.0).any():
            raise error

    return instead


def check_others_keep_their_bytes(model: Model, rows: Floats, bad: Sequence[int]) -> None:
    isolated = score_isolated(model, rows)
    assert isolated.failed == list(bad)
    others = np.setdiff1d(np.arange(len(rows)), bad)
    assert isolated.scores[others].tobytes() == model.score(rows[others]).tobytes()
    assert np.isnan(isolated.scores[list(bad)]).all()


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 33, 50, 1000])
def test_the_failing_row_alone_has_no_score_at_any_place(model: Model, count: int) -> None:
    for bad in {0, count // 2, count - 1}:
        check_others_keep_their_bytes(model, rows_with(bad, count=count), [bad])


@pytest.mark.parametrize(
    "bad", [[0, 1], [0, 49], [3, 17, 18, 40], list(range(0, 50, 2)), list(range(1, 50))]
)
def test_several_failing_rows_are_all_found(model: Model, bad: list[int]) -> None:
    check_others_keep_their_bytes(model, rows_with(*bad, count=50), bad)


def test_if_all_rows_fail_but_the_golden_row_does_not_the_model_has_not_failed(
    model: Model,
) -> None:
    isolated = score_isolated(model, rows_with(*range(50), count=50))
    assert isolated.failed == list(range(50))
    assert np.isnan(isolated.scores).all()


def test_without_a_failure_there_is_no_call_more_than_the_rows_take(model: Model) -> None:
    session = Session(model)
    isolated = score_isolated(replace(model, session=session), random_rows(MANY))
    assert (session.calls, isolated.failed, isolated.error) == (MANY // ROWS_PER_CALL, [], None)


def test_one_failing_row_of_thousands_costs_few_calls(model: Model) -> None:
    for bad in (0, 5000, MANY - 1):
        session = Session(model)
        isolated = score_isolated(replace(model, session=session), rows_with(bad, count=MANY))
        assert isolated.failed == [bad]
        assert session.calls <= 45


@pytest.mark.parametrize("count", [1, 33, 50, 1000])
def test_many_failing_rows_never_cost_more_than_five_calls_for_four_rows(
    model: Model, count: int
) -> None:
    for bad in (range(count), range(0, count, 2), range(0, count, 40)):
        session = Session(model)
        score_isolated(replace(model, session=session), rows_with(*bad, count=count))
        assert session.calls <= 2 + count + count / 4


def test_a_model_that_is_scored_row_by_row_is_not_searched(tmp_path: Path) -> None:
    alone = verify(add_model(tmp_path, linear_then("Identity", 101)))
    assert alone.rows_per_call == 1
    session = Session(alone, raising(RuntimeError("no")))
    isolated = score_isolated(replace(alone, session=session), rows_with(3, count=20))
    assert isolated.failed == [3]
    assert session.calls <= 4 + 1 + 20
    assert isolated.scores[4:].tobytes() == alone.score(random_rows(20))[4:].tobytes()


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("bad allocation"), KeyError("x"), Exception()]
)
def test_whatever_a_call_raises_costs_the_row_alone(model: Model, error: Exception) -> None:
    failing = replace(model, session=Session(model, raising(error)))
    isolated = score_isolated(failing, rows_with(7, count=20))
    assert isolated.failed == [7]
    assert isolated.error is not None
    assert isolated.error.message


def test_an_interrupt_is_not_a_failure_of_the_model(model: Model) -> None:
    interrupted = replace(model, session=Session(model, raising(KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt):
        score_isolated(interrupted, rows_with(7, count=20))


@pytest.mark.parametrize(
    "other",
    [
        lambda scores: scores[:-1],
        lambda scores: np.concatenate([scores, scores]),
        lambda scores: scores.astype(np.float64),
        lambda scores: scores.reshape(-1).tolist(),
        lambda scores: np.float32(0.5),
        lambda scores: scores[:0],
    ],
    ids=["fewer rows", "more rows", "another dtype", "no array", "one number", "none"],
)
def test_an_output_of_another_shape_or_dtype_costs_the_row_alone(
    model: Model, other: Callable[[Floats], Any]
) -> None:
    def instead(rows: Floats) -> Any:
        if (rows[:, 1] == 1000.0).any():
            return other(random_rows(len(rows), 1))
        return None

    failing = replace(model, session=Session(model, instead))
    assert score_isolated(failing, rows_with(7, count=20)).failed == [7]


def test_a_graph_that_gives_no_score_for_a_row_costs_that_row_alone(tmp_path: Path) -> None:
    model = verify(add_model(tmp_path, dropping()))
    check_others_keep_their_bytes(model, rows_with(3, 30, count=50), [3, 30])


def test_a_model_that_fails_on_zeros_verifies_and_fails_on_no_other_row(tmp_path: Path) -> None:
    rows = np.abs(random_rows(50)) + np.float32(1)
    built = dividing()
    divider = verify(add_model(tmp_path, built, golden=golden_rows(built, rows[:5])))

    for bad in ([], [0], [3, 49]):
        spoilt = rows.copy()
        spoilt[bad, 1] = 0.0
        check_others_keep_their_bytes(divider, spoilt, bad)


def test_rows_that_only_fail_together_are_all_scored(model: Model) -> None:
    def too_much_at_once(rows: Floats) -> None:
        if len(rows) > 128:
            raise MemoryError

    failing = replace(model, session=Session(model, too_much_at_once))
    isolated = score_isolated(failing, random_rows(1000))
    assert (isolated.failed, isolated.error) == ([], None)
    assert isolated.scores.tobytes() == model.score(random_rows(1000)).tobytes()


def test_a_model_that_fails_on_its_golden_row_too_is_given_up_after_two_calls(model: Model) -> None:
    def always(rows: Floats) -> None:
        raise RuntimeError("out of order")

    session = Session(model, always)
    with pytest.raises(ModelFailed) as failed:
        score_isolated(replace(model, session=session), random_rows(MANY))
    assert session.calls == 2
    assert failed.value.error.described() == {
        "model": "quality/1",
        "features": "any: the model fails on its golden row too",
        "error": "out of order",
    }


def test_the_first_failing_row_is_described_in_short(model: Model) -> None:
    error = score_isolated(model, rows_with(4, 9, count=20)).error
    assert error is not None
    assert error.features == tuple(rows_with(4, count=20)[4].tolist())
    described = error.described()
    assert described["model"] == "quality/1"
    assert ", f1 1000, " in described["features"]
    assert "idx=1000" in described["error"]

    long = error._replace(message="a line\n" * 1000, features=(1 / 3,) * len(FEATURES)).described()
    for text in long.values():
        assert len(text) < 600
        assert "\n" not in text


def test_a_failing_row_is_not_printed_beside_the_log(
    model: Model, capfd: pytest.CaptureFixture[str]
) -> None:
    score_isolated(model, rows_with(4, count=20))
    assert capfd.readouterr().err == ""


def test_a_row_over_which_the_model_never_ends_costs_that_row_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.scoring.failing_rows._CALL_SECONDS", 0.1)
    monkeypatch.setattr("workers.scoring.failing_rows._SEARCH_SECONDS", 0.1)
    model = verify(add_model(tmp_path, endless_past(1000.0)))
    rows = random_rows(20)
    rows[7, 0] = 5000.0

    isolated = score_isolated(model, rows)
    assert isolated.failed == [7]
    assert isolated.error is not None
    assert isolated.error.message == "does not end: stopped after 0.1 s"
    others = np.setdiff1d(np.arange(20), [7])
    assert isolated.scores[others].tobytes() == model.score(rows[others]).tobytes()
