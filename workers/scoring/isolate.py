"""Scoring that a failing model does not end: the rows that it fails on are found, and every other
keeps its score.

A verified model may still fail on a row that verification never saw, such as a category past the
end of a table.

- While no call fails, this costs nothing.
- If a call fails, the model first scores its golden row. A model that fails on that too fails
  altogether, and is given up at once.
- Otherwise the rows are halved until the failing ones are found; up to 16 rows are tried one by
  one. One failing row among 8,192 costs 36 calls. If every row fails, that is a call a row, and at
  most one more for 4 rows: measured, 0.3 s for 8,192 rows.
- A row's score does not depend on the rows beside it (model.py), so the others have the same bytes
  as ever.
- A call that does not end within 5 s is stopped and has failed. While its rows are searched, 1 s is
  enough: a call that is only slow ends in time once it has fewer rows.
"""

from typing import NamedTuple

import numpy as np

from workers.scoring.manifest import Manifest
from workers.scoring.model import Matrix, Model, RunFailed

_ONE_BY_ONE = 16  # a call that fails costs as much as six that do not
_SHOWN = 500
_CALL_SECONDS = 5.0
_SEARCH_SECONDS = 1.0


class ModelError(NamedTuple):
    """How a model failed: on these features first, or altogether (`features` is None)."""

    model: Manifest
    features: tuple[float, ...] | None
    message: str

    def described(self) -> dict[str, str]:
        """For the log, at most some hundred characters each."""
        name = f"{self.model.objective}/{self.model.version}"
        if self.features is None:
            shown = "any: the model fails on its golden row too"
        else:
            named = zip(self.model.features, self.features, strict=True)
            shown = ", ".join(f"{feature} {value:g}" for feature, value in named)
        return {"model": name, "features": _shortened(shown), "error": _shortened(self.message)}


class ModelFailed(Exception):
    """A model fails altogether: on its golden row, too."""

    def __init__(self, error: ModelError) -> None:
        super().__init__(error.message)
        self.error = error


class Isolated(NamedTuple):
    """Scores `[N]`, NaN for the rows that the model failed on; `failed` has their places, `error`
    is of the first.
    """

    scores: Matrix
    failed: list[int]
    error: ModelError | None


def score_isolated(model: Model, matrix: Matrix) -> Isolated:
    """Score rows, float32 `[N, features]`, each as if it were alone. Raises ModelFailed."""
    try:
        return Isolated(model.score(matrix, _CALL_SECONDS), [], None)
    except RunFailed as failed:
        error = str(failed)
    _check_golden_row(model)
    search = _Search(model, matrix)
    search.narrow(0, len(matrix), error)
    return Isolated(search.scores, search.failed, search.error)


def _check_golden_row(model: Model) -> None:
    golden = np.array([model.manifest.golden[0].features], np.float32)
    try:
        model.score(golden, _SEARCH_SECONDS)
    except RunFailed as failed:
        raise ModelFailed(ModelError(model.manifest, None, str(failed))) from failed


class _Search:
    """The search for the failing rows of one matrix."""

    def __init__(self, model: Model, matrix: Matrix) -> None:
        self._model, self._matrix = model, matrix
        self.scores = np.full(len(matrix), np.nan, np.float32)
        self.failed: list[int] = []
        self.error: ModelError | None = None

    def narrow(self, start: int, end: int, error: str) -> None:
        """Find the failing rows among those that failed together, with `error`."""
        if end - start == 1:
            self.failed.append(start)
            if self.error is None:
                features = tuple(self._matrix[start].tolist())
                self.error = ModelError(self._model.manifest, features, error)
            return
        half = 1 if end - start <= _ONE_BY_ONE else (end - start + 1) // 2
        size = min(half, self._model.rows_per_call)
        for begin in range(start, end, size):
            self._try(begin, min(begin + size, end))

    def _try(self, start: int, end: int) -> None:
        try:
            self.scores[start:end] = self._model.score(self._matrix[start:end], _SEARCH_SECONDS)
        except RunFailed as failed:
            error = str(failed)
        else:
            return
        self.narrow(start, end, error)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
