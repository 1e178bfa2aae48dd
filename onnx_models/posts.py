"""Reads posts from a CSV file, for training, for candidate events and for the demo.

The file has real data. So the reader accepts a value whose meaning is clear: line breaks inside
quoted titles, a byte-order mark, an empty count, a count below zero. For any other value it raises
an error with its line, column and text.
"""

import csv
import gzip
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REQUIRED_COLUMNS = ("surface", "item_id", "created_utc", "domain", "title")
MAX_FIELD_CHARS = 16 * 1024 * 1024
MAX_ID_BYTES = 256
MAX_TIME = 253_402_300_799
"""The last second of the year 9999. Later times have no date in Python's calendar."""

_TRUE = frozenset({"1", "true", "yes"})
_FALSE = frozenset({"", "0", "false", "no"})


class PostError(ValueError):
    """The CSV file is not valid. The message names file, line, column, value, and what was
    expected.
    """


@dataclass(frozen=True, slots=True)
class Post:
    """One post. `created` is in seconds since the epoch, UTC.

    `ups`, `downs` and `comments` are outcomes: targets of the training, never features. Raises
    PostError if an id or the time is out of range.
    """

    community: str
    item_id: str
    title: str
    domain: str
    created: int
    is_self: bool = False
    selftext_chars: int = 0
    ups: int = 0
    downs: int = 0
    comments: int = 0

    def __post_init__(self) -> None:
        for column, text in (("item_id", self.item_id), ("surface", self.community)):
            if not 1 <= len(text.encode()) <= MAX_ID_BYTES:
                raise PostError(
                    f"{column} {text[:40]!r}: expected 1 to {MAX_ID_BYTES} bytes of UTF-8"
                )
        if not 0 <= self.created <= MAX_TIME:
            raise PostError(f"created_utc {self.created}: expected seconds since the epoch")


def read_posts(path: str | Path) -> Iterator[Post]:
    """Yield the posts of a CSV file in the order of the file. The file may be gzipped, whatever its
    name.

    Columns are found by name. Those that are not in REQUIRED_COLUMNS may be missing. Raises
    PostError if the file or a row is not valid, and OSError if the file cannot be opened.
    """
    with _open_text(Path(path)) as lines:
        csv.field_size_limit(MAX_FIELD_CHARS)
        rows = csv.DictReader(lines)
        try:
            _check_header(path, rows.fieldnames or ())
            for row in rows:
                yield _post(path, rows.line_num, row)
        except (csv.Error, EOFError, gzip.BadGzipFile) as error:
            raise PostError(
                f"{path}, line {rows.line_num}: not readable as CSV: {error}"
            ) from error


@contextmanager
def _open_text(path: Path) -> Iterator[io.TextIOWrapper]:
    with path.open("rb") as file:
        is_gzipped = file.peek(2)[:2] == b"\x1f\x8b"
        raw = gzip.GzipFile(fileobj=file) if is_gzipped else file
        yield io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="")


def _check_header(path: str | Path, columns: Sequence[str]) -> None:
    missing = [column for column in REQUIRED_COLUMNS if column not in columns]
    if missing:
        raise PostError(
            f"{path}, line 1: no column {', '.join(missing)}; "
            f"expected at least {', '.join(REQUIRED_COLUMNS)}"
        )


def _post(path: str | Path, line: int, row: dict[str, str | None]) -> Post:
    # A short row has None for its last columns. A long one has its extra values in a list.
    cells: dict[str, str] = {}
    for column, value in row.items():
        if value is None:
            cells[column] = ""
        elif isinstance(value, str):
            cells[column] = value

    try:
        return Post(
            community=cells["surface"].strip(),
            item_id=cells["item_id"].strip(),
            title=cells["title"],
            domain=cells["domain"].strip().lower(),
            created=_number(cells, "created_utc"),
            is_self=_flag(cells, "is_self"),
            selftext_chars=_count(cells, "selftext_chars"),
            ups=_count(cells, "ups"),
            downs=_count(cells, "downs"),
            comments=_count(cells, "num_comments"),
        )
    except PostError as error:
        raise PostError(f"{path}, line {line}: {error}") from None


def _number(cells: dict[str, str], column: str) -> int:
    try:
        number = float(cells[column])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise PostError(f"{column} {cells[column][:40]!r}: expected a number")
    return int(number)


def _count(cells: dict[str, str], column: str) -> int:
    """A missing or empty count is 0. So is a count below 0, because the site's counters drifted."""
    if not cells.get(column, "").strip():
        return 0
    return max(0, _number(cells, column))


def _flag(cells: dict[str, str], column: str) -> bool:
    text = cells.get(column, "").strip().lower()
    if text not in _TRUE | _FALSE:
        raise PostError(f"{column} {text[:40]!r}: expected 0 or 1")
    return text in _TRUE
