"""The rows that golden rows are taken from: real ones of a CSV file, else drawn by a seed."""

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from workers.codec.text_files import NotUtf8, check_encoding
from workers.ranking.features import FLOAT32_MAX, FeatureSet
from workers.scoring.model import Matrix
from workers.settings import ConfigurationError

ROWS = 512
_ROWS_READ = 100_000
_SCALES = (0.1, 1.0, 10.0, 100.0)


def read_rows(path: Path, features: Sequence[str]) -> Matrix:
    """The features' columns of a CSV file, by the names in its first line: float32 `[N, features]`.

    Other columns are ignored, and rows past the first 100,000. Raises ConfigurationError naming
    line, column and value.
    """
    try:
        with path.open("rb") as start:
            check_encoding(start.read(4))
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = np.array(
                list(islice(_numbers(path, csv.DictReader(file), features), _ROWS_READ)), np.float32
            )
    except (OSError, NotUtf8, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    if not len(rows):
        raise ConfigurationError(
            f"{path}: got no row, expected at least 2, so that the model can tell them apart"
        )
    distinct: Matrix = np.unique(rows, axis=0)
    return distinct


def _numbers(
    path: Path, rows: "csv.DictReader[str]", features: Sequence[str]
) -> Iterator[list[float]]:
    missing = [name for name in features if name not in (rows.fieldnames or ())]
    if missing:
        raise ConfigurationError(
            f"{path}: line 1: got no column {missing[0]!r}, expected a column for each feature"
        )
    for row in rows:
        yield [_number(f"{path}: line {rows.line_num}: {name}", row[name]) for name in features]


def _number(where: str, text: str | None) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = float("nan")
    if not abs(number) <= FLOAT32_MAX:
        raise ConfigurationError(
            f"{where}: got {(text or '')[:80]!r}, expected a finite float32 number"
        )
    return number


def draw_rows(features: Sequence[str], feature_set: FeatureSet | None, seed: int) -> Matrix:
    """Rows drawn by a seed: float32 `[512, features]`.

    A feature that the set bounds is drawn evenly between its bounds. Any other is normal around its
    default, by row in one of four scales from 0.1 to 100: where a model bends is not known.
    """
    random = np.random.default_rng(seed)
    rows = random.normal(size=(ROWS, len(features))) * np.resize(_SCALES, ROWS)[:, None]
    for column, name in enumerate(features):
        if feature_set is not None and name in feature_set.bounds:
            low, high = feature_set.bounds[name]
            rows[:, column] = random.uniform(low, high, ROWS)
        elif feature_set is not None:
            rows[:, column] += feature_set.defaults.get(name, 0.0)
    drawn: Matrix = rows.astype(np.float32)
    return drawn
