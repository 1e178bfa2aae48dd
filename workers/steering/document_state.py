"""What one document stands on, and the judgement of what Redis holds for it. Pure.

A document (a set of weights, an experiment) is taken whole or refused whole; a refused one and a
missing one leave things as they are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Generic, TypeVar

from workers.ranking.experiment import ExperimentRefused
from workers.ranking.pins import PinsRefused
from workers.ranking.weights import WeightsRefused
from workers.steering.content import NoContent, digest_of, texts_of

T = TypeVar("T")

REFUSALS = (WeightsRefused, ExperimentRefused, PinsRefused, NoContent)
"""What a document is refused by."""

_REASON_LENGTH = 300


class Source(StrEnum):
    """Where the applied document came from."""

    REDIS = "redis"
    LAST_GOOD = "last-good"
    DEFAULT = "default"


@dataclass(frozen=True)
class Applied(Generic[T]):
    """What is in force, where it came from and since when (milliseconds since the epoch).

    `push_ms`: milliseconds from Redis's push to when it was applied; None where no push brought it.
    """

    value: T
    source: Source
    at: int
    push_ms: float | None = None


@dataclass(frozen=True)
class Refused:
    """The content that Redis holds and that is not applied; `at` in milliseconds since the epoch.

    `content`: the first 12 hex digits of SHA-256 over the hash as a JSON object of strings (sorted keys, no spaces,
    ASCII, bytes outside UTF-8 as \\xNN); None where the key holds no hash.
    """

    reason: str
    at: int
    content: str | None


@dataclass(frozen=True)
class Moment:
    """When a reply is judged: `now` in milliseconds since the epoch, `push_ms` since the push that
    led to it.
    """

    now: int
    push_ms: float | None = None


@dataclass(frozen=True)
class DocumentState(Generic[T]):
    """One document: what is applied, if anything is, and what is refused now. `seen` is what was
    last judged.
    """

    applied: Applied[T] | None = None
    refused: Refused | None = None
    seen: object = None

    def judge(
        self,
        reply: object,
        read: Callable[[Mapping[str, str]], T],
        moment: Moment,
        beside: object = None,
    ) -> "DocumentState[T]":
        """Weigh Redis's reply to HGETALL (a mapping of bytes, or `Denied`); the same one is not
        weighed twice.

        `read` makes the value of the hash's fields, or refuses it; `beside` is what else its
        judgement depends on.
        """
        seen = reply, beside
        if seen == self.seen:
            return self
        if reply == {}:
            return DocumentState(self.applied, None, seen)
        try:
            value = read(texts_of(reply))
        except REFUSALS as refusal:
            return DocumentState(
                self.applied, self._refusal(str(refusal), digest_of(reply), moment), seen
            )
        if (
            self.applied is not None
            and self.applied.source is Source.REDIS
            and value == self.applied.value
        ):
            return DocumentState(self.applied, None, seen)
        return DocumentState(Applied(value, Source.REDIS, moment.now, moment.push_ms), None, seen)

    def _refusal(self, reason: str, content: str | None, moment: Moment) -> Refused:
        """The refusal that stands already, where the same content is refused for the same reason."""
        refused = Refused(reason[:_REASON_LENGTH], moment.now, content)
        stands = self.refused
        return stands if stands and replace(stands, at=moment.now) == refused else refused
