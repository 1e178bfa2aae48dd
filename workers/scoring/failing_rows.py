"""Scores rows, and finds those that make the model fail. The others keep their scores.

A verified model may still fail on a row that verification never saw, such as a category past the
end of a table.

- As long as no call fails, this costs nothing.
- If a call fails, the model first scores its golden row. If it fails on that, too, it fails on
  every row: ModelFailed.
- Otherwise the rows are halved until the failing ones are found. Up to 16 rows are tried one by
  one. One failing row among 8,192 costs 45 calls. Without it there are eight. If every row fails,
  that is one call for each row, and at most one more for 4 rows: measured, 0.3 s for 8,192 rows.
- A row's score does not depend on the rows beside it (model.py), so the others get the same bytes
  as always.
- A call that does not end within 5 s is stopped and has failed. During the search 1 s is enough: a
  call that is only slow ends in time once it has fewer rows.
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
    """How a model failed. `features` is the first row that it failed on, None if it fails on every
    row.
    """

    model: Manifest
    features: tuple[float, ...] | None
    message: str

    def described(self) -> dict[str, str]:
        """For the log: a few hundred characters each at most."""
        name = f"{self.model.objective}/{self.model.version}"
        if self.features is None:
            features = "any: the model fails on its golden row too"
        else:
            values = zip(self.model.features, self.features, strict=True)
            features = ", ".join(f"{feature} {value:g}" for feature, value in values)
        return {
            "model": name,
            "features": _shortened(features),
            "error": _shortened(self.message),
        }


class ModelFailed(Exception):
    """A model fails on every row, even on its golden row."""

    def __init__(self, error: ModelError) -> None:
        super().__init__(error.message)
        self.error = error


class Isolated(NamedTuple):
    """Scores `[N]`, with NaN for the rows that the model failed on.

    `failed` has the indices of these rows. `error` is that of the first one.
    """

    scores: Matrix
    failed: list[int]
    error: ModelError | None


def score_isolated(model: Model, matrix: Matrix) -> Isolated:
    """Score rows, float32 `[N, features]`, each as if it were alone. Raises ModelFailed."""
    try:
        return Isolated(model.score(matrix, _CALL_SECONDS), [], None)
    except RunFailed as failed:
        message = str(failed)

    golden = np.array([model.manifest.golden[0].features], np.float32)
    try:
        model.score(golden, _SEARCH_SECONDS)
    except RunFailed as failed:
        error = ModelError(model.manifest, features=None, message=str(failed))
        raise ModelFailed(error) from failed

    search = _Search(model, matrix)
    search.narrow(0, len(matrix), message)
    return Isolated(search.scores, search.failed, search.error)


class _Search:
    """The search for the failing rows of one matrix."""

    def __init__(self, model: Model, matrix: Matrix) -> None:
        self._model = model
        self._matrix = matrix
        self.scores = np.full(len(matrix), np.nan, np.float32)
        self.failed: list[int] = []
        self.error: ModelError | None = None

    def narrow(self, start: int, end: int, message: str) -> None:
        """Find the failing rows in a range that failed as a whole, with this message."""
        count = end - start
        if count == 1:
            self.failed.append(start)
            if self.error is None:
                features = tuple(self._matrix[start].tolist())
                self.error = ModelError(self._model.manifest, features, message)
            return

        half = 1 if count <= _ONE_BY_ONE else (count + 1) // 2
        size = min(half, self._model.rows_per_call)
        for begin in range(start, end, size):
            rows = slice(begin, min(begin + size, end))
            try:
                self.scores[rows] = self._model.score(self._matrix[rows], _SEARCH_SECONDS)
                continue
            except RunFailed as failed:
                message = str(failed)
            # Outside of the handler, so that the errors of a deep search do not pile up.
            self.narrow(rows.start, rows.stop, message)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
