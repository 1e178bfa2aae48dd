"""The goals, and how far each is reached.

A cost is judged by its ratio to the plain loop on single JSON, measured in the same turn: the
machine decides about the microseconds. A goal without a ratio is judged by its own figure.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Goal:
    """What a workload may cost: `most` or `least`, of a figure (a ratio, ms, MiB or a share).

    `is_compared`: whether the figure means the same on every machine, so that `make bench-check`
    compares it.
    """

    workload: str
    text: str
    most: float | None = None
    least: float | None = None
    is_compared: bool = False


@dataclass(frozen=True)
class Row:
    """A goal, what was measured as text, and the figure that is judged."""

    goal: Goal
    measured: str
    figure: float

    @property
    def is_reached(self) -> bool:
        """Whether the figure is within the goal."""
        if self.goal.most is not None and self.figure > self.goal.most:
            return False
        return self.goal.least is None or self.figure >= self.goal.least

    def as_json(self) -> dict[str, Any]:
        """As a row of the kept results."""
        return {
            "workload": self.goal.workload,
            "goal": self.goal.text,
            "measured": self.measured,
            "figure": self.figure,
            "is_reached": self.is_reached,
            "is_compared": self.goal.is_compared,
            "is_better_high": self.goal.least is not None,
        }

    def line(self) -> str:
        """As a line of the report."""
        verdict = "reached" if self.is_reached else "not reached"
        return (
            f"  {self.goal.workload:<58}{self.goal.text:<36}{self.measured:<34}"
            f"{self.figure:>8.2f}  {verdict}"
        )


def table_head() -> str:
    """The head of the lines."""
    return f"  {'workload':<58}{'goal':<36}{'measured':<34}{'judged':>8}"
