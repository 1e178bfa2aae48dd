"""Posts as they stand in a CSV file: the only reader of that file, for training, events and the
demo.

The file is real, so the reader is forgiving where a value has an obvious reading (line breaks
inside quoted titles, a byte-order mark, an empty count, a count below zero) and names line, column
and value where it has none.
"""

import csv
import gzip
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REQUIRED = ("surface", "item_id", "created_utc", "domain", "title")
LONGEST_FIELD = 16 * 1024 * 1024
LONGEST_ID_BYTES = 256
LATEST_TIME = (
    253_402_300_799  # the last second of the year 9999, beyond which no calendar reads a time
)
TRUE, FALSE = frozenset({"1", "true", "yes"}), frozenset({"", "0", "false", "no"})


class PostError(ValueError):
    """The CSV file is at fault; the message names the file, line, column, value and what was
    expected.
    """


@dataclass(frozen=True, slots=True)
class Post:
    """One post. `ups`, `downs` and `comments` are outcomes: training's targets, never a feature."""

    community: str
    item_id: str
    title: str
    domain: str
    created: int  # seconds since the epoch, UTC
    is_self: bool = False
    selftext_chars: int = 0
    ups: int = 0
    downs: int = 0
    comments: int = 0

    def __post_init__(self) -> None:
        for column, text in (("item_id", self.item_id), ("surface", self.community)):
            if not 1 <= len(text.encode()) <= LONGEST_ID_BYTES:
                raise PostError(
                    f"{column} {text[:40]!r}: expected 1 to {LONGEST_ID_BYTES} bytes of UTF-8"
                )
        if not 0 <= self.created <= LATEST_TIME:
            raise PostError(f"created_utc {self.created}: expected seconds since the epoch")


def read_posts(path: str | Path) -> Iterator[Post]:
    """Yield the posts of a `.csv` or gzipped CSV file (told by its first bytes) in the order of the
    file.

    Columns are found by name; votes, comments and the columns of text posts may be absent. Raises
    PostError for a file or row that cannot be read, OSError where the file cannot be opened.
    """
    with _text(Path(path)) as lines:
        csv.field_size_limit(LONGEST_FIELD)
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
def _text(path: Path) -> Iterator[io.TextIOWrapper]:
    with path.open("rb") as file:
        zipped = file.peek(2)[:2] == b"\x1f\x8b"
        raw = gzip.GzipFile(fileobj=file) if zipped else file
        yield io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="")


def _check_header(path: str | Path, names: Sequence[str]) -> None:
    missing = [column for column in REQUIRED if column not in names]
    if missing:
        raise PostError(
            f"{path}, line 1: no column {', '.join(missing)}; expected at least {', '.join(REQUIRED)}"
        )


def _post(path: str | Path, line: int, row: dict[str, str | None]) -> Post:
    text = {column: value or "" for column, value in row.items() if isinstance(value, str | None)}
    try:
        return Post(
            community=text["surface"].strip(),
            item_id=text["item_id"].strip(),
            title=text["title"],
            domain=text["domain"].strip().lower(),
            created=_number(text, "created_utc"),
            is_self=_flag(text, "is_self"),
            selftext_chars=_count(text, "selftext_chars"),
            ups=_count(text, "ups"),
            downs=_count(text, "downs"),
            comments=_count(text, "num_comments"),
        )
    except PostError as error:
        raise PostError(f"{path}, line {line}: {error}") from None


def _number(text: dict[str, str], column: str) -> int:
    try:
        number = float(text[column])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise PostError(f"{column} {text[column][:40]!r}: expected a number")
    return int(number)


def _count(text: dict[str, str], column: str) -> int:
    """An absent count is 0, and so is one below 0: the site's own counters drifted."""
    return max(0, _number(text, column)) if text.get(column, "").strip() else 0


def _flag(text: dict[str, str], column: str) -> bool:
    word = text.get(column, "").strip().lower()
    if word not in TRUE | FALSE:
        raise PostError(f"{column} {word[:40]!r}: expected 0 or 1")
    return word in TRUE
