"""An experiment: which share of users is ranked under which arm's weights, drawn by a published
hash.

    bucket(user) = first 8 bytes of SHA-256(salt + ":" + user_id), as a big-endian number, modulo
    10,000

The 10,000 buckets are cut into as many equal stretches as there are arms, one an arm in the order
of their names by bytes. An arm takes as many buckets as it has hundredths of a percent: the first
of its own stretch and, where these are not enough, the lowest that no arm has taken. Users in the
other buckets are in `control`. So the same user is in the same arm; a growing arm keeps its users,
and up to the end of its stretch takes new ones from `control` alone; and two salts draw
independently. schemas/golden/arms.json has test vectors.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

CONTROL = "control"
"""The arm of users who are in no other: ranked under the surface's own weights."""
SALT = "salt"
"""The field beside the arms."""
MAX_ARMS = 100
"""Beside `control`: each costs every worker a read at each poll."""

BUCKETS = 10_000
_ARM = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PERCENT = re.compile(r"(100|[0-9]{1,2})(\.[0-9]{1,2}0*)?")
_MOST_SALT = 256


class ExperimentRefused(ValueError):
    """An experiment that must not be applied: the message names the field, the value and what was
    expected.
    """


@dataclass(frozen=True)
class Experiment:
    """`shares`: arm to hundredths of a percent, without `control`, which has the rest. Raises
    ExperimentRefused.
    """

    salt: str
    shares: Mapping[str, int]
    _arms: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _is_salt(self.salt):
            raise ExperimentRefused(
                f"{SALT}: got {self.salt[:80]!r}, expected 1 to {_MOST_SALT} bytes of UTF-8"
            )
        if len(self.shares) > MAX_ARMS:
            raise ExperimentRefused(
                f"arms: got {len(self.shares)} of them, expected at most {MAX_ARMS}"
            )
        for arm, share in self.shares.items():
            check_arm_name(arm)
            if not 0 <= share <= BUCKETS:
                raise ExperimentRefused(f"{arm}: got {_percent(share)} %, expected 0 to 100")
        total = sum(self.shares.values())
        if total > BUCKETS:
            raise ExperimentRefused(
                f"{', '.join(self.shares)}: add up to {_percent(total)} %, expected at most 100"
            )
        object.__setattr__(self, "_arms", _laid_out(self.shares))

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> "Experiment":
        """From the fields of the hash: a salt, and a percentage for each arm. Raises
        ExperimentRefused.
        """
        if SALT not in fields:
            raise ExperimentRefused(
                f"{SALT}: not given, expected a text that parts this experiment from others"
            )
        shares = {arm: _share(arm, percent) for arm, percent in fields.items() if arm != SALT}
        control = shares.pop(CONTROL, None)
        experiment, rest = cls(fields[SALT], shares), BUCKETS - sum(shares.values())
        if control is not None and control != rest:
            raise ExperimentRefused(
                f"{CONTROL}: got {fields[CONTROL]!r}, expected the rest, {_percent(rest)}, or none"
            )
        return experiment

    def fields(self) -> dict[str, str]:
        """The fields of the hash."""
        return {SALT: self.salt} | {arm: _percent(share) for arm, share in self.shares.items()}

    @property
    def running(self) -> tuple[str, ...]:
        """The arms that have users."""
        return tuple(arm for arm, share in self.shares.items() if share)

    def percent(self, arm: str) -> float:
        """An arm's share, `control`'s too."""
        return (self.shares[arm] if arm != CONTROL else BUCKETS - sum(self.shares.values())) / 100

    def percents(self) -> dict[str, float]:
        """The share of each arm but `control`."""
        return {arm: self.percent(arm) for arm in self.shares}

    def assign(self, user_id: str) -> str:
        """The user's arm."""
        digest = hashlib.sha256(f"{self.salt}:{user_id}".encode()).digest()
        return self._arms[int.from_bytes(digest[:8], "big") % BUCKETS]


def is_arm_name(name: str) -> bool:
    """Whether it can be the name of an arm with weights of its own."""
    return name not in (CONTROL, SALT) and _ARM.fullmatch(name) is not None


def check_arm_name(arm: str) -> None:
    """Raises ExperimentRefused for what cannot be the name of an arm with weights of its own."""
    if not is_arm_name(arm):
        expected = f"1 to 64 of A-Z, a-z, 0-9, _ and -, other than {CONTROL!r} and {SALT!r}"
        raise ExperimentRefused(f"arm: got {arm[:80]!r}, expected {expected}")


def _is_salt(salt: str) -> bool:
    try:
        return 0 < len(salt.encode()) <= _MOST_SALT
    except UnicodeEncodeError:  # half of a surrogate pair: no user could be drawn
        return False


def _share(arm: str, percent: str) -> int:
    if not _PERCENT.fullmatch(percent) or Decimal(percent) > 100:
        raise ExperimentRefused(
            f"{arm[:80]}: got {percent[:80]!r}, expected 0 to 100 percent, in hundredths"
        )
    return int(Decimal(percent) * 100)


def _percent(share: int) -> str:
    return f"{share / 100:g}"


def _laid_out(shares: Mapping[str, int]) -> tuple[str, ...]:
    """The arm of each bucket."""
    # UTF-8 bytes sort as code points do, and so do Python's strings.
    arms, buckets = sorted(shares), [CONTROL] * BUCKETS
    beyond: dict[str, int] = {}
    for place, arm in enumerate(arms):
        first, end = BUCKETS * place // len(arms), BUCKETS * (place + 1) // len(arms)
        own = min(shares[arm], end - first)
        buckets[first : first + own] = [arm] * own
        beyond[arm] = shares[arm] - own
    for arm, count in beyond.items():
        if count:
            free = [bucket for bucket, taken in enumerate(buckets) if taken == CONTROL]
            for bucket in free[:count]:
                buckets[bucket] = arm
    return tuple(buckets)
