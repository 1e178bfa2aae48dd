"""A closed request: everything that ranking needs to know of it."""

from enum import StrEnum
from typing import NamedTuple

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
