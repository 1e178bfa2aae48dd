"""Weights: the numbers that steer the mix, validated as a whole and versioned by their content.

This is the only place that judges a set of weights, for workers and for tools.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")

# A weight of this size times the largest float32 is still far from float64's overflow.
_LIMIT = 1e12


class WeightsRefused(ValueError):
    """A set that must not be applied. The message names the field, the value and what was
    expected.
    """


@dataclass(frozen=True)
class Weights:
    """One immutable set: objective to weight, in the surface's order of objectives.

    `version` is the first 12 hex digits of SHA-256 over the canonical set. That is a JSON object
    with sorted keys, no spaces, and each weight in the shortest form that reads back as the same
    float64. So it is the same on every worker.
    """

    values: Mapping[str, float]
    version: str

    @classmethod
    def of(cls, values: Mapping[str, float]) -> "Weights":
        """A set with its version. Raises WeightsRefused if a weight is not finite."""
        canonical: dict[str, float] = {}
        for objective, value in values.items():
            if not math.isfinite(value):
                raise WeightsRefused(f"{objective}: got {value!r}, expected a finite number")
            # Adding 0.0 turns -0.0 into 0.0: equal sets have equal versions.
            canonical[objective] = float(value) + 0.0

        text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
        return cls(canonical, hashlib.sha256(text.encode()).hexdigest()[:12])


@dataclass(frozen=True)
class WeightRules:
    """What makes a set valid on a surface: its objectives in order, with defaults and bounds.

    `added` are further objectives that may be weighted. They follow the others, in this order, and
    are in a set only if it names them.

    Raises ValueError if a default is missing, unknown or outside its bounds.
    """

    defaults: Mapping[str, float]
    bounds: Mapping[str, tuple[float, float]]
    added: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for objective in self.bounds:
            if objective not in self.defaults:
                raise ValueError(f"weight_bounds.{objective}: not an objective of this surface")
        for objective, (low, high) in self.bounds.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ValueError(
                    f"weight_bounds.{objective}: got [{low}, {high}], expected finite [low, high]"
                )
        for objective, value in self.defaults.items():
            try:
                self._check_bounds(objective, value)
            except WeightsRefused as refused:
                raise ValueError(f"weights.{refused}") from None

    def default(self) -> Weights:
        """The surface's own set."""
        return Weights.of(self.defaults)

    def with_added(self, objectives: tuple[str, ...]) -> "WeightRules":
        """These rules, with other `added` objectives."""
        return self if objectives == self.added else replace(self, added=objectives)

    def validate(self, fields: Mapping[str, str | float]) -> Weights:
        """Judge a set as a whole. A missing field takes its default. Raises WeightsRefused."""
        for objective in sorted(fields):
            if objective not in self.defaults and objective not in self.added:
                known = ", ".join([*self.defaults, *self.added])
                raise WeightsRefused(
                    f"{objective}: not an objective of this surface, expected one of: {known}"
                )

        values = dict(self.defaults)
        for objective in (*self.defaults, *self.added):
            if objective in fields:
                values[objective] = self._read_weight(objective, fields[objective])
        return Weights.of(values)

    def _read_weight(self, objective: str, raw: str | float) -> float:
        if isinstance(raw, str) and not _NUMBER.fullmatch(raw):
            raise WeightsRefused(
                f"{objective}: got {raw[:80]!r}, expected a finite number such as 0.7"
            )
        value = float(raw)
        self._check_bounds(objective, value)
        return value

    def _check_bounds(self, objective: str, value: float) -> None:
        low, high = self.bounds.get(objective, (-_LIMIT, _LIMIT))
        if not math.isfinite(value):
            raise WeightsRefused(f"{objective}: got {value!r}, expected a finite number")
        if not low <= value <= high:
            raise WeightsRefused(f"{objective}: got {value!r}, expected {low!r} to {high!r}")
