"""An experiment: which users are ranked under which arm's weights, by a published hash.

    bucket(user) = first 8 bytes of SHA-256(salt + ":" + user_id), as a big-endian number, modulo
    10,000

- The 10,000 buckets are cut into stretches of equal length, one for each arm, in the order of the
  arms' names by bytes.
- An arm has as many buckets as its share has hundredths of a percent. They are the first of its own
  stretch. If these are not enough, the lowest buckets that no arm has are added.
- Users in the other buckets are in `control`.

So the arm of a user depends only on the experiment. An arm that grows keeps its users, and up to
the end of its stretch takes new ones only from `control`. Assignments by two salts are independent.
schemas/golden/arms.json has test vectors.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

CONTROL = "control"
"""The arm of users who are in no other arm. It is ranked under the surface's own weights."""
SALT = "salt"
"""The field beside the arms."""
MAX_ARMS = 100
"""Without `control`. Each arm costs every worker a read at each poll."""

BUCKETS = 10_000
_ARM = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PERCENT = re.compile(r"(100|[0-9]{1,2})(\.[0-9]{1,2}0*)?")
CLUSTER_SALT = "cluster"
"""The salt of the hash that groups users when outcomes are counted."""
_MAX_SALT_BYTES = 256


class ExperimentRefused(ValueError):
    """An experiment that must not be applied. The message names the field, the value and what was
    expected.
    """


@dataclass(frozen=True)
class Experiment:
    """A valid experiment. Raises ExperimentRefused.

    `shares`: arm to its share in hundredths of a percent. `control` is not in it: it has the rest.
    """

    salt: str
    shares: Mapping[str, int]
    # The arm of each bucket.
    _arms: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _is_salt(self.salt):
            raise ExperimentRefused(
                f"{SALT}: got {self.salt[:80]!r}, expected 1 to {_MAX_SALT_BYTES} bytes of UTF-8"
            )
        if self.salt == CLUSTER_SALT:
            raise ExperimentRefused(
                f"{SALT}: got {self.salt!r}, expected another one: users are grouped by it when"
                " outcomes are counted, and such an arm would have some groups only"
            )
        if len(self.shares) > MAX_ARMS:
            raise ExperimentRefused(
                f"arms: got {len(self.shares)} of them, expected at most {MAX_ARMS}"
            )
        for arm, share in self.shares.items():
            check_arm_name(arm)
            if not 0 <= share <= BUCKETS:
                raise ExperimentRefused(f"{arm}: got {_as_percent(share)} %, expected 0 to 100")

        total = sum(self.shares.values())
        if total > BUCKETS:
            arms = ", ".join(self.shares)
            raise ExperimentRefused(
                f"{arms}: add up to {_as_percent(total)} %, expected at most 100"
            )
        # The class is frozen.
        object.__setattr__(self, "_arms", _arms_of_buckets(self.shares))

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> "Experiment":
        """Read the fields of the hash: a salt, and a percentage for each arm.

        `control` may be among them. It must then be the rest. Raises ExperimentRefused.
        """
        if SALT not in fields:
            raise ExperimentRefused(
                f"{SALT}: not given, expected a text that parts this experiment from others"
            )

        shares: dict[str, int] = {}
        for arm, percent in fields.items():
            if arm != SALT:
                shares[arm] = _read_share(arm, percent)
        control = shares.pop(CONTROL, None)

        experiment = cls(fields[SALT], shares)
        if control is not None and control != experiment.control_share:
            rest = _as_percent(experiment.control_share)
            raise ExperimentRefused(
                f"{CONTROL}: got {fields[CONTROL]!r}, expected the rest, {rest}, or none"
            )
        return experiment

    def fields(self) -> dict[str, str]:
        """The fields of the hash."""
        fields = {SALT: self.salt}
        for arm, share in self.shares.items():
            fields[arm] = _as_percent(share)
        return fields

    @property
    def control_share(self) -> int:
        """The share of `control`, in hundredths of a percent."""
        return BUCKETS - sum(self.shares.values())

    @property
    def running(self) -> tuple[str, ...]:
        """The arms that have users, without `control`."""
        return tuple(arm for arm, share in self.shares.items() if share > 0)

    def percent(self, arm: str) -> float:
        """The share of an arm or of `control`, in percent."""
        share = self.control_share if arm == CONTROL else self.shares[arm]
        return share / 100

    def percents(self) -> dict[str, float]:
        """The share of each arm in percent, without `control`."""
        return {arm: self.percent(arm) for arm in self.shares}

    def assign(self, user_id: str) -> str:
        """The user's arm."""
        digest = hashlib.sha256(f"{self.salt}:{user_id}".encode()).digest()
        return self._arms[int.from_bytes(digest[:8], "big") % BUCKETS]


def is_arm_name(name: str) -> bool:
    """Whether it can be the name of an arm with weights of its own."""
    return name not in (CONTROL, SALT) and _ARM.fullmatch(name) is not None


def check_arm_name(arm: str) -> None:
    """Raises ExperimentRefused if it cannot be the name of an arm with weights of its own."""
    if not is_arm_name(arm):
        expected = f"1 to 64 of A-Z, a-z, 0-9, _ and -, other than {CONTROL!r} and {SALT!r}"
        raise ExperimentRefused(f"arm: got {arm[:80]!r}, expected {expected}")


def _is_salt(salt: str) -> bool:
    try:
        return 0 < len(salt.encode()) <= _MAX_SALT_BYTES
    except UnicodeEncodeError:
        # Half of a surrogate pair. No user could be assigned by it.
        return False


def _read_share(arm: str, percent: str) -> int:
    """Percent as hundredths of a percent."""
    if not _PERCENT.fullmatch(percent) or Decimal(percent) > 100:
        raise ExperimentRefused(
            f"{arm[:80]}: got {percent[:80]!r}, expected 0 to 100 percent, in hundredths"
        )
    return int(Decimal(percent) * 100)


def _as_percent(share: int) -> str:
    return f"{share / 100:g}"


def _arms_of_buckets(shares: Mapping[str, int]) -> tuple[str, ...]:
    """The arm of each bucket."""
    buckets = [CONTROL] * BUCKETS
    # UTF-8 bytes sort as code points do, and so do Python's strings.
    arms = sorted(shares)

    # First each arm in its own stretch.
    outside: dict[str, int] = {}
    for place, arm in enumerate(arms):
        first = BUCKETS * place // len(arms)
        end = BUCKETS * (place + 1) // len(arms)
        inside = min(shares[arm], end - first)
        buckets[first : first + inside] = [arm] * inside
        outside[arm] = shares[arm] - inside

    # Then what does not fit into it, in the lowest buckets that are still free.
    bucket = 0
    for arm in arms:
        while outside[arm] > 0:
            if buckets[bucket] == CONTROL:
                buckets[bucket] = arm
                outside[arm] -= 1
            bucket += 1
    return tuple(buckets)
