"""Candidate events as the codec hands them on, and closed requests as assembly hands them on."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from workers.ranking.refusal import RefusedCandidate
from workers.ranking.surface import Surface


class Event(NamedTuple):
    """One candidate event. Its valid candidates are columns of the same length.

    - `requested_at` is in milliseconds since the epoch.
    - `rows` are the features of all candidates, one row after the other: little-endian float32,
      one number for each name of the feature set.
    - `missing` counts the features that were not given, over all candidates. `unknown` counts
      those that the feature set does not have.
    """

    request_id: str
    surface: Surface
    user_id: str
    requested_at: int
    expected: int | None
    last: bool
    item_ids: list[str]
    sources: list[str | None]
    rows: bytes
    refused: tuple[RefusedCandidate, ...] = ()
    missing: int = 0
    unknown: int = 0


class Completion(StrEnum):
    """Why a request closed."""

    FULL = "full"
    MARKER = "marker"
    DEADLINE = "deadline"
    EVICTED = "evicted"


class Request(NamedTuple):
    """A closed request. Its candidates are columns of the same length.

    - `rows` are as in an Event, in the order of `item_ids`. `sources` are None if the surface has
      no rule on them.
    - `refused` counts the distinct refused candidates that are not among `item_ids`.
    - `first_offset` is the offset of its first event, `opened_at` the stream time (ms) before that
      event.
    """

    request_id: str
    surface: Surface
    user_id: str
    requested_at: int
    item_ids: tuple[str, ...]
    sources: tuple[str | None, ...] | None
    rows: bytes
    completion: Completion
    refused: int
    first_offset: int
    opened_at: int


def pick_rows(rows: bytes, row_bytes: int, indices: Iterable[int]) -> bytes:
    """The rows at these indices, joined. A row has `row_bytes` bytes."""
    return b"".join([rows[row_bytes * i : row_bytes * (i + 1)] for i in indices])
