"""Why an event, or one candidate of it, is refused. Every code is stable: producers may match on
it.

`EventRefused` means the producer is at fault: the event goes to the dead letters with its original
bytes.
"""

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
    """The whole event is refused: its envelope is wrong, or it comes at the wrong time."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class CandidateRefused(Exception):
    """One candidate is refused; its siblings are not."""

    def __init__(self, reason: CandidateReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class RefusedCandidate(NamedTuple):
    """One refused candidate of an event.

    `identity` is what it counts once by: its item id (str), or, where that cannot be read, a digest
    of the event and its place (bytes), so that a producer's retry changes nothing.
    """

    position: int
    identity: str | bytes
    reason: CandidateReason
    message: str


_NAMED_IN_FULL = 20


def candidates_message(refused: list[RefusedCandidate]) -> str:
    """Name each refused candidate; past the first twenty by code and place only, so that a header
    stays small.
    """
    full = [f"candidates[{r.position}] {r.reason}: {r.message}" for r in refused[:_NAMED_IN_FULL]]
    rest: dict[CandidateReason, list[int]] = {}
    for candidate in refused[_NAMED_IN_FULL:]:
        rest.setdefault(candidate.reason, []).append(candidate.position)
    return "; ".join(
        full + [f"{reason} at candidates {_spans(places)}" for reason, places in rest.items()]
    )


def _spans(places: list[int]) -> str:
    """`[4, 5, 6, 9]` as `4-6, 9`."""
    spans: list[list[int]] = []
    for place in sorted(places):
        if spans and place == spans[-1][1] + 1:
            spans[-1][1] = place
        else:
            spans.append([place, place])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
