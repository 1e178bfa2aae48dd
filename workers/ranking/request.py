"""Candidate events as the codec validates them, and closed requests as assembly hands them on."""

from enum import StrEnum
from typing import NamedTuple

from workers.ranking.refusal import RefusedCandidate
from workers.ranking.surface import Surface


class Completion(StrEnum):
    """Why a request closed."""

    FULL = "full"
    MARKER = "marker"
    DEADLINE = "deadline"
    EVICTED = "evicted"


class Request(NamedTuple):
    """A closed request. `rows` holds the candidates' features one after the other, in the order of
    `item_ids`.

    `refused` counts the distinct refused candidates that are not among `item_ids`. `first_offset`
    is where its first event stands in the partition, `opened_at` the stream time (ms) before that
    event.
    """

    request_id: str
    surface: Surface
    user_id: str
    requested_at: int
    item_ids: tuple[str, ...]
    sources: tuple[str | None, ...]
    rows: bytes
    completion: Completion
    refused: int
    first_offset: int
    opened_at: int


class Candidate(NamedTuple):
    """One sound candidate. `row` is its features: little-endian float32, one for each name of the
    feature set.
    """

    item_id: str
    source: str | None
    row: bytes


class Event(NamedTuple):
    """One candidate event. `requested_at` is in milliseconds since the epoch.

    `missing` and `unknown` count feature names that were not given, or that the feature set does
    not have.
    """

    request_id: str
    surface: Surface
    user_id: str
    requested_at: int
    expected: int | None
    last: bool
    candidates: list[Candidate]
    refused: list[RefusedCandidate]
    missing: int = 0
    unknown: int = 0
