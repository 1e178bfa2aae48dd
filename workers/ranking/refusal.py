"""Why an event, or one candidate of it, is refused.

Codes never change: producers may match on them.

A refused event goes to the dead letters with its original bytes. The fault is its producer's.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """Codes of the dead letter header `trimtab.reason`."""

    NULL_VALUE = "null-value"
    CONTENT_TYPE = "unknown-content-type"
    MALFORMED = "malformed"
    INVALID = "invalid-event"
    SURFACE = "unknown-surface"
    KEY = "key-mismatch"
    PARTITION = "partition-mismatch"
    FUTURE = "requested-in-future"
    CONFLICT = "conflict"
    LATE = "late"
    AT_FUTURE = "future"
    NO_FEED = "no-feed"
    NO_ITEM = "no-item"
    CANDIDATES = "refused-candidates"
    WORKER_ERROR = "worker-error"
    UNREADABLE = "unreadable-record"


class CandidateReason(StrEnum):
    """Codes with which `trimtab.message` names each refused candidate of an event."""

    SHAPE = "candidate-type"
    ITEM_ID = "item-id"
    SOURCE = "source"
    FEATURE_COUNT = "feature-count"
    FEATURE_TYPE = "feature-type"
    FEATURE_RANGE = "feature-not-finite"
    TOO_MANY = "too-many-candidates"


class EventRefused(Exception):
    """The whole event is refused: its envelope is wrong, or it came at the wrong time."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class CandidateRefused(Exception):
    """One candidate is refused. The other candidates of its event are not."""

    def __init__(self, reason: CandidateReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class RefusedCandidate(NamedTuple):
    """One refused candidate of an event. `position` is its place in the event's list.

    `identity` is what it is counted by, so that a producer's retry counts only once. It is the item
    id (str). If that cannot be read, it is a digest (bytes) of the event and the position.
    """

    position: int
    identity: str | bytes
    reason: CandidateReason
    message: str


_NAMED_IN_FULL = 20


def candidates_message(refused: Sequence[RefusedCandidate]) -> str:
    """Name each refused candidate. Those after the first 20 are named only by code and position, so
    that a header stays small.
    """
    parts = list[str]()
    for candidate in refused[:_NAMED_IN_FULL]:
        parts.append(f"candidates[{candidate.position}] {candidate.reason}: {candidate.message}")

    positions: dict[CandidateReason, list[int]] = {}
    for candidate in refused[_NAMED_IN_FULL:]:
        positions.setdefault(candidate.reason, []).append(candidate.position)
    for reason, of_reason in positions.items():
        parts.append(f"{reason} at candidates {_as_ranges(of_reason)}")
    return "; ".join(parts)


def _as_ranges(numbers: list[int]) -> str:
    """`[4, 5, 6, 9]` as `4-6, 9`."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
