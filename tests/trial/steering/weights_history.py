"""Every content that the hash in Redis had, and which sets of weights were valid from when to when.
Pure.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.rig.environment import OBJECTIVES
from tests.rig.judge import weights_version

LOW = 0.0
HIGH = 1.0
DEFAULT_VERSION = weights_version(dict.fromkeys(OBJECTIVES, 0.5))


class Write(NamedTuple):
    """A content of the hash, and the moments before the command that made it and after its reply
    (ns).
    """

    sent: int
    returned: int
    content: Mapping[str, str]


class Period(NamedTuple):
    """The time in which one valid set was in force; moments in ns.

    `sent` and `returned` are of the write that made it. `ended` is when the hash held something
    else, `replaced` is when that was valid. If what workers refuse follows at once, they need never
    see the set: the one before it goes on.
    """

    version: str
    sent: int
    returned: int
    ended: int | None = None
    replaced: int | None = None


@dataclass
class WeightsHistory:
    """What the hash holds now, and all that it has held."""

    writes: list[Write] = field(default_factory=list)

    @property
    def content(self) -> Mapping[str, str]:
        """The fields as they are now."""
        return self.writes[-1].content if self.writes else {}

    @property
    def version_in_force(self) -> str:
        """The version of the last valid set."""
        return self.periods()[-1].version

    def add(self, sent: int, returned: int, content: Mapping[str, str]) -> None:
        """The hash holds `content` now."""
        self.writes.append(Write(sent, returned, dict(content)))

    def periods(self) -> list[Period]:
        """The sets that were valid, in order. The default is the first."""
        periods = [Period(DEFAULT_VERSION, 0, 0)]
        for write in self.writes:
            version = version_of(write.content)
            last = periods[-1]
            if version == last.version:
                continue
            periods[-1] = last._replace(
                ended=last.ended or write.returned,
                replaced=write.returned if version else None,
            )
            if version is not None:
                periods.append(Period(version, write.sent, write.returned))
        return periods


def version_of(content: Mapping[str, str]) -> str | None:
    """The version of a whole set. None for one that workers must refuse. Judged apart from the
    workers' own rules.
    """
    try:
        values = {objective: float(text) for objective, text in content.items()}
    except ValueError:
        return None
    if values.keys() != set(OBJECTIVES):
        return None
    if not all(math.isfinite(value) and LOW <= value <= HIGH for value in values.values()):
        return None
    return weights_version(values)
