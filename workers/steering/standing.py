"""What one surface stands on, and the judgement of what Redis holds for it. Pure.

A set is taken whole or refused whole; a refused set and a missing one leave the weights as they are.
"""

import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum

from workers.ranking.weights import WeightRules, Weights, WeightsRefused
from workers.steering.connection import Denied

_REASON_LENGTH = 300


class Source(StrEnum):
    """Where the applied set came from."""

    REDIS = "redis"
    LAST_GOOD = "last-good"
    DEFAULT = "default"


@dataclass(frozen=True)
class Applied:
    """The set that is ranked under, where it came from and since when (milliseconds since the epoch)."""

    weights: Weights
    source: Source
    at: int


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
class Standing:
    """One surface: the set applied and what is refused now. `seen`, Redis's last reply, is not judged twice."""

    applied: Applied
    refused: Refused | None = None
    seen: object = field(default_factory=dict)

    def judge(self, reply: object, rules: WeightRules, now: int) -> "Standing":
        """Weigh Redis's reply to HGETALL (a mapping of bytes, or `Denied`) at `now` (milliseconds)."""
        if reply == self.seen:
            return self
        if reply == {}:
            return Standing(self.applied, None, reply)
        try:
            weights = rules.validate(_fields(reply))
        except WeightsRefused as refusal:
            return Standing(self.applied, Refused(str(refusal)[:_REASON_LENGTH], now, _digest(reply)), reply)
        if self.applied.source is Source.REDIS and weights == self.applied.weights:
            return Standing(self.applied, None, reply)
        return Standing(Applied(weights, Source.REDIS, now), None, reply)


def _fields(reply: object) -> dict[str, str]:
    if not isinstance(reply, dict):
        answer = reply.message if isinstance(reply, Denied) else repr(reply)
        raise WeightsRefused(f"Redis answers {answer!r}, expected a hash of one field an objective")
    return {_text(field, "field"): _text(value, repr(field)) for field, value in reply.items()}


def _text(raw: bytes, name: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise WeightsRefused(f"{name}: got {raw[:80]!r}, expected UTF-8") from None


def _digest(reply: object) -> str | None:
    if not isinstance(reply, dict):
        return None
    texts = {f.decode(errors="backslashreplace"): v.decode(errors="backslashreplace") for f, v in reply.items()}
    canonical = json.dumps(texts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
