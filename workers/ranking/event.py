"""A decoded candidate event: validated by the codec, taken by assembly."""

from typing import NamedTuple

from workers.ranking.refusal import RefusedCandidate
from workers.ranking.surface import Surface


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
