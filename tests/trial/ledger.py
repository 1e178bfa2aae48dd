"""Every content that the hash in Redis went through, and which sets were in force from when to
when. Pure.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.bench.rig import OBJECTIVES
from workers.ranking.weights import Weights

LOW, HIGH = 0.0, 1.0
DEFAULT = Weights.of(dict.fromkeys(OBJECTIVES, 0.5))


class Step(NamedTuple):
    """One content of the hash, and the moments before the command that made it and after its reply
    (ns).
    """

    sent: int
    returned: int
    content: Mapping[str, str]


class Era(NamedTuple):
    """One valid set: when it was sent and was there; when the hash held something else, and when
    that was valid; ns.

    A set that is followed at once by what workers refuse need never be seen: the one before it goes
    on.
    """

    version: str
    sent: int
    returned: int
    ended: int | None = None
    replaced: int | None = None


@dataclass
class Ledger:
    """What the hash holds now, and all it has held."""

    steps: list[Step] = field(default_factory=list)

    @property
    def content(self) -> Mapping[str, str]:
        """The fields as they are now."""
        return self.steps[-1].content if self.steps else {}

    @property
    def in_force(self) -> str:
        """The version of the last valid set."""
        return self.eras()[-1].version

    def note(self, sent: int, returned: int, content: Mapping[str, str]) -> None:
        """The hash holds `content` now."""
        self.steps.append(Step(sent, returned, dict(content)))

    def eras(self) -> list[Era]:
        """The sets that were valid, in order; the default goes first."""
        found = [Era(DEFAULT.version, 0, 0)]
        for step in self.steps:
            version, last = version_of(step.content), found[-1]
            if version == last.version:
                continue
            ended = last.ended or step.returned
            found[-1] = last._replace(ended=ended, replaced=step.returned if version else None)
            if version is not None:
                found.append(Era(version, step.sent, step.returned))
        return found


def version_of(content: Mapping[str, str]) -> str | None:
    """The version of a whole set; None for one that workers must refuse. Judged apart from the
    workers' own rules.
    """
    try:
        values = {objective: float(text) for objective, text in content.items()}
    except ValueError:
        return None
    if values.keys() != set(OBJECTIVES) or not all(_in_bounds(value) for value in values.values()):
        return None
    return Weights.of({objective: values[objective] for objective in OBJECTIVES}).version


def _in_bounds(value: float) -> bool:
    return math.isfinite(value) and LOW <= value <= HIGH
